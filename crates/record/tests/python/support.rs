//! What the tests share: interpreters, recordings of Python programs, and questions to their profiles.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use simprof_model::{FunctionKind, Profile, PythonProvenance, StackSample};
use simprof_record::sample::{self, Recorder, Sampling};
use simprof_record::{Cancel, Guardian, Launch, Outcome, Preload, Recording, launch};

/// As phases ask for it.
pub const SAMPLING: Sampling =
    Sampling { rate_hz: 1000, stack_bytes: 16384, kernel: true, recorder: Recorder::Auto };

/// A folder for one test.
pub struct Place(tempfile::TempDir);

impl Place {
    pub fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file, and the folders that it is in: its path.
    pub fn file(&self, name: &str, content: &str) -> String {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(&path, content).expect("written");
        path.to_str().expect("temporary paths are text").to_owned()
    }

    /// Writes an executable script, by way of another process: see the tests of recording.
    pub fn script(&self, name: &str, content: &str) -> String {
        let draft = self.file("draft", content);
        let status =
            Command::new("install").args(["-m", "755", &draft]).arg(self.path(name)).status();
        assert!(status.expect("install runs").success());
        self.path(name).to_str().expect("text").to_owned()
    }

    pub fn plan(&self, argv: &[&str]) -> Launch {
        Launch {
            argv: argv.iter().map(|argument| (*argument).to_owned()).collect(),
            directory: Some(self.0.path().to_owned()),
            environment: Default::default(),
            stdout: self.path("stdout.log"),
            stderr: self.path("stderr.log"),
            timeout: Some(Duration::from_secs(120)),
            resources: None,
            sampling: Some(SAMPLING),
            heap: None,
            preload: Preload::python(),
            guardian: Guardian {
                exe: env!("CARGO_BIN_EXE_record-one").into(),
                arguments: vec!["--guardian".to_owned()],
            },
            marks: false,
            step_pattern: None,
        }
    }

    /// Which share the first of two times is that the program of the last profile printed.
    pub fn told_share(&self) -> f64 {
        let text = std::fs::read_to_string(self.path("stdout.log")).expect("the program told");
        let [part, rest] = text.split_whitespace().collect::<Vec<_>>()[..] else {
            panic!("{text}")
        };
        let [part, rest]: [f64; 2] = [part, rest].map(|time| time.parse().expect("a time"));
        part / (part + rest)
    }

    /// Profiles a program that must succeed. None where this system does not sample at all.
    pub fn profile(&self, argv: &[&str]) -> Option<Profile> {
        profile(&self.plan(argv), Outcome::Exited(0))
    }
}

/// Profiles a program that must end in the given way. None where this system does not sample at all.
pub fn profile(plan: &Launch, end: Outcome) -> Option<Profile> {
    let recording = launch(plan, &Cancel::new()).expect("it runs");
    assert_eq!(recording.outcome, end, "{}", recording.stderr_tail);
    assert_eq!(recording.stderr_tail, "", "nothing is said in the target's name");
    symbolised(recording)
}

fn symbolised(recording: Recording) -> Option<Profile> {
    if let Some(error) = &recording.sampling_error {
        eprintln!("not sampled here: {error}");
        return None;
    }
    let samples = recording.samples.expect("sampled, or an error");
    Some(sample::symbolise(vec![samples]))
}

/// `python3`, as an executable rather than a script that looks for one.
pub fn python3() -> String {
    real("python3", "(3, 9) <= v < (3, 14)").expect("tests need python3")
}

/// All interpreters of versions that are followed: `python3`, and those installed beside it.
pub fn interpreters() -> Vec<String> {
    installed("(3, 9) <= v < (3, 14)")
}

/// Interpreters of versions that are not followed, where any are installed.
pub fn strange_interpreters() -> Vec<String> {
    installed("(3, 7) <= v < (3, 9)")
}

/// The interpreters whose version `v` satisfies a Python expression, each once.
fn installed(versions: &str) -> Vec<String> {
    let root = std::env::var_os("PYENV_ROOT").map(PathBuf::from);
    let root = root.or_else(|| Some(Path::new(&std::env::var_os("HOME")?).join(".pyenv")));
    let folders = root.and_then(|root| std::fs::read_dir(root.join("versions")).ok());
    let beside = folders.into_iter().flatten().flatten().map(|v| v.path().join("bin/python"));
    let named = (7..=13).map(|minor| PathBuf::from(format!("python3.{minor}")));
    let mut found: Vec<String> = [PathBuf::from("python3")]
        .into_iter()
        .chain(named)
        .chain(beside)
        .filter_map(|path| real(path.to_str()?, versions))
        .collect();
    found.sort();
    found.dedup();
    found
}

fn real(interpreter: &str, versions: &str) -> Option<String> {
    let script = format!(
        "import sys; v = sys.version_info[:2]; print(sys.executable if {versions} else '')"
    );
    let output = Command::new(interpreter).args(["-c", &script]).output().ok()?;
    let path = Path::new(String::from_utf8_lossy(&output.stdout).trim()).canonicalize().ok()?;
    Some(path.to_str()?.to_owned())
}

/// The account of Python frames, which there must be.
pub fn account(profile: &Profile) -> &PythonProvenance {
    profile.provenance.python.as_ref().unwrap_or_else(|| panic!("{}", explain(profile)))
}

/// Names of a sample's frames, from the root to the leaf; those of Python with their line.
pub fn stack(profile: &Profile, sample: &StackSample) -> Vec<String> {
    let mut names: Vec<String> = profile
        .frames_from_leaf(sample.stack)
        .map(|id| {
            let frame = profile.frame(id);
            let name = profile.function_name(frame.function);
            match (profile.function(frame.function).kind, frame.line) {
                (FunctionKind::Python, Some(line)) => format!("{name}:{line}"),
                _ => name.to_owned(),
            }
        })
        .collect();
    names.reverse();
    names
}

/// All samples' stacks, with how often each occurs.
pub fn stacks(profile: &Profile) -> BTreeMap<Vec<String>, usize> {
    let mut counts = BTreeMap::new();
    for sample in &profile.samples {
        *counts.entry(stack(profile, sample)).or_default() += 1;
    }
    counts
}

/// How many samples have a frame that begins so.
pub fn count(profile: &Profile, name: &str) -> usize {
    let has = |stack: &[String]| stack.iter().any(|frame| frame.starts_with(name));
    stacks(profile).iter().filter(|(stack, _)| has(stack)).map(|(_, count)| count).sum()
}

/// How many samples have frames that begin so next to each other, the caller first.
pub fn count_calls(profile: &Profile, caller: &str, callee: &str) -> usize {
    let has = |stack: &[String]| {
        stack.windows(2).any(|pair| pair[0].starts_with(caller) && pair[1].starts_with(callee))
    };
    stacks(profile).iter().filter(|(stack, _)| has(stack)).map(|(_, count)| count).sum()
}

/// Asserts that `part` of `part + rest` samples is within four standard errors of a share.
pub fn assert_share(profile: &Profile, part: usize, rest: usize, expected: f64) {
    let total = (part + rest) as f64;
    assert!(total > 200.0, "{}", explain(profile));
    let (share, error) = (part as f64 / total, (expected * (1.0 - expected) / total).sqrt());
    assert!((share - expected).abs() < 4.0 * error, "{share} +- {error}: {}", explain(profile));
}

/// Asserts that as many samples came as are due for the CPU time, but for a share; and that they weigh as much.
pub fn assert_counted_once(profile: &Profile, tolerance: f64) {
    let account = &profile.provenance;
    let due = account.target_cpu_ns as f64 / 1e9 * account.rate_hz;
    let came = profile.samples.len() as f64 / due;
    let weight = profile.total_weight() as f64 / account.target_cpu_ns as f64;
    for ratio in [came, weight] {
        // Where the kernel may not be sampled, its time gives no samples.
        let is_enough = ratio > 1.0 - tolerance || !account.kernel;
        assert!(is_enough && ratio < 1.0 + tolerance, "{ratio}: {}", explain(profile));
    }
}

/// The account of a profile and its commonest stacks.
pub fn explain(profile: &Profile) -> String {
    let mut stacks: Vec<_> = stacks(profile).into_iter().collect();
    stacks.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let lines =
        stacks.iter().take(25).map(|(stack, count)| format!("{count}: {}", stack.join(" ")));
    format!("{:#?}\n{}", profile.provenance, lines.collect::<Vec<_>>().join("\n"))
}
