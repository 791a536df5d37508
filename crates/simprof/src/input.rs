//! Standard input of the target: the same bytes for every process.
//!
//! What simprof gets as standard input is copied to the folder of the run, so that each process reads it from the
//! beginning. A terminal is not passed on: a person would have to type the same text for every process.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use simprof_model::{Notice, NoticeId};
use simprof_record::Cancel;

use crate::console::message;
use crate::exit::UsageError;

/// File name of the copy in the folder of the run.
const COPY: &str = "input";
/// Largest input that is copied, bytes.
const LIMIT_BYTES: u64 = 256 << 20;
/// How long to wait for the first byte from a pipe. Many programs start others with a pipe that they never use.
const FIRST_BYTE: Duration = Duration::from_secs(1);
/// After this time, a message says that simprof waits for the end of the input.
const LONG: Duration = Duration::from_secs(2);

/// Keeps standard input in `folder`. Returns the path of the copy, or `None` if there is no input, and a notice if the
/// target will not get what simprof may have been given.
///
/// # Errors
/// Returns an error if the input is too long, cannot be copied, or if simprof is asked to stop meanwhile.
pub fn keep(folder: &Path, cancel: &Cancel) -> Result<(Option<PathBuf>, Option<Notice>)> {
    let input = io::stdin();
    if input.is_terminal() {
        return Ok((None, None));
    }
    keep_from(input.as_fd(), &folder.join(COPY), LIMIT_BYTES, cancel)
}

/// Returns the input that an earlier call kept in `folder`: phases that are added to a run get the same input.
pub fn kept(folder: &Path) -> Option<PathBuf> {
    let copy = folder.join(COPY);
    copy.is_file().then_some(copy)
}

fn keep_from(
    input: BorrowedFd<'_>,
    path: &Path,
    limit: u64,
    cancel: &Cancel,
) -> Result<(Option<PathBuf>, Option<Notice>)> {
    // A closed descriptor is no input.
    let Ok(copy) = input.try_clone_to_owned() else { return Ok((None, None)) };
    let mut source = File::from(copy);
    let kind = source.metadata()?.file_type();
    let is_stream = kind.is_fifo() || kind.is_socket();
    if !kind.is_file() && !is_stream {
        return Ok((None, None));
    }
    if is_stream && !is_readable(input, FIRST_BYTE) {
        let text = "Standard input is open, but nothing came from it within 1 s, so the target's standard input is empty. \
                    Give the target's input by `< FILE`, or by the key `input` of [target] in the spec.";
        return Ok((None, Some(Notice::new(NoticeId::InputNotPassed, text))));
    }
    let length = copy_to(&mut source, path, limit, cancel).inspect_err(|_| remove(path))?;
    if length == 0 {
        remove(path);
        return Ok((None, None));
    }
    log::info!("kept {length} bytes of standard input in {}", path.display());
    Ok((Some(path.to_owned()), None))
}

/// Copies until the end of the input. Returns the number of bytes.
fn copy_to(source: &mut File, path: &Path, limit: u64, cancel: &Cancel) -> Result<u64> {
    let failed = || format!("standard input cannot be copied to {}", path.display());
    let mut copy = File::create(path).with_context(failed)?;
    let (begin, mut is_announced) = (Instant::now(), false);
    let (mut chunk, mut length) = (vec![0; 1 << 16], 0);
    loop {
        if cancel.is_cancelled() {
            anyhow::bail!("interrupted while reading standard input");
        }
        if !is_announced && begin.elapsed() > LONG {
            message("simprof: reading standard input until its end");
            is_announced = true;
        }
        if !is_readable(source.as_fd(), Duration::from_millis(100)) {
            continue;
        }
        let count = match source.read(&mut chunk) {
            Ok(0) => return Ok(length),
            Ok(count) => count,
            Err(error) if is_temporary(&error) => continue,
            Err(error) => return Err(error).context("standard input cannot be read"),
        };
        length += count as u64;
        if length > limit {
            let mib = limit >> 20;
            return Err(UsageError(format!(
                "standard input is longer than {mib} MiB; write it to a file and name that as `input` of [target] in the spec"
            ))
            .into());
        }
        copy.write_all(&chunk[..count]).with_context(failed)?;
    }
}

fn is_temporary(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock)
}

fn remove(path: &Path) {
    // A file that stays only takes disk space.
    let _ = std::fs::remove_file(path);
}

/// Returns whether a read would not block, within the time: there are bytes, or the input has ended.
fn is_readable(input: BorrowedFd<'_>, wait: Duration) -> bool {
    let mut polled = libc::pollfd { fd: input.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let wait_ms = libc::c_int::try_from(wait.as_millis()).unwrap_or(libc::c_int::MAX);
    // SAFETY: one entry is passed, which lives during the call.
    unsafe { libc::poll(&raw mut polled, 1, wait_ms) > 0 }
}

#[cfg(test)]
mod tests {
    use std::io::Seek;
    use std::os::fd::OwnedFd;

    use simprof_model::NoticeId;
    use simprof_testkit::TestFolder;

    use super::*;

    fn kept(input: impl AsFd, limit: u64) -> (Option<Vec<u8>>, Option<Notice>) {
        let folder = TestFolder::new();
        let kept = keep_from(input.as_fd(), &folder.path("input"), limit, &Cancel::new());
        let (path, notice) = kept.expect("it can be copied");
        (path.map(|path| std::fs::read(path).expect("a copy")), notice)
    }

    #[test]
    fn files_are_copied_from_their_position() {
        let folder = TestFolder::new();
        std::fs::write(folder.path("file"), b"\0\xffbinary\n").expect("written");
        let mut file = File::open(folder.path("file")).expect("opened");
        assert_eq!(kept(&file, 100), (Some(b"\0\xffbinary\n".to_vec()), None));
        file.seek(io::SeekFrom::Start(2)).expect("a file");
        assert_eq!(kept(&file, 100), (Some(b"binary\n".to_vec()), None));
    }

    #[test]
    fn pipes_are_read_to_their_end() {
        let (reader, mut writer) = io::pipe().expect("a pipe");
        let bytes = vec![7; 1 << 20];
        let written = bytes.clone();
        let thread = std::thread::spawn(move || writer.write_all(&written));
        assert_eq!(kept(&reader, 2 << 20), (Some(bytes), None));
        thread.join().expect("it ends").expect("all is read");
    }

    #[test]
    fn no_input_is_no_file() {
        let (reader, writer) = io::pipe().expect("a pipe");
        drop(writer);
        assert_eq!(kept(&reader, 100), (None, None));
        assert_eq!(kept(File::open("/dev/null").expect("it exists"), 100), (None, None));
    }

    #[test]
    fn a_silent_pipe_is_reported() {
        let (reader, _writer) = io::pipe().expect("a pipe");
        let (input, notice) = kept(&reader, 100);
        assert_eq!((input, notice.map(|notice| notice.id)), (None, Some(NoticeId::InputNotPassed)));
    }

    #[test]
    fn an_endless_input_is_refused_and_leaves_no_copy() {
        let (reader, mut writer) = io::pipe().expect("a pipe");
        let thread = std::thread::spawn(move || while writer.write_all(&[1; 4096]).is_ok() {});
        let folder = TestFolder::new();
        let error = keep_from(reader.as_fd(), &folder.path("input"), 1 << 20, &Cancel::new());
        assert!(error.expect_err("it is too long").is::<UsageError>());
        assert!(!folder.path("input").exists());
        drop(reader);
        thread.join().expect("the writer ends with the reader");
    }

    #[test]
    fn reading_can_be_interrupted() {
        let (reader, mut writer) = io::pipe().expect("a pipe");
        writer.write_all(b"begin").expect("space");
        let (folder, cancel) = (TestFolder::new(), Cancel::new());
        cancel.cancel();
        let owned: OwnedFd = reader.into();
        assert!(keep_from(owned.as_fd(), &folder.path("input"), 100, &cancel).is_err());
    }
}
