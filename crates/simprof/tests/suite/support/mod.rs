//! Workspaces to run simprof in, programs to profile, and assertions on results.

mod programs;
mod truth;
mod workspace;

use std::fs;
use std::sync::OnceLock;

pub use programs::{
    c_program, c_program_with, marked_line, python_program, rust_program, rust_program_with,
    stripped,
};
use serde_json::Value;
use simprof_testkit::cache::cached_folder;
use simprof_testkit::{is_root, packages};
pub use truth::{assert_share, truth, truth_file};
pub use workspace::{Done, Started, Workspace};

/// Flags for a short recording. The rate is 5000 samples per second of CPU time.
pub const FAST: [&str; 3] = ["--quick", "--rate", "5000"];

/// Returns the Python of a virtual environment with the packages of `tests/programs/requirements.txt`.
pub fn python_with_packages() -> String {
    packages::python_with_packages().into_os_string().into_string().expect("the path is UTF-8")
}

/// Records a program in phase 1.
pub fn record_stacks(workspace: &Workspace, command: &[&str]) -> Done {
    let mut arguments = vec!["run", "--phase", "1"];
    arguments.extend(FAST);
    arguments.push("--");
    arguments.extend(command);
    workspace.simprof(&arguments)
}

/// Returns whether `simprof doctor` reports that this machine allows sampling. Prints the reason if not.
pub fn sampling_allowed() -> bool {
    static ALLOWED: OnceLock<bool> = OnceLock::new();
    *ALLOWED.get_or_init(|| {
        // Trying all events takes seconds, and nextest runs each test in another process.
        let exe = fs::metadata(env!("CARGO_BIN_EXE_simprof")).expect("it was built");
        let paranoid = fs::read_to_string("/proc/sys/kernel/perf_event_paranoid").ok();
        let key = (exe.len(), exe.modified().ok(), paranoid, is_root());
        let folder = cached_folder("sampling-allowed", key, |folder| {
            let done = Workspace::new().simprof(&["doctor", "--json"]);
            fs::write(folder.join("doctor.json"), done.stdout).expect("the cache can be written");
        });
        let text = fs::read_to_string(folder.join("doctor.json")).expect("it was written");
        let rows: Vec<Value> = serde_json::from_str(&text).expect("JSON");
        let row =
            rows.iter().find(|row| row["name"] == "sampled stacks").expect("doctor checks it");
        let allowed = row["state"] != "missing";
        if !allowed {
            eprintln!("stacks cannot be sampled here: {}", row["detail"]);
        }
        allowed
    })
}

/// Returns whether stacks were sampled, and asserts that the command succeeded. If the machine does not allow sampling, asserts that
/// the command failed with the reason, and returns `false`; the test then ends early.
pub fn sampled(done: &Done) -> bool {
    if sampling_allowed() {
        done.assert_status(0);
        return true;
    }
    done.assert_status(1);
    assert!(done.stderr.contains("perf_event"), "the reason is missing: {}", done.stderr);
    false
}

/// Returns whether a document contains the text of a notice with this id. The text is taken from a summary or a part of one.
///
/// Markup and line breaks are ignored.
pub fn shows_notice(document: &str, summary: &Value, id: &str) -> bool {
    let words = |text: &str| {
        let plain: String =
            text.chars().filter(|c| c.is_alphanumeric() || *c == ' ' || *c == '\n').collect();
        plain.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let document = words(document);
    let notices = summary["notices"].as_array().expect("notices").iter();
    let mut texts =
        notices.filter(|notice| notice["id"] == id).filter_map(|notice| notice["text"].as_str());
    texts.any(|text| document.contains(&words(text)))
}

/// Returns whether a summary, or a part of one, has a notice with this id.
pub fn has_notice(summary: &Value, id: &str) -> bool {
    let notices = summary["notices"].as_array().expect("notices");
    notices.iter().any(|notice| notice["id"] == id)
}
