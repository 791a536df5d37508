//! What the tests share: programs, plans, and waiting for conditions.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use simprof_record::{Cancel, Guardian, Launch, RecordError, Recording, launch};

/// The executable that is a guardian, or a recorder of its own.
pub const RECORD_ONE: &str = env!("CARGO_BIN_EXE_record-one");

/// Whatever is waited for comes sooner than this on any machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A folder for one test, with plans and programs.
pub struct Place(tempfile::TempDir);

impl Place {
    pub fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn text(&self, name: &str) -> String {
        self.path(name).to_str().expect("temporary paths are text").to_owned()
    }

    /// Compiles `tests/programs/NAME.c`: its path.
    pub fn program(&self, name: &str) -> String {
        let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
        let source = crate_folder.join("tests/programs").join(name).with_extension("c");
        let status = Command::new("cc")
            .args(["-O1", "-g", "-Wall", "-Wextra", "-Werror", "-pthread", "-o"])
            .arg(self.path(name))
            .arg(source)
            .arg("-I")
            .arg(crate_folder.join("../probe/include"))
            .status()
            .expect("a C compiler");
        assert!(status.success(), "{name} compiles");
        self.text(name)
    }

    /// Writes an executable text, by way of another process: where this one had it open for writing, a child
    /// that another test forks meanwhile would hold it open, and it could not be executed ("text file busy").
    pub fn script(&self, name: &str, text: &str) {
        let draft = self.path("draft");
        std::fs::write(&draft, text).expect("written");
        let status =
            Command::new("install").args(["-m", "755"]).args([&draft, &self.path(name)]).status();
        assert!(status.expect("install runs").success(), "{name} is made executable");
    }

    /// A plan that observes nothing.
    pub fn plan(&self, argv: &[&str]) -> Launch {
        Launch {
            argv: argv.iter().map(|argument| (*argument).to_owned()).collect(),
            directory: None,
            environment: Default::default(),
            stdout: self.path("stdout.log"),
            stderr: self.path("stderr.log"),
            timeout: Some(PATIENCE),
            resources: None,
            sampling: None,
            heap: None,
            preload: Default::default(),
            guardian: Guardian { exe: RECORD_ONE.into(), arguments: vec!["--guardian".to_owned()] },
            marks: false,
            step_pattern: None,
        }
    }

    pub fn run(&self, argv: &[&str]) -> Recording {
        record(&self.plan(argv))
    }

    pub fn refusal(&self, argv: &[&str]) -> RecordError {
        launch(&self.plan(argv), &Cancel::new()).expect_err("it cannot run")
    }
}

pub fn record(plan: &Launch) -> Recording {
    launch(plan, &Cancel::new()).expect("it runs")
}

/// Waits until `condition` gives something.
pub fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(begin.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The process ids that were written, one a line, to a file; waits until there are `count`.
pub fn written_pids(path: &Path, count: usize) -> Vec<u32> {
    wait_for("process ids", || {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let whole = text.lines().filter_map(|line| line.trim().parse().ok());
        let pids: Vec<u32> = whole.collect();
        (text.ends_with('\n') && pids.len() == count).then_some(pids)
    })
}

/// Whether the process is there and is no zombie.
pub fn is_alive(pid: u32) -> bool {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    text.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(['Z', 'X']))
}

/// Waits until none of the processes is alive.
pub fn wait_for_end(pids: &[u32]) {
    wait_for("the end of all processes", || pids.iter().all(|&pid| !is_alive(pid)).then_some(()));
}
