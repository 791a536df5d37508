//! Raises the limit of open files: each process that runs Python needs an event per CPU and thread, which may be more than the
//! usual limit of 1,024.

use std::sync::OnceLock;

/// The soft limit of this process before it was raised.
static ORIGINAL: OnceLock<libc::rlim_t> = OnceLock::new();

/// Raises the soft limit to the hard limit, which needs no privileges. Returns whether the limit is now higher.
pub fn raise() -> bool {
    let Some(mut limit) = get() else { return false };
    if limit.rlim_cur >= limit.rlim_max {
        return false;
    }
    ORIGINAL.get_or_init(|| limit.rlim_cur);
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: `limit` is a complete structure, which the call only reads.
    unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) == 0 }
}

/// Returns the soft limit that targets must get if the limit of this process was raised: profiling must not change theirs.
pub fn original() -> Option<u64> {
    ORIGINAL.get().copied()
}

fn get() -> Option<libc::rlimit> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a complete structure, to which the call writes.
    (unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } == 0).then_some(limit)
}
