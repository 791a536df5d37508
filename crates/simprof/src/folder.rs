//! The folder of a run: created, locked, and readable at any time.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::de::DeserializeOwned;
use simprof_model::{Phase, Run, StoreError, read_json, write_atomically, write_json};

use crate::exit::UsageError;
use crate::text::error_chain;

/// File name of the manifest.
pub const MANIFEST: &str = "run.json";

/// Name of the symbolic link to the newest run.
pub const LATEST: &str = "latest";

const LOCK: &str = ".simprof.lock";
const SCRATCH: &str = ".scratch";
const CONFIGURATION: &str = "configuration";

/// Why the folder of a run cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// Another run is writing to it.
    #[error("another run{owner} is writing to {path}; wait for it (`simprof status --follow {path}`) or choose another folder with --output-dir", path = .path.display())]
    Busy {
        /// The results folder.
        path: PathBuf,
        /// ` (process 12)`, or empty if unknown.
        owner: String,
    },
    /// The operating system reported an error.
    #[error("cannot write results to {path}: {source}; choose another folder with --output-dir", path = .path.display())]
    Refused {
        /// The file or folder.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The manifest cannot be written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Temporary folders of one process of the target.
#[derive(Debug)]
pub struct Scratch {
    /// An empty folder that the process can write to.
    pub work: PathBuf,
    /// Folder for the edited copies of configuration files; created only if there are any.
    pub copies: PathBuf,
}

/// The folder of the run of this process.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    run: Run,
    /// Held during the run.
    _lock: Lock,
}

/// The right to write to a folder for results. The operating system releases it when this process ends, however it
/// ends.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Locks the folder `output`.
    ///
    /// # Errors
    /// Returns an error if another run is writing to it, or if the lock file cannot be written.
    pub fn take(output: &Path) -> Result<Lock, FolderError> {
        let path = output.join(LOCK);
        let refused = |source| FolderError::Refused { path: path.clone(), source };
        let mut file = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(refused)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let owner = fs::read_to_string(&path).unwrap_or_default();
                let owner = owner
                    .trim()
                    .parse::<u32>()
                    .map(|pid| format!(" (process {pid})"))
                    .unwrap_or_default();
                return Err(FolderError::Busy { path: output.to_owned(), owner });
            }
            Err(TryLockError::Error(source)) => return Err(refused(source)),
        }
        file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(refused)?;
        Ok(Lock { _file: file })
    }
}

impl RunFolder {
    /// Locks `output`, creates a new folder in it, writes the first manifest and points `latest` to
    /// the folder. Sets the name of the run.
    ///
    /// # Errors
    /// Returns an error if another run is writing to `output`, or if a file or folder cannot be
    /// created.
    pub fn create(output: &Path, mut run: Run) -> Result<RunFolder, FolderError> {
        let refused = |path: &Path, source| FolderError::Refused { path: path.to_owned(), source };
        fs::create_dir_all(output).map_err(|source| refused(output, source))?;
        let output = output.canonicalize().map_err(|source| refused(output, source))?;
        let lock = Lock::take(&output)?;
        let path = fresh_folder(&output).map_err(|source| refused(&output, source))?;
        run.name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        log::info!("created the folder of the run, {}", path.display());
        let mut folder = RunFolder { path, run, _lock: lock };
        folder.save()?;
        point_latest(&output, &folder.run.name)
            .map_err(|source| refused(&output.join(LATEST), source))?;
        Ok(folder)
    }

    /// Returns the path of the folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the manifest.
    pub fn run(&self) -> &Run {
        &self.run
    }

    /// Returns the manifest for changes. They are written with the next [`RunFolder::update`].
    pub fn run_mut(&mut self) -> &mut Run {
        &mut self.run
    }

    /// Changes the manifest and writes it to disk.
    ///
    /// # Errors
    /// Returns an error if it cannot be written. The previous file then stays.
    pub fn update(&mut self, change: impl FnOnce(&mut Run)) -> Result<(), StoreError> {
        change(&mut self.run);
        self.save()
    }

    /// Opens the folder of an earlier run and writes `run` as its manifest.
    ///
    /// # Errors
    /// Returns an error if the manifest cannot be written.
    pub fn reopen(path: PathBuf, lock: Lock, run: Run) -> Result<RunFolder, FolderError> {
        log::info!("adding to the folder of the run, {}", path.display());
        let mut folder = RunFolder { path, run, _lock: lock };
        folder.save()?;
        Ok(folder)
    }

    fn save(&mut self) -> Result<(), StoreError> {
        self.run.updated_ms = now_ms();
        write_json(&self.path.join(MANIFEST), &self.run)
    }

    /// Returns the folder of a phase, which is created if necessary.
    ///
    /// # Errors
    /// Returns an error if it cannot be created.
    pub fn phase(&self, phase: Phase) -> Result<PathBuf, FolderError> {
        self.make(&self.path.join(phase.folder()))
    }

    /// Creates empty folders for one process of the target. [`RunFolder::clear_scratch`] removes
    /// them.
    ///
    /// # Errors
    /// Returns an error if they cannot be created.
    pub fn scratch(&self) -> Result<Scratch, FolderError> {
        self.clear_scratch();
        let folder = self.path.join(SCRATCH);
        Ok(Scratch { work: self.make(&folder.join("work"))?, copies: folder.join("copies") })
    }

    /// Saves a configuration file of the target as it was read, because the results apply to this
    /// version.
    ///
    /// # Errors
    /// Returns an error if it cannot be written.
    pub fn keep_configuration(&self, name: &str, text: &str) -> Result<(), FolderError> {
        let folder = self.make(&self.path.join(CONFIGURATION))?;
        Ok(write_atomically(&folder.join(name), text.as_bytes())?)
    }

    /// Removes the temporary folders of the process.
    pub fn clear_scratch(&self) {
        // A folder that cannot be removed only takes disk space: if the next one cannot be created,
        // that is reported.
        let _ = fs::remove_dir_all(self.path.join(SCRATCH));
    }

    fn make(&self, path: &Path) -> Result<PathBuf, FolderError> {
        let refused = |source| FolderError::Refused { path: path.to_owned(), source };
        fs::create_dir_all(path).map_err(refused)?;
        Ok(path.to_owned())
    }
}

/// Reads a JSON file of a run.
///
/// # Errors
/// Returns an error if it cannot be read. If its content is not as expected, the error says that another version of
/// simprof may have written it.
pub fn read<T: DeserializeOwned>(path: &Path) -> anyhow::Result<T> {
    read_json(path).map_err(|error| match &error {
        StoreError::Format { .. } => {
            let hint = "it may have been written by another version of simprof";
            UsageError(format!("{}; {hint}", error_chain(&error))).into()
        }
        StoreError::Io { .. } => error.into(),
    })
}

/// Returns the Unix time in milliseconds.
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Creates a folder named after the current time. A number is appended if the name is taken.
fn fresh_folder(output: &Path) -> io::Result<PathBuf> {
    let name = timestamp(now_ms() / 1000);
    for attempt in 1.. {
        let name = if attempt == 1 { name.clone() } else { format!("{name}-{attempt}") };
        let path = output.join(name);
        match fs::create_dir(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
            Ok(()) => return Ok(path),
        }
    }
    unreachable!("the range has no end")
}

/// Formats Unix time as `2026-01-31_23-59-59`, UTC.
fn timestamp(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil_from_days(days);
    format!(
        "{year:04}-{month:02}-{day:02}_{:02}-{:02}-{:02}",
        rest / 3600,
        rest % 3600 / 60,
        rest % 60
    )
}

/// Returns the Gregorian year, month and day of a day counted from 1970-01-01 (Howard Hinnant,
/// "chrono-compatible low-level date algorithms", 2013).
fn civil_from_days(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let era = days / 146_097;
    let of_era = days % 146_097;
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

/// Points `latest` to `name` atomically.
fn point_latest(output: &Path, name: &str) -> io::Result<()> {
    let fresh = output.join(format!(".{LATEST}-{}", std::process::id()));
    let _ = fs::remove_file(&fresh);
    std::os::unix::fs::symlink(name, &fresh)?;
    fs::rename(&fresh, output.join(LATEST))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::processes::fake::manifest;

    #[test]
    fn timestamps_follow_the_calendar() {
        for (seconds, expected) in [
            (0, "1970-01-01_00-00-00"),
            (951_782_399, "2000-02-28_23-59-59"),
            (951_782_400, "2000-02-29_00-00-00"),
            (1_704_067_199, "2023-12-31_23-59-59"),
        ] {
            assert_eq!(timestamp(seconds), expected);
        }
    }

    #[test]
    fn two_runs_cannot_write_to_one_folder() {
        let output = tempfile::tempdir().expect("a folder");
        let first = RunFolder::create(output.path(), manifest(&[])).expect("the first");
        let second =
            RunFolder::create(output.path(), manifest(&[])).expect_err("the folder is locked");
        assert!(second.to_string().contains("another run"), "{second}");
        let name = first.run().name.clone();
        drop(first);
        let third = RunFolder::create(output.path(), manifest(&[])).expect("the lock was released");
        assert_ne!(third.run().name, name);
        let latest = fs::read_link(output.path().join(LATEST)).expect("a link");
        assert_eq!(latest.to_string_lossy(), third.run().name);
    }
}
