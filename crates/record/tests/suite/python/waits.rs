//! What Python threads wait for, and where.

use simprof_model::{Profile, StackSample, WaitCause};
use simprof_testkit::{python, pythons};

use super::support::{explain, profile, stack};
use crate::support::Fixture;

/// Returns the seconds of waits with this cause in stacks that contain the frame.
fn waited(profile: &Profile, cause: WaitCause, frame: &str) -> f64 {
    let has = |wait: &&simprof_model::WaitSample| {
        let (thread, stack_id) = (wait.thread, wait.stack);
        let sample = StackSample { time_ns: wait.time_ns, thread, stack: stack_id, weight: 0 };
        wait.cause == cause && stack(profile, &sample).iter().any(|name| name == frame)
    };
    profile.waits.iter().filter(has).map(|wait| wait.weight_ns as f64 / 1e9).sum()
}

const WAITS: &str = "\
import os, select, subprocess, threading, time
def nap():
    for _ in range(20):
        time.sleep(0.02)
lock = threading.Lock()
def hold():
    with lock:
        time.sleep(0.3)
def want():
    with lock:
        pass
def ask():
    reader, writer = os.pipe()
    select.select([reader], [], [], 0.3)
    threading.Timer(0.3, os.write, (writer, b'x')).start()
    os.read(reader, 1)
def child():
    subprocess.run(['sleep', '0.3'])
nap()
holder = threading.Thread(target=hold)
holder.start()
while not lock.locked():
    pass
want()
holder.join()
ask()
child()
";

#[test]
fn waits_are_attributed_to_cause_and_line() {
    let folder = Fixture::new();
    let script = folder.write("waits.py", WAITS);
    for python in pythons() {
        let python = python.text();
        let Some(profile) = profile(&folder, &[python, &script]) else { return };
        let table = [
            (WaitCause::Sleep, "waits.nap:4", 0.4),
            (WaitCause::Sleep, "waits.hold:8", 0.3),
            (WaitCause::Synchronisation, "waits.want:10", 0.28),
            (WaitCause::Events, "waits.ask:14", 0.3),
            (WaitCause::Io, "waits.ask:16", 0.28),
            (WaitCause::Child, "waits.child:18", 0.28),
        ];
        for (cause, frame, least) in table {
            let waited = waited(&profile, cause, frame);
            assert!(
                waited >= 0.95 * least,
                "{waited} s for {cause:?} at {frame}: {}",
                explain(&profile)
            );
        }
        let start = profile.samples.first().map_or(0, |sample| sample.time_ns);
        assert!(profile.waits.iter().all(|wait| wait.time_ns >= start.saturating_sub(1 << 30)));
    }
}

const GIL: &str = "\
import threading
def spin():
    x = 0
    for i in range(4000000):
        x += i
threads = [threading.Thread(target=spin) for _ in range(2)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
";

#[test]
fn two_threads_that_compute_wait_for_the_interpreter() {
    let folder = Fixture::new();
    let script = folder.write("gil.py", GIL);
    let Some(profile) = profile(&folder, &[python().text(), &script]) else { return };
    let waited: f64 = ["gil.spin:4", "gil.spin:5"]
        .map(|frame| waited(&profile, WaitCause::Interpreter, frame))
        .iter()
        .sum();
    // While one thread runs the other waits, so together they wait about as long as they compute.
    let computed = profile.provenance.target_cpu_ns as f64 / 1e9;
    assert!(waited > 0.3 * computed, "{waited} of {computed}: {}", explain(&profile));
}
