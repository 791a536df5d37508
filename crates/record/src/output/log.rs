//! A log file for the target's output.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use simprof_model::{Notice, NoticeId};

use super::{TAIL_BYTES, text};
use crate::RecordError;

/// With less free space than this on its file system, a log may be truncated, bytes.
const MIN_FREE_BYTES: u64 = 1 << 20;

/// How far a log may exceed its limit before the disk space of the excess is freed, bytes.
const SLACK_BYTES: u64 = 1 << 20;
/// Holes begin and end at multiples of this, bytes.
const BLOCK_BYTES: u64 = 1 << 16;

/// A file that output is appended to. Two logs of the same path do not overwrite each other.
pub struct Log {
    path: PathBuf,
    file: File,
    /// How much of the beginning is kept, bytes.
    limit: u64,
    /// End of the part whose disk space was freed.
    freed: u64,
    /// Number of bytes that were appended and removed again, or that were not appended, beyond the limit.
    dropped: u64,
    /// Number of bytes that were appended by [`Log::write`].
    written: u64,
    /// Number of bytes that could not be written, and the first error.
    lost: Option<(u64, io::Error)>,
}

impl Log {
    /// Creates or truncates the file. A device or a pipe is opened as it is.
    pub fn create(path: &Path, limit: u64) -> Result<Log, RecordError> {
        let failed = |source| RecordError::Log { path: path.to_owned(), source };
        let file = OpenOptions::new().append(true).create(true).open(path).map_err(failed)?;
        if file.metadata().map_err(failed)?.is_file() {
            file.set_len(0).map_err(failed)?;
        }
        Ok(Log::new(path.to_owned(), file, limit))
    }

    /// Returns another descriptor of the file, for the target.
    pub fn descriptor(&self) -> Result<OwnedFd, RecordError> {
        self.copy().map(OwnedFd::from)
    }

    /// Returns another handle of the log, for the thread that writes it.
    pub fn reopened(&self) -> Result<Log, RecordError> {
        Ok(Log::new(self.path.clone(), self.copy()?, self.limit))
    }

    fn new(path: PathBuf, file: File, limit: u64) -> Log {
        Log { path, file, limit, freed: 0, dropped: 0, written: 0, lost: None }
    }

    fn copy(&self) -> Result<File, RecordError> {
        let failed = |source| RecordError::Log { path: self.path.clone(), source };
        self.file.try_clone().map_err(failed)
    }

    /// Appends bytes. After the first error, further bytes are counted and dropped, so that a full
    /// disk does not stop the target.
    pub fn write(&mut self, bytes: &[u8]) {
        let left = usize::try_from(self.limit.saturating_sub(self.written)).unwrap_or(usize::MAX);
        let (bytes, beyond) = bytes.split_at(bytes.len().min(left));
        self.written += bytes.len() as u64;
        self.dropped += beyond.len() as u64;
        if let Some((lost, _)) = &mut self.lost {
            *lost += bytes.len() as u64;
        } else if let Err(error) = self.file.write_all(bytes) {
            self.lost = Some((bytes.len() as u64, error));
        }
    }

    /// Frees the disk space of what is beyond the limit, except for the end. Call it again and again while the target
    /// writes to the file itself: it appends, so what remains of the file keeps its position.
    pub fn bound(&mut self) {
        let Some(length) = self.length().filter(|length| *length > self.limit) else { return };
        let end = length.saturating_sub(TAIL_BYTES as u64) / BLOCK_BYTES * BLOCK_BYTES;
        let start = self.limit.next_multiple_of(BLOCK_BYTES).max(self.freed);
        if end < start + SLACK_BYTES {
            return;
        }
        if punch(&self.file, start, end - start) {
            self.freed = end;
        } else if self.file.set_len(self.limit).is_ok() {
            // This file system has no holes. What the target writes in this moment is not counted.
            self.dropped += length - self.limit;
        }
    }

    /// Cuts the log at its limit and says so in it. Returns a notice if output was dropped. Call it when no process
    /// writes any more.
    pub fn cut(&mut self) -> Option<Notice> {
        let length = self.length()?;
        let excess = length.saturating_sub(self.limit);
        if excess > 0 && self.file.set_len(self.limit).is_ok() {
            self.dropped += excess;
        }
        if self.dropped == 0 {
            return None;
        }
        let (dropped, limit) = (self.dropped, self.limit);
        let line = format!("\n[simprof: {dropped} more bytes of output were not kept]\n");
        // Without the line, the notice still reports it.
        let _ = self.file.write_all(line.as_bytes());
        let text = format!(
            "{}: the first {limit} bytes of the target's output were kept, and {dropped} more were not. Use --keep-output to keep \
             more.",
            self.path.display()
        );
        Some(Notice::new(NoticeId::OutputDropped, text))
    }

    /// Returns the length of the file; `None` for a device or a pipe.
    fn length(&self) -> Option<u64> {
        let metadata = self.file.metadata().ok()?;
        metadata.is_file().then_some(metadata.len())
    }

    /// Returns a notice if output could not be written.
    pub fn loss_notice(&self) -> Option<Notice> {
        let (bytes, error) = self.lost.as_ref()?;
        let path = self.path.display();
        let text = format!("{path}: about {bytes} bytes of output could not be written: {error}.");
        Some(Notice::new(NoticeId::OutputNotWritten, text))
    }

    /// Returns a notice if the file system is almost full: a target that writes here itself may have failed.
    pub fn disk_notice(&self) -> Option<Notice> {
        // SAFETY: zero is a valid value of every field.
        let mut disk: libc::statvfs = unsafe { std::mem::zeroed() };
        // SAFETY: `disk` is a valid `statvfs` to write to.
        let status = unsafe { libc::fstatvfs(self.file.as_raw_fd(), &raw mut disk) };
        let regular = self.file.metadata().is_ok_and(|metadata| metadata.is_file());
        let bytes = disk.f_bavail.saturating_mul(disk.f_frsize);
        (regular && status == 0 && bytes < MIN_FREE_BYTES).then(|| {
            let folder = self.path.parent().unwrap_or(&self.path).display();
            let text =
                format!("The disk of {folder} is full: the target's output may be truncated.");
            Notice::new(NoticeId::DiskFull, text)
        })
    }

    /// Returns the end of the file; empty if it is a device or a pipe.
    pub fn tail(&self) -> String {
        self.read_tail().map(|bytes| text(&bytes)).unwrap_or_default()
    }

    fn read_tail(&self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        if !self.file.metadata()?.is_file() {
            return Ok(bytes);
        }
        let mut file = File::open(&self.path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES as u64)))?;
        file.take(TAIL_BYTES as u64).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

/// Frees the disk space of a part of a file. Returns false if the file system cannot do that.
fn punch(file: &File, start: u64, bytes: u64) -> bool {
    let (Ok(start), Ok(bytes)) = (libc::off_t::try_from(start), libc::off_t::try_from(bytes))
    else {
        return false;
    };
    let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    // SAFETY: the call takes no pointers.
    unsafe { libc::fallocate(file.as_raw_fd(), mode, start, bytes) == 0 }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn log(name: &str, limit: u64) -> (simprof_testkit::TestFolder, Log) {
        let folder = simprof_testkit::TestFolder::new();
        let log = Log::create(&folder.path(name), limit).expect("a log");
        (folder, log)
    }

    /// The target writes through its own descriptor, also between two calls of `bound`.
    #[test]
    fn a_long_log_takes_little_disk_space_and_every_byte_is_counted() {
        let (_folder, mut log) = log("log", 100_000);
        let mut target = log.copy().expect("a descriptor");
        let chunk = [b'x'; 1 << 20];
        for _ in 0..40 {
            target.write_all(&chunk).expect("space");
            log.bound();
            let disk = log.file.metadata().expect("a file").blocks() * 512;
            assert!(disk < 4 << 20, "{disk}");
        }
        target.write_all(b"the end").expect("space");
        assert!(log.tail().ends_with("xxthe end"), "the end can be read until the log is cut");
        let notice = log.cut().expect("output was dropped");
        assert_eq!(notice.id, NoticeId::OutputDropped);
        let dropped = (40 << 20) + 7 - 100_000;
        let text = std::fs::read_to_string(&log.path).expect("a log");
        let expected = format!("\n[simprof: {dropped} more bytes of output were not kept]\n");
        assert_eq!(text, "x".repeat(100_000) + &expected);
    }

    #[test]
    fn a_short_log_stays_as_it_is() {
        let (_folder, mut log) = log("log", 10);
        log.copy().expect("a descriptor").write_all(b"0123456789").expect("space");
        log.bound();
        assert_eq!(log.cut(), None);
        assert_eq!(std::fs::read(&log.path).expect("a log"), b"0123456789");
    }

    #[test]
    fn written_output_is_kept_up_to_the_limit() {
        let (_folder, mut log) = log("log", 10);
        ["12345678", "abcdef", "ghi"].iter().for_each(|text| log.write(text.as_bytes()));
        assert!(log.cut().is_some());
        let text = std::fs::read_to_string(&log.path).expect("a log");
        assert_eq!(text, "12345678ab\n[simprof: 7 more bytes of output were not kept]\n");
    }
}
