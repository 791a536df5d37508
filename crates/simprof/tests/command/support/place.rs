//! A folder of one test, simprof run in it, and what it leaves there.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

use super::processes::{MARK, with_mark};
use super::{PATIENCE, wait_for};

/// A folder, and a mark that every process started from it carries in its environment.
pub struct Place {
    folder: tempfile::TempDir,
    /// The value of the mark.
    pub mark: String,
}

/// A command that has ended.
#[derive(Debug)]
pub struct Done {
    /// Exit status; none where a signal ended it.
    pub status: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Place {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let mark = format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        Self { folder: tempfile::tempdir().expect("a temporary folder"), mark }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).expect("the file is written");
        path
    }

    /// Copies a program here, by another process: where this one had it open for writing, a child that another
    /// test forks meanwhile would hold it open, and it could not be executed ("text file busy").
    pub fn copy_program(&self, from: &str, name: &str) {
        let status = Command::new("cp").arg(from).arg(self.path(name)).status();
        assert!(status.expect("cp runs").success(), "{from} is copied");
    }

    /// Writes an executable text, by way of another process for the same reason.
    pub fn script(&self, name: &str, text: &str) -> PathBuf {
        let draft = self.write(&format!("{name}.draft"), text);
        let path = self.path(name);
        let status = Command::new("install").args(["-m", "755"]).args([&draft, &path]).status();
        assert!(status.expect("install runs").success(), "{name} is made executable");
        path
    }

    /// simprof with arguments, to be run in this folder.
    pub fn command(&self, arguments: &[&str]) -> Command {
        self.program(env!("CARGO_BIN_EXE_simprof"), arguments)
    }

    /// Any program, to be run in this folder.
    pub fn program(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(self.folder.path()).env(MARK, &self.mark);
        command
    }

    /// Runs simprof to its end.
    pub fn simprof(&self, arguments: &[&str]) -> Done {
        self.done(self.command(arguments))
    }

    /// Runs a command to its end, which must come; nothing that it started may be left.
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

    /// Starts simprof; what it prints goes to files of this folder.
    pub fn start(&self, arguments: &[&str]) -> Started {
        self.start_into(arguments, "run")
    }

    /// Starts simprof; what it prints goes to `NAME.stdout` and `NAME.stderr`.
    pub fn start_into(&self, arguments: &[&str], name: &str) -> Started {
        let [stdout, stderr] = ["stdout", "stderr"].map(|end| self.path(&format!("{name}.{end}")));
        let file = |path: &Path| std::fs::File::create(path).expect("a file");
        let child = self
            .command(arguments)
            .stdin(Stdio::null())
            .stdout(file(&stdout))
            .stderr(file(&stderr))
            .spawn()
            .expect("simprof starts");
        Started { child, stdout, stderr }
    }

    /// The manifest of the latest run.
    pub fn manifest(&self) -> Value {
        self.json("run.json")
    }

    /// A JSON file of the latest run.
    pub fn json(&self, name: &str) -> Value {
        serde_json::from_str(&self.text(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// A text file of the latest run.
    pub fn text(&self, name: &str) -> String {
        let path = self.latest(name);
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// The path of a file of the latest run.
    pub fn latest(&self, name: &str) -> PathBuf {
        self.path("profiling_results/latest").join(name)
    }

    /// Waits until nothing that was started from here is alive.
    pub fn assert_nothing_left(&self) {
        wait_for(&format!("the end of all processes marked {}", self.mark), || {
            with_mark(&self.mark).is_empty().then_some(())
        });
    }
}

/// A simprof that runs.
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

    /// Waits for its end.
    pub fn end(mut self) -> Done {
        let status =
            wait_for("the end of simprof", || self.child.try_wait().expect("it is a child"));
        let text = |path: &Path| std::fs::read_to_string(path).expect("it prints text");
        Done { status: status.code(), stdout: text(&self.stdout), stderr: text(&self.stderr) }
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // A test that fails leaves nothing running; after a good end there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Done {
    pub fn assert_status(&self, status: i32) {
        assert_eq!(self.status, Some(status), "{self:#?}");
    }

    /// One line of standard error names the thing and the mend: it holds all of `words`.
    pub fn assert_says(&self, words: &[&str]) {
        let says = |line: &str| words.iter().all(|word| line.contains(word));
        let joined = self.stderr.replace("\n  ", " ");
        assert!(self.stderr.lines().chain([joined.as_str()]).any(says), "{words:?} in {self:#?}");
    }
}
