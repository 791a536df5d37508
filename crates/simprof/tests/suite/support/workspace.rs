//! A temporary folder in which a test runs simprof, and the files and processes of these runs.

use std::fs;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;
use simprof_testkit::process::{PATIENCE, with_variable};
use simprof_testkit::{TestFolder, wait_for};

/// The environment variable that marks every process that is started from a workspace.
const MARK: &str = "SIMPROF_TEST_MARK";

/// A temporary folder in which simprof is run. Every process that is started from it has a mark in its environment.
pub struct Workspace {
    folder: TestFolder,
    mark: String,
}

/// The result of a command.
#[derive(Debug)]
pub struct Done {
    /// Exit status; `None` if a signal ended it.
    pub status: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Deref for Workspace {
    type Target = TestFolder;

    fn deref(&self) -> &TestFolder {
        &self.folder
    }
}

impl Workspace {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let mark = format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        Self { folder: TestFolder::new(), mark }
    }

    /// Returns a command that runs simprof in this folder.
    pub fn command(&self, arguments: &[&str]) -> Command {
        self.program(env!("CARGO_BIN_EXE_simprof"), arguments)
    }

    /// Returns a command that runs a program in this folder.
    pub fn program(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(self.root()).env(MARK, &self.mark);
        command
    }

    /// Runs simprof to its end.
    pub fn simprof(&self, arguments: &[&str]) -> Done {
        self.done(self.command(arguments))
    }

    /// Runs a command to its end.
    pub fn done(&self, command: Command) -> Done {
        let output = assert_cmd::Command::from_std(command)
            .timeout(PATIENCE)
            .output()
            .expect("the command runs and ends");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("it prints text");
        Done {
            status: output.status.code(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }

    /// Starts simprof. Its output goes to files in this folder.
    pub fn start(&self, arguments: &[&str]) -> Started {
        self.start_into(arguments, "run")
    }

    /// Starts simprof. Its output goes to `NAME.stdout` and `NAME.stderr`.
    pub fn start_into(&self, arguments: &[&str], name: &str) -> Started {
        let [stdout, stderr] = ["stdout", "stderr"].map(|end| self.path(&format!("{name}.{end}")));
        let file = |path: &Path| fs::File::create(path).expect("a file");
        let child = self
            .command(arguments)
            .stdin(Stdio::null())
            .stdout(file(&stdout))
            .stderr(file(&stderr))
            .spawn()
            .expect("simprof starts");
        Started { child, stdout, stderr }
    }

    /// Returns the manifest of the latest run.
    pub fn manifest(&self) -> Value {
        self.json("run.json")
    }

    /// Returns the content of a JSON file of the latest run.
    pub fn json(&self, name: &str) -> Value {
        serde_json::from_str(&self.text(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// Returns the content of a text file of the latest run.
    pub fn text(&self, name: &str) -> String {
        let path = self.latest(name);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// Returns the path of a file of the latest run.
    pub fn latest(&self, name: &str) -> PathBuf {
        self.path("profiling_results/latest").join(name)
    }

    /// Returns the living processes that were started from here, and their descendants.
    pub fn processes(&self) -> Vec<u32> {
        with_variable(&format!("{MARK}={}", self.mark))
    }

    /// Waits until no process that was started from here is alive.
    pub fn assert_nothing_left(&self) {
        wait_for("the end of all processes of the test", || {
            self.processes().is_empty().then_some(())
        });
    }
}

/// A running simprof.
pub struct Started {
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Started {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: libc::c_int) {
        let pid = libc::pid_t::try_from(self.pid()).expect("a process id");
        // SAFETY: kill touches no memory, and the child has not been waited for.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0, "the signal is sent");
    }

    /// Waits until it ends and returns the result.
    pub fn end(mut self) -> Done {
        let status =
            wait_for("the end of simprof", || self.child.try_wait().expect("it is a child"));
        let text = |path: &Path| fs::read_to_string(path).expect("it prints text");
        Done { status: status.code(), stdout: text(&self.stdout), stderr: text(&self.stderr) }
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // The process is still running if the test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Done {
    pub fn assert_status(&self, status: i32) {
        assert_eq!(self.status, Some(status), "{self:#?}");
    }

    /// Asserts that standard error contains all of `words`, such as the thing and the fix. A line break with an indent counts as a
    /// space.
    pub fn assert_reports(&self, words: &[&str]) {
        let has_all = |line: &str| words.iter().all(|word| line.contains(word));
        let joined = self.stderr.replace("\n  ", " ");
        assert!(
            self.stderr.lines().chain([joined.as_str()]).any(has_all),
            "{words:?} in {self:#?}"
        );
    }
}
