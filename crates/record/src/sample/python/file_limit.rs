//! The limit of open files: events need one on each CPU for each process, and more than the usual 1,024 may be wanted.

use std::sync::OnceLock;

/// The soft limit that this process had before it was raised.
static ORIGINAL: OnceLock<libc::rlim_t> = OnceLock::new();

/// Raises the soft limit to the hard one, which needs no right. False where nothing was gained.
pub fn raise() -> bool {
    let Some(mut limit) = get() else { return false };
    if limit.rlim_cur >= limit.rlim_max {
        return false;
    }
    ORIGINAL.get_or_init(|| limit.rlim_cur);
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: `limit` is a whole structure.
    unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) == 0 }
}

/// The soft limit that targets are to have, where this process's own was raised: theirs is none of our business.
pub fn original() -> Option<u64> {
    ORIGINAL.get().copied()
}

fn get() -> Option<libc::rlimit> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid place for the answer.
    (unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } == 0).then_some(limit)
}
