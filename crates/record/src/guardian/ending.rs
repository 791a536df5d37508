//! Ends everything that descends from this process, and waits for it.

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

use crate::tree;

/// How long a process that cannot be killed (for want of permission, or because it hangs in the
/// kernel) holds up the rest.
const PATIENCE: Duration = Duration::from_secs(10);

/// Rounds in which new processes may appear while the others are being stopped.
const STOP_ROUNDS: usize = 20;

/// Sends SIGKILL to all that descends from this process. They are stopped first, since a process
/// that runs may fork while it is being looked for.
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

/// Waits until nothing descends from this process: what does not end within `grace` is killed.
/// Returns what had to be killed, and what could not be, by id and name.
pub fn end_descendants(grace: Duration, mut wait: impl FnMut(Duration)) -> [Vec<(u32, String)>; 2] {
    let begin = Instant::now();
    let mut killed = BTreeMap::new();
    while !reap() {
        let waited = begin.elapsed();
        if waited > grace + PATIENCE {
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

/// Waits for every child that has ended. True where none is left.
fn reap() -> bool {
    loop {
        // SAFETY: no status is asked for.
        match unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) } {
            0 => return false,
            -1 if io::Error::last_os_error().raw_os_error() == Some(libc::ECHILD) => return true,
            _ => {}
        }
    }
}

fn signal(pid: u32, signal: libc::c_int) {
    // SAFETY: no memory is involved. A process that has gone, or may not be signalled, is seen by
    // who waits for it.
    unsafe { libc::kill(pid as libc::pid_t, signal) };
}
