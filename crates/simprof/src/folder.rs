//! The folder of a run: made, locked, and kept readable at any instant.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use simprof_model::{Phase, Run, StoreError, write_atomically, write_json};

/// Name of the manifest.
pub const MANIFEST: &str = "run.json";

/// Name of the link to the newest run.
pub const LATEST: &str = "latest";

const LOCK: &str = ".simprof.lock";
const SCRATCH: &str = ".scratch";
const CONFIGURATION: &str = "configuration";

/// Why a run's folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// Another run writes there.
    #[error("another run{owner} is writing to {path}; wait for it (`simprof status --follow {path}`) or choose another folder with --output-dir", path = .path.display())]
    Busy {
        /// The results folder.
        path: PathBuf,
        /// ` (process 12)` where it is known.
        owner: String,
    },
    /// The operating system refused.
    #[error("cannot write results to {path}: {source}; choose another folder with --output-dir", path = .path.display())]
    Refused {
        /// Which file or folder.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The manifest cannot be written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What belongs to one process of the target and is removed after it.
#[derive(Debug)]
pub struct Scratch {
    /// An empty folder that it may write to.
    pub work: PathBuf,
    /// Folder for the edited copies of its configuration files; made where there are any.
    pub copies: PathBuf,
}

/// The folder of a run that this process writes.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    run: Run,
    /// Held as long as the run lasts; the operating system frees it however this process ends.
    _lock: File,
}

impl RunFolder {
    /// Makes a new folder below `output`, locks `output`, writes the first manifest and turns
    /// `latest` to it. The run's name is set here.
    ///
    /// # Errors
    /// Where another run writes to `output`, or the operating system refuses.
    pub fn create(output: &Path, mut run: Run) -> Result<RunFolder, FolderError> {
        let refused = |path: &Path, source| FolderError::Refused { path: path.to_owned(), source };
        fs::create_dir_all(output).map_err(|source| refused(output, source))?;
        let output = output.canonicalize().map_err(|source| refused(output, source))?;
        let lock = lock(&output)?;
        let path = fresh_folder(&output).map_err(|source| refused(&output, source))?;
        run.name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut folder = RunFolder { path, run, _lock: lock };
        folder.save()?;
        point_latest(&output, &folder.run.name)
            .map_err(|source| refused(&output.join(LATEST), source))?;
        Ok(folder)
    }

    /// The run's folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The manifest.
    pub fn run(&self) -> &Run {
        &self.run
    }

    /// The manifest, to be changed; the change is written with the next [`RunFolder::update`].
    pub fn run_mut(&mut self) -> &mut Run {
        &mut self.run
    }

    /// Changes the manifest and writes it.
    ///
    /// # Errors
    /// Where it cannot be written: the file of before stays.
    pub fn update(&mut self, change: impl FnOnce(&mut Run)) -> Result<(), StoreError> {
        change(&mut self.run);
        self.save()
    }

    fn save(&mut self) -> Result<(), StoreError> {
        self.run.updated_ms = now_ms();
        write_json(&self.path.join(MANIFEST), &self.run)
    }

    /// The folder of a phase, made where it is missing.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub fn phase(&self, phase: Phase) -> Result<PathBuf, FolderError> {
        self.make(&self.path.join(phase.folder()))
    }

    /// Empty folders for one process of the target; [`RunFolder::clear_scratch`] removes them.
    ///
    /// # Errors
    /// Where they cannot be made.
    pub fn scratch(&self) -> Result<Scratch, FolderError> {
        self.clear_scratch();
        let folder = self.path.join(SCRATCH);
        Ok(Scratch { work: self.make(&folder.join("work"))?, copies: folder.join("copies") })
    }

    /// Keeps a configuration file of the target as it was read: what was measured holds for that one.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn keep_configuration(&self, name: &str, text: &str) -> Result<(), FolderError> {
        let folder = self.make(&self.path.join(CONFIGURATION))?;
        Ok(write_atomically(&folder.join(name), text.as_bytes())?)
    }

    /// Removes what processes of the target left in their scratch folder.
    pub fn clear_scratch(&self) {
        // A scratch folder that cannot be removed costs room, not correctness: the next one is made anew or fails aloud.
        let _ = fs::remove_dir_all(self.path.join(SCRATCH));
    }

    fn make(&self, path: &Path) -> Result<PathBuf, FolderError> {
        let refused = |source| FolderError::Refused { path: path.to_owned(), source };
        fs::create_dir_all(path).map_err(refused)?;
        Ok(path.to_owned())
    }
}

/// Milliseconds of Unix time.
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn lock(output: &Path) -> Result<File, FolderError> {
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
    Ok(file)
}

/// Makes a folder named after the time; a number is added where it exists.
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
    unreachable!("some number is free")
}

/// `2026-01-31_23-59-59`, UTC.
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

/// The Gregorian date of a day since 1970-01-01 (Howard Hinnant, "chrono-compatible low-level date algorithms", 2013).
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

/// Turns `latest` to `name` in one step.
fn point_latest(output: &Path, name: &str) -> io::Result<()> {
    let fresh = output.join(format!(".{LATEST}-{}", std::process::id()));
    let _ = fs::remove_file(&fresh);
    std::os::unix::fs::symlink(name, &fresh)?;
    fs::rename(&fresh, output.join(LATEST))
}

#[cfg(test)]
mod tests {
    use super::*;
    use simprof_model::{Machine, Mode, RUN_SCHEMA, RunStatus};

    fn run() -> Run {
        Run {
            schema: RUN_SCHEMA.into(),
            simprof_version: String::new(),
            name: String::new(),
            status: RunStatus::Running,
            pid: 1,
            pid_start_ticks: None,
            created_ms: 0,
            updated_ms: 0,
            ended_ms: None,
            arguments: vec![],
            target: vec![],
            target_name: String::new(),
            seed: 0,
            mode: Mode::Quick,
            machine: Machine::default(),
            spec: String::new(),
            phases: vec![],
            notices: vec![],
        }
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
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
    fn two_runs_at_once_are_told_apart() {
        let output = tempfile::tempdir().expect("a folder");
        let first = RunFolder::create(output.path(), run()).expect("the first");
        let second = RunFolder::create(output.path(), run()).expect_err("the folder is busy");
        assert!(second.to_string().contains("another run"), "{second}");
        let name = first.run().name.clone();
        drop(first);
        let third = RunFolder::create(output.path(), run()).expect("free again");
        assert_ne!(third.run().name, name);
        let latest = fs::read_link(output.path().join(LATEST)).expect("a link");
        assert_eq!(latest.to_string_lossy(), third.run().name);
    }
}
