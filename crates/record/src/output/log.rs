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

/// A file that output is appended to. Two logs of the same path do not overwrite each other.
pub struct Log {
    path: PathBuf,
    file: File,
    /// Number of bytes that could not be written, and the first error.
    lost: Option<(u64, io::Error)>,
}

impl Log {
    /// Creates or truncates the file. A device or a pipe is opened as it is.
    pub fn create(path: &Path) -> Result<Log, RecordError> {
        let failed = |source| RecordError::Log { path: path.to_owned(), source };
        let file = OpenOptions::new().append(true).create(true).open(path).map_err(failed)?;
        if file.metadata().map_err(failed)?.is_file() {
            file.set_len(0).map_err(failed)?;
        }
        Ok(Log { path: path.to_owned(), file, lost: None })
    }

    /// Returns another descriptor of the file, for the target.
    pub fn descriptor(&self) -> Result<OwnedFd, RecordError> {
        self.copy().map(OwnedFd::from)
    }

    /// Returns another handle of the log, for the thread that writes it.
    pub fn reopened(&self) -> Result<Log, RecordError> {
        Ok(Log { path: self.path.clone(), file: self.copy()?, lost: None })
    }

    fn copy(&self) -> Result<File, RecordError> {
        let failed = |source| RecordError::Log { path: self.path.clone(), source };
        self.file.try_clone().map_err(failed)
    }

    /// Appends bytes. After the first error, further bytes are counted and dropped, so that a full
    /// disk does not stop the target.
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
