//! One log file.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use simprof_model::{Notice, NoticeId};

use super::{TAIL_BYTES, text};
use crate::RecordError;

/// With less room than this on its file system a log may be cut, bytes.
const ROOM_BYTES: u64 = 1 << 20;

/// A file that output goes to, emptied at first. Two of the same path share one end.
pub struct Log {
    path: PathBuf,
    file: File,
    /// Bytes that could not be written, and why the first could not.
    lost: Option<(u64, io::Error)>,
}

impl Log {
    /// Creates or empties the file. A device or a pipe is taken as it is.
    pub fn create(path: &Path) -> Result<Log, RecordError> {
        let failed = |source| RecordError::Log { path: path.to_owned(), source };
        let file = OpenOptions::new().append(true).create(true).open(path).map_err(failed)?;
        if file.metadata().map_err(failed)?.is_file() {
            file.set_len(0).map_err(failed)?;
        }
        Ok(Log { path: path.to_owned(), file, lost: None })
    }

    /// The same open file once more, for the target.
    pub fn descriptor(&self) -> Result<OwnedFd, RecordError> {
        self.copy().map(OwnedFd::from)
    }

    /// The same log once more, for a thread that writes it.
    pub fn reopened(&self) -> Result<Log, RecordError> {
        Ok(Log { path: self.path.clone(), file: self.copy()?, lost: None })
    }

    fn copy(&self) -> Result<File, RecordError> {
        let failed = |source| RecordError::Log { path: self.path.clone(), source };
        self.file.try_clone().map_err(failed)
    }

    /// Appends; after the first failure what comes is counted and dropped, so that a full disk
    /// does not stop the target.
    pub fn write(&mut self, bytes: &[u8]) {
        if let Some((lost, _)) = &mut self.lost {
            *lost += bytes.len() as u64;
        } else if let Err(error) = self.file.write_all(bytes) {
            self.lost = Some((bytes.len() as u64, error));
        }
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
        let mut room: libc::statvfs = unsafe { std::mem::zeroed() };
        // SAFETY: `room` is a valid place for the answer.
        let status = unsafe { libc::fstatvfs(self.file.as_raw_fd(), &raw mut room) };
        let regular = self.file.metadata().is_ok_and(|metadata| metadata.is_file());
        let bytes = room.f_bavail.saturating_mul(room.f_frsize);
        (regular && status == 0 && bytes < ROOM_BYTES).then(|| {
            let folder = self.path.parent().unwrap_or(&self.path).display();
            let text =
                format!("The disk of {folder} is full: the target's output may be truncated.");
            Notice::new(NoticeId::DiskFull, text)
        })
    }

    /// The end of what was written, where it can be read again.
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
