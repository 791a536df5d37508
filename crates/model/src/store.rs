//! Reads and writes files. Replacing a file is atomic: it is always the old or the new version, never incomplete.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// An error while reading or writing a file of a run.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The operating system returned an error.
    #[error("cannot {action} {path}")]
    Io {
        /// The operation that failed.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The content is not valid.
    #[error("{path} is not a valid file of its kind")]
    Format {
        /// The file.
        path: PathBuf,
        /// The error of the JSON parser.
        source: serde_json::Error,
    },
}

impl StoreError {
    /// Returns the error of the operating system. `None` if the cause is another one.
    pub fn io(&self) -> Option<&io::Error> {
        match self {
            StoreError::Io { source, .. } => Some(source),
            StoreError::Format { .. } => None,
        }
    }
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Io { action, path, source }
}

/// Replaces the file at `path` atomically. A reader sees the old file or the new one. After a crash, or if the disk is full, the old file
/// remains.
///
/// # Errors
/// Returns an error if the folder is not writable or the disk is full.
pub fn write_atomically(path: &Path, content: &[u8]) -> Result<(), StoreError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new()
        .prefix(".simprof-")
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .tempfile_in(folder)
        .map_err(io_error("write in", folder))?;
    file.as_file_mut().write_all(content).map_err(io_error("write", path))?;
    file.as_file().sync_data().map_err(io_error("write", path))?;
    file.persist(path).map_err(|error| io_error("replace", path)(error.error))?;
    Ok(())
}

/// Writes `value` as indented JSON, atomically.
///
/// # Errors
/// Returns the errors of [`write_atomically`].
pub fn write_json(path: &Path, value: &impl Serialize) -> Result<(), StoreError> {
    let mut text = serde_json::to_vec_pretty(value)
        .map_err(|source| StoreError::Format { path: path.to_owned(), source })?;
    text.push(b'\n');
    write_atomically(path, &text)
}

/// Reads a JSON file.
///
/// # Errors
/// Returns an error if the file is missing or is not the JSON of a `T`.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, StoreError> {
    let text = std::fs::read(path).map_err(io_error("read", path))?;
    serde_json::from_slice(&text)
        .map_err(|source| StoreError::Format { path: path.to_owned(), source })
}

/// Appends one line to a file. Creates the file if it does not exist.
///
/// # Errors
/// Returns an error if the file cannot be opened or the disk is full.
pub fn append_line(path: &Path, line: &str) -> Result<(), StoreError> {
    let mut file: File =
        OpenOptions::new().create(true).append(true).open(path).map_err(io_error("open", path))?;
    file.write_all(format!("{line}\n").as_bytes()).map_err(io_error("append to", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_file() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("run.json");
        write_json(&path, &[1, 2]).expect("the first write");
        let missing = folder.path().join("missing").join("run.json");
        let error = write_json(&missing, &[3]).expect_err("no such folder");
        assert!(error.to_string().contains("missing"), "{error}");
        assert_eq!(read_json::<Vec<u8>>(&path).expect("still readable"), [1, 2]);
        assert_eq!(std::fs::read_dir(folder.path()).expect("readable").count(), 1);
    }

    #[test]
    fn errors_about_incomplete_files_name_the_file() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("run.json");
        std::fs::write(&path, "{\"a\":").expect("written");
        let error = read_json::<serde_json::Value>(&path).expect_err("torn");
        assert!(error.to_string().contains("run.json"), "{error}");
    }
}
