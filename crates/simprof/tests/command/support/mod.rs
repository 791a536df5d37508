//! What the tests share: places to run in, programs to run, processes to look for.

mod packages;
mod place;
mod processes;
mod programs;
mod python;
mod truth;

use std::sync::OnceLock;
use std::time::{Duration, Instant};

#[allow(unused_imports, reason = "one of the test programs that share this uses all")]
pub use packages::{install, make_environment, python_program, python_with_packages, run};
pub use place::{Done, Place, Started};
pub use processes::{is_root, with_mark};
pub use programs::{
    c_program, c_program_with, marked_line, rust_program, rust_program_with, source, stripped,
};
pub use python::{installed_pythons, python, pythons};
use serde_json::Value;
#[allow(unused_imports, reason = "one of the test programs that share this uses all")]
pub use truth::{assert_share, truth, truth_file};

/// Whatever is waited for comes sooner than this on any machine.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Flags that make a recording short: 5000 samples in a second of CPU time.
pub const FAST: [&str; 3] = ["--quick", "--rate", "5000"];

/// Returns whether a summary in JSON has a notice with this id.
pub fn has_notice(summary: &Value, id: &str) -> bool {
    let notices = summary["notices"].as_array().expect("notices");
    notices.iter().any(|notice| notice["id"] == id)
}

/// Waits until `condition` gives something.
pub fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(begin.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Whether this machine lets stacks be sampled, as `simprof doctor` says; why not is printed.
pub fn sampling_allowed() -> bool {
    static ALLOWED: OnceLock<bool> = OnceLock::new();
    *ALLOWED.get_or_init(|| {
        let done = Place::new().simprof(&["doctor", "--json"]);
        let rows: Vec<Value> = serde_json::from_str(&done.stdout).expect("JSON");
        let row = rows.iter().find(|row| row["name"] == "sampled stacks").expect("it is looked at");
        let allowed = row["state"] != "missing";
        if !allowed {
            eprintln!("stacks cannot be sampled here: {}", row["detail"]);
        }
        allowed
    })
}

/// True where a recording succeeded. Where the machine refuses to sample, the command must have
/// failed with the reason and the mend, and the test has no more to ask.
pub fn sampled(done: &Done) -> bool {
    if sampling_allowed() {
        done.assert_status(0);
        return true;
    }
    done.assert_status(1);
    assert!(done.stderr.contains("perf_event"), "the reason is named: {}", done.stderr);
    false
}
