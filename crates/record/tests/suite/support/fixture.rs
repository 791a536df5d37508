//! A temporary folder of one test, and recordings of programs in it.

use std::ops::Deref;
use std::path::Path;

use simprof_model::Profile;
use simprof_record::sample::symbolise;
use simprof_record::{Cancel, Guardian, Launch, Outcome, Preload, RecordError, Recording, launch};
use simprof_testkit::process::PATIENCE;
use simprof_testkit::program::{compile, probe_headers};
use simprof_testkit::{TestFolder, wait_for};

use super::SAMPLING;

/// The executable that serves as guardian, or records one command by itself.
pub const RECORD_ONE: &str = env!("CARGO_BIN_EXE_record-one");

/// A temporary folder for one test. Its methods make plans of recordings and compile programs.
pub struct Fixture(TestFolder);

impl Deref for Fixture {
    type Target = TestFolder;

    fn deref(&self) -> &TestFolder {
        &self.0
    }
}

impl Fixture {
    pub fn new() -> Self {
        Self(TestFolder::new())
    }

    /// Copies the compiled `tests/programs/NAME.c` into this folder. Returns its path.
    pub fn program(&self, name: &str) -> String {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs").join(name);
        let headers = probe_headers();
        let options = ["-O1", "-g", "-Wall", "-Wextra", "-Werror", "-pthread", "-I"];
        let options = [&options[..], &[headers.to_str().expect("the path is UTF-8")]].concat();
        self.copy_program(compile(&source.with_extension("c"), name, &options), name)
    }

    /// Returns a plan that only runs the program: no samples, no resources, no marks.
    pub fn plan(&self, argv: &[&str]) -> Launch {
        Launch {
            argv: argv.iter().map(|argument| (*argument).to_owned()).collect(),
            directory: None,
            input: None,
            keep_output: u64::MAX,
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
            terminal: false,
        }
    }

    /// Returns a plan that samples the stacks of a Python program, which runs in this folder.
    pub fn python_plan(&self, argv: &[&str]) -> Launch {
        Launch {
            directory: Some(self.root().to_owned()),
            sampling: Some(SAMPLING),
            preload: Preload::python(),
            ..self.plan(argv)
        }
    }

    /// Records a program with [`Fixture::plan`].
    pub fn run(&self, argv: &[&str]) -> Recording {
        record(&self.plan(argv))
    }

    /// Returns the error for a program that cannot be recorded.
    pub fn refusal(&self, argv: &[&str]) -> RecordError {
        launch(&self.plan(argv), &Cancel::new()).expect_err("it cannot run")
    }
}

/// Records a program.
pub fn record(plan: &Launch) -> Recording {
    launch(plan, &Cancel::new()).expect("it can be recorded")
}

/// Records a Python program that must end with `outcome`. `None` if this system does not allow sampling.
pub fn symbolised(plan: &Launch, outcome: Outcome) -> Option<Profile> {
    let recording = record(plan);
    assert_eq!(recording.outcome, outcome, "{}", recording.stderr_tail);
    assert_eq!(recording.stderr_tail, "", "simprof prints nothing to the target's standard error");
    if let Some(error) = &recording.sampling_error {
        eprintln!("not sampled here: {error}");
        return None;
    }
    Some(symbolise(vec![recording.samples.expect("there are samples or an error")]))
}

/// Waits until a file has `count` process ids, one per line, and returns them.
pub fn written_pids(path: &Path, count: usize) -> Vec<u32> {
    wait_for("process ids", || {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let pids: Vec<u32> = text.lines().filter_map(|line| line.trim().parse().ok()).collect();
        (text.ends_with('\n') && pids.len() == count).then_some(pids)
    })
}
