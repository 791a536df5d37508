//! What an ordinary user gets, and what the machine says that it allows.

mod support;

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use simprof_record::sample::probe_events;
use support::{compile_c, directory, explain, profile, samples_with};

/// Set where the test runs as the user that it is about.
const INSIDE: &str = "SIMPROF_TEST_ORDINARY_USER";
/// The user `nobody`.
const NOBODY: u32 = 65534;

const WORK: &str = r#"
#include <stdint.h>
static volatile uint64_t sink;
__attribute__((noinline)) void spin(uint64_t n) { for (uint64_t i = 0; i < n; i++) sink += i; }
int main(void) { spin(200000000); return 0; }
"#;

#[test]
fn an_ordinary_user_samples_his_own_programs() {
    // SAFETY: the call has no preconditions.
    let is_root = unsafe { libc::geteuid() } == 0;
    if is_root && std::env::var_os(INSIDE).is_none() {
        return run_as_nobody("an_ordinary_user_samples_his_own_programs");
    }
    let directory = directory();
    let program = compile_c(directory.path(), "own", WORK, &["-O2", "-g"]);
    let Some(profile) = profile(&[&program]) else { return };
    assert!(samples_with(&profile, "spin").len() > 50, "{}", explain(&profile));
    let account = &profile.provenance;
    if paranoid() >= 2 && is_root == (account.event.ends_with(":uk")) && !is_root {
        assert!(!account.kernel, "{}", explain(&profile));
        assert!(account.fallbacks.iter().any(|refusal| refusal.contains("perf_event_paranoid")));
        assert!(account.warnings.iter().any(|warning| warning.contains("kernel")));
    }
}

/// Runs a test of this file again, as a user without privileges.
fn run_as_nobody(test: &str) {
    let directory = directory();
    let world = std::fs::Permissions::from_mode(0o777);
    std::fs::set_permissions(directory.path(), world).expect("it is ours");
    let copy = directory.path().join("tests");
    std::fs::copy(std::env::current_exe().expect("we run"), &copy).expect("it is copied");
    let output = Command::new(&copy)
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, "1")
        .env("TMPDIR", directory.path())
        .current_dir(directory.path())
        .uid(NOBODY)
        .gid(NOBODY)
        .output()
        .expect("it starts");
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.contains("1 passed"), "{out}\n{err}");
}

fn paranoid() -> i32 {
    let text = std::fs::read_to_string(Path::new("/proc/sys/kernel/perf_event_paranoid"));
    text.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(i32::MAX)
}

#[test]
fn every_event_of_the_ladder_is_probed() {
    let probes = probe_events();
    let events: Vec<_> = probes.iter().map(|probe| probe.event.as_str()).collect();
    assert_eq!(events, ["cycles:uk", "cycles:u", "cpu-clock:uk", "cpu-clock:u"]);
    for probe in probes {
        assert!(probe.result.as_ref().err().is_none_or(|reason| !reason.is_empty()), "{probe:?}");
    }
}
