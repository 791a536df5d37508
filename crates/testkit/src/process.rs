//! Running programs, looking at processes, and waiting.

use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// Time after which a test gives up waiting. It is long enough for a slow machine.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Runs a command that must succeed, and returns its output.
pub fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}: {stderr}", output.status);
    output
}

/// Waits until `condition` returns a value. Panics after [`PATIENCE`].
pub fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(begin.elapsed() < PATIENCE, "timed out waiting for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Returns whether a process exists and is not a zombie.
pub fn is_alive(pid: u32) -> bool {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    text.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(['Z', 'X']))
}

/// Waits until none of the processes is alive.
pub fn wait_for_end(pids: &[u32]) {
    wait_for("the end of all processes", || pids.iter().all(|&pid| !is_alive(pid)).then_some(()));
}

/// Returns whether the test runs as root.
pub fn is_root() -> bool {
    // SAFETY: geteuid touches no memory and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// Returns the living processes that have `variable`, a text `NAME=VALUE`, in their environment.
pub fn with_variable(variable: &str) -> Vec<u32> {
    let has_variable = |pid: &u32| {
        // The environment of a zombie is empty, and that of an ended process cannot be read.
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|&byte| byte == 0).any(|found| found == variable.as_bytes())
    };
    let entries = std::fs::read_dir("/proc").expect("/proc is mounted");
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(has_variable).collect()
}
