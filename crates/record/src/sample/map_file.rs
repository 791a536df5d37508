//! The file in which a process lists the names of code that it generates: what was added since the last look.
//!
//! Runtimes add to the file or write all of it anew, in place or as a new file.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

/// Most bytes that are read at once. The rest is read later.
pub(super) const LARGEST_READ: usize = 64 << 20;
/// Number of bytes that are read again to see whether the file was written anew.
const COMPARED: usize = 4096;
/// A file that was last written longer than this before sampling started is of an earlier process with the same number. The
/// clock of file systems is coarse.
const TOLERANCE: Duration = Duration::from_secs(1);

/// Text from the file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Text {
    pub bytes: Vec<u8>,
    /// Whether it is the start of a file rather than what follows the previous text.
    pub from_start: bool,
}

/// The file of one process. It stays open, since some processes delete it before they end.
#[derive(Debug, Default)]
pub(super) struct MapFile {
    /// Number of the process in its own namespace, once it was read.
    inner_pid: Option<u32>,
    file: Option<File>,
    /// Number of bytes that were read.
    position: u64,
    /// The last of them, at most [`COMPARED`].
    last: Vec<u8>,
    /// When the file had been written at the last look.
    modified: Option<SystemTime>,
}

impl MapFile {
    /// Returns the text that process `pid` has written since the last look; `None` if there is no file. `started` is the time at
    /// which sampling started.
    pub fn added(&mut self, pid: u32, started: SystemTime) -> Option<Text> {
        let inner_pid = *self.inner_pid.get_or_insert_with(|| innermost_number(pid).unwrap_or(pid));
        self.read(open(pid, inner_pid, started))
    }

    /// Reads on, in `newest` if it is another file.
    fn read(&mut self, newest: Option<File>) -> Option<Text> {
        let is_other = newest.is_some_and(|newest| self.change_to(newest));
        let file = self.file.as_ref()?;
        let metadata = file.metadata().ok()?;
        if is_other || self.is_rewritten(file, &metadata) {
            (self.position, self.last) = (0, Vec::new());
        }
        let from_start = self.position == 0;
        let bytes = read_at(file, self.position, LARGEST_READ).ok()?;
        self.position += bytes.len() as u64;
        self.modified = metadata.modified().ok();
        self.last.extend_from_slice(&bytes[bytes.len().saturating_sub(COMPARED)..]);
        self.last.drain(..self.last.len().saturating_sub(COMPARED));
        Some(Text { bytes, from_start })
    }

    /// Uses a file instead of the present one if it is another one of the same owner. Returns whether it is.
    fn change_to(&mut self, newest: File) -> bool {
        let identity = |file: &File| {
            let metadata = file.metadata().ok()?;
            Some((metadata.uid(), (metadata.dev(), metadata.ino())))
        };
        let present = self.file.as_ref().and_then(identity);
        let is_other = match (present, identity(&newest)) {
            (Some((owner, present)), Some((uid, newest))) => owner == uid && present != newest,
            (None, newest) => newest.is_some(),
            (Some(_), None) => false,
        };
        if is_other {
            self.file = Some(newest);
        }
        is_other
    }

    /// Returns whether the file no longer begins with what was read from it. Its size alone does not show that: it may have grown
    /// beyond the earlier one already.
    fn is_rewritten(&self, file: &File, metadata: &Metadata) -> bool {
        let was_written = metadata.modified().ok() != self.modified;
        let start = self.position - self.last.len() as u64;
        metadata.len() < self.position
            || (metadata.len() == self.position && was_written)
            || read_at(file, start, self.last.len()).is_ok_and(|bytes| bytes != self.last)
    }
}

/// Reads at most `length` bytes.
fn read_at(file: &File, mut position: u64, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut part = [0; COMPARED];
    while bytes.len() < length {
        let wanted = part.len().min(length - bytes.len());
        match file.read_at(&mut part[..wanted], position) {
            Ok(0) => break,
            Ok(count) => {
                bytes.extend_from_slice(&part[..count]);
                position += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(bytes)
}

/// Opens the file of a process. In a container, the process has another number, `inner_pid`, and another `/tmp`.
fn open(pid: u32, inner_pid: u32, started: SystemTime) -> Option<File> {
    let candidates =
        [format!("/proc/{pid}/root/tmp/perf-{inner_pid}.map"), format!("/tmp/perf-{pid}.map")];
    let owner = std::fs::metadata(format!("/proc/{pid}")).ok().map(|metadata| metadata.uid());
    candidates.iter().map(PathBuf::from).find_map(|path| {
        let flags = libc::O_NONBLOCK | libc::O_NOFOLLOW;
        let file = File::options().read(true).custom_flags(flags).open(path).ok()?;
        is_of(&file.metadata().ok()?, owner, started).then_some(file)
    })
}

/// Returns whether a file was written by a process with this owner after sampling started. Anyone can create files in `/tmp`.
fn is_of(metadata: &Metadata, owner: Option<u32>, started: SystemTime) -> bool {
    let is_recent = metadata.modified().is_ok_and(|time| time + TOLERANCE >= started);
    let is_owned = owner.is_none_or(|owner| metadata.uid() == owner);
    metadata.is_file() && is_recent && is_owned
}

/// Returns the number of a process in its own namespace.
fn innermost_number(pid: u32) -> Option<u32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    line.split_whitespace().next_back()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;
    use std::path::Path;

    use super::*;

    /// Asserts the text that a look at a file returns.
    #[track_caller]
    fn assert_text(map: &mut MapFile, path: &Path, expected: &str, from_start: bool) {
        let text = map.read(File::open(path).ok()).expect("there is a file");
        assert_eq!(
            (String::from_utf8_lossy(&text.bytes).as_ref(), text.from_start),
            (expected, from_start)
        );
    }

    fn append(path: &Path, text: &str) {
        let mut file = File::options().append(true).open(path).expect("it exists");
        file.write_all(text.as_bytes()).expect("written");
    }

    #[test]
    fn added_text_is_read_once_and_rewritten_files_from_the_start() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, other) = (folder.path().join("map"), folder.path().join("other"));
        let mut map = MapFile::default();
        assert_eq!(map.read(None), None);
        fs::write(&path, "").expect("written");
        assert_text(&mut map, &path, "", true);
        append(&path, "one\n");
        assert_text(&mut map, &path, "one\n", true);
        assert_text(&mut map, &path, "", false);
        append(&path, "two\n");
        assert_text(&mut map, &path, "two\n", false);
        // Shorter, longer, and as long as before.
        for text in ["three\n", "three and\nfour\n", "five and\nseven\n"] {
            fs::write(&path, text).expect("written");
            assert_text(&mut map, &path, text, true);
        }
        // A new file with the same start in place of the old one.
        fs::write(&other, "five and\nseven\neight\n").expect("written");
        fs::rename(&other, &path).expect("renamed");
        assert_text(&mut map, &path, "five and\nseven\neight\n", true);
        // The process deletes its file, but writes on.
        let mut open = File::options().append(true).open(&path).expect("it exists");
        fs::remove_file(&path).expect("it is ours");
        open.write_all(b"nine\n").expect("written");
        assert_text(&mut map, &path, "nine\n", false);
    }

    #[test]
    fn long_files_are_compared_at_their_end() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("map");
        let long = "x".repeat(3 * COMPARED + 5);
        fs::write(&path, &long).expect("written");
        let mut map = MapFile::default();
        assert_text(&mut map, &path, &long, true);
        append(&path, "more\n");
        assert_text(&mut map, &path, "more\n", false);
        let anew = "y".repeat(long.len() + 10);
        fs::write(&path, &anew).expect("written");
        assert_text(&mut map, &path, &anew, true);
    }

    #[test]
    fn files_of_earlier_processes_and_of_others_are_not_used() {
        let file = tempfile::NamedTempFile::new().expect("made");
        let metadata = file.as_file().metadata().expect("it exists");
        let (now, own) = (SystemTime::now(), metadata.uid());
        assert!(is_of(&metadata, Some(own), now) && is_of(&metadata, None, now));
        assert!(!is_of(&metadata, Some(own), now + Duration::from_secs(60)));
        assert!(!is_of(&metadata, Some(own + 1), now));
        assert_eq!(innermost_number(std::process::id()), Some(std::process::id()));
    }
}
