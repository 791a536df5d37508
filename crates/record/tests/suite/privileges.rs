//! What an ordinary user can record, and how the machine is probed.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use simprof_model::{NoticeId, has_notice};
use simprof_record::sample::{SampleError, Sampler, probe_events};
use simprof_testkit::{TestFolder, is_root};

use crate::support::{Blocked, SAMPLING, explain, profile, samples_with};

/// The variable that is set in the child process of a test, which runs as another user or in a sandbox.
const INSIDE: &str = "SIMPROF_TEST_INSIDE";
/// The user `nobody`.
const NOBODY: u32 = 65534;

const WORK: &str = r#"
#include <stdint.h>
static volatile uint64_t sink;
__attribute__((noinline)) void spin(uint64_t n) { for (uint64_t i = 0; i < n; i++) sink += i; }
int main(void) { spin(200000000); return 0; }
"#;

#[test]
fn an_ordinary_user_samples_their_own_programs() {
    if is_root() && std::env::var_os(INSIDE).is_none() {
        return run_as_nobody("an_ordinary_user_samples_their_own_programs");
    }
    let folder = TestFolder::new();
    let program = folder.compile_c("own", WORK, &["-O2", "-g"]);
    let Some(profile) = profile(&[&program]) else { return };
    assert!(samples_with(&profile, "spin").len() > 50, "{}", explain(&profile));
    let account = &profile.provenance;
    if paranoid() >= 2 && !is_root() {
        assert!(!account.kernel, "{}", explain(&profile));
        assert!(account.fallbacks.iter().any(|refusal| refusal.contains("perf_event_paranoid")));
        assert!(has_notice(&account.notices, NoticeId::KernelNotSampled));
    }
}

#[test]
fn a_sandbox_that_forbids_perf_events_is_recognised() {
    let test = "a_sandbox_that_forbids_perf_events_is_recognised";
    let Some(errno) = std::env::var_os(INSIDE) else {
        for errno in [libc::EPERM, libc::ENOSYS] {
            run_again(test, &errno.to_string(), |command| {
                // SAFETY: between fork and exec, the closure makes system calls only.
                unsafe { command.pre_exec(move || forbid_perf_events(errno)) };
            });
        }
        return;
    };
    let errno: i32 = errno.to_str().and_then(|text| text.parse().ok()).expect("set by the caller");
    let child = Blocked::new(&["/bin/true"]);
    let error = Sampler::open(child.pid, &SAMPLING).expect_err("all events are forbidden");
    child.run();
    let SampleError::Refused { refusals, hint, .. } = &error else { panic!("{error:?}") };
    let events: Vec<_> = refusals.iter().map(|refusal| refusal.event.as_str()).collect();
    assert_eq!(events, ["cycles:uk", "cycles:u", "cpu-clock:uk", "cpu-clock:u"]);
    assert!(refusals.iter().all(|refusal| refusal.errno == errno), "{error}");
    let fix = if errno == libc::EPERM { "--cap-add PERFMON" } else { "CONFIG_PERF_EVENTS" };
    assert!(hint.contains(fix), "{error}");
    assert!(probe_events().iter().all(|probe| probe.result.is_err()));
}

/// Makes `perf_event_open` fail with `errno` for this process, as a container's seccomp filter does.
fn forbid_perf_events(errno: i32) -> std::io::Result<()> {
    let number = u32::try_from(libc::SYS_perf_event_open).expect("a system call's number");
    let denial = libc::SECCOMP_RET_ERRNO | u32::try_from(errno).expect("positive");
    let filter = |code: u32, jt, jf, k| libc::sock_filter {
        code: u16::try_from(code).expect("a 16-bit code"),
        jt,
        jf,
        k,
    };
    let mut program = [
        filter(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        filter(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, number),
        filter(libc::BPF_RET | libc::BPF_K, 0, 0, denial),
        filter(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: 4, filter: program.as_mut_ptr() };
    // SAFETY: the program outlives the call, which copies it.
    let denied = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
            | libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program)
    };
    if denied == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

/// Runs a test of this file again, as a user without privileges.
fn run_as_nobody(test: &str) {
    run_again(test, "1", |command| {
        command.uid(NOBODY).gid(NOBODY);
    });
}

/// Runs a test of this file again in a child process, which `prepare` sets up. `inside` is the value of [`INSIDE`].
fn run_again(test: &str, inside: &str, prepare: impl FnOnce(&mut Command)) {
    let folder = TestFolder::new();
    let world = std::fs::Permissions::from_mode(0o777);
    std::fs::set_permissions(folder.root(), world).expect("the folder belongs to this test");
    let copy = folder.copy_program(std::env::current_exe().expect("a process knows it"), "tests");
    let mut command = Command::new(&copy);
    command
        .args(["--exact", &format!("privileges::{test}"), "--nocapture"])
        .env(INSIDE, inside)
        .env("TMPDIR", folder.root())
        .current_dir(folder.root());
    prepare(&mut command);
    let output = command.output().expect("it starts");
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.contains("1 passed"), "{out}\n{err}");
}

fn paranoid() -> i32 {
    let text = std::fs::read_to_string("/proc/sys/kernel/perf_event_paranoid");
    text.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(i32::MAX)
}

#[test]
fn every_event_of_the_fallback_order_is_probed() {
    let probes = probe_events();
    let events: Vec<_> = probes.iter().map(|probe| probe.event.as_str()).collect();
    assert_eq!(events, ["cycles:uk", "cycles:u", "cpu-clock:uk", "cpu-clock:u"]);
    for probe in probes {
        assert!(probe.result.as_ref().err().is_none_or(|reason| !reason.is_empty()), "{probe:?}");
    }
}
