//! Ends all descendants of this process and reaps them.

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

use crate::tree;

/// How long to wait for a process that cannot be killed, because this user may not signal it or because
/// it hangs in the kernel.
const UNKILLABLE_TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum number of rounds of looking for new processes while the others are being stopped.
const STOP_ROUNDS: usize = 20;

/// Sends SIGKILL to all descendants of this process. It stops them first, since a running process
/// may fork while the search is going on.
pub fn kill_descendants() {
    let mut stopped = std::collections::BTreeSet::new();
    for _ in 0..STOP_ROUNDS {
        let fresh: Vec<u32> = tree::descendants(std::process::id())
            .into_iter()
            .filter(|pid| stopped.insert(*pid))
            .collect();
        if fresh.is_empty() {
            break;
        }
        fresh.iter().for_each(|&pid| signal(pid, libc::SIGSTOP));
    }
    stopped.iter().for_each(|&pid| signal(pid, libc::SIGKILL));
}

/// Waits until this process has no descendants. Kills those that do not end within `grace`.
///
/// Returns the killed processes and those that could not be killed, each with id and name.
pub fn end_descendants(grace: Duration, mut wait: impl FnMut(Duration)) -> [Vec<(u32, String)>; 2] {
    let begin = Instant::now();
    let mut killed = BTreeMap::new();
    while !reap() {
        let waited = begin.elapsed();
        if waited > grace + UNKILLABLE_TIMEOUT {
            break;
        }
        if waited >= grace {
            let alive = tree::descendants(std::process::id());
            for pid in alive.into_iter().filter(|&pid| tree::is_alive(pid)) {
                killed.entry(pid).or_insert_with(|| tree::name(pid));
            }
            kill_descendants();
        }
        wait(Duration::from_millis(10));
    }
    let stuck = tree::descendants(std::process::id());
    let stuck: Vec<_> = stuck.into_iter().map(|pid| (pid, tree::name(pid))).collect();
    [killed.into_iter().collect(), stuck]
}

/// Reaps every child that has ended. Returns true if no child is left.
fn reap() -> bool {
    loop {
        // SAFETY: a null status pointer is allowed: no status is written.
        match unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) } {
            0 => return false,
            -1 if io::Error::last_os_error().raw_os_error() == Some(libc::ECHILD) => return true,
            _ => {}
        }
    }
}

fn signal(pid: u32, signal: libc::c_int) {
    // An error means that the process has gone or may not be signalled. The caller finds out when
    // it waits for the process.
    // SAFETY: the call takes no pointers.
    unsafe { libc::kill(pid as libc::pid_t, signal) };
}
