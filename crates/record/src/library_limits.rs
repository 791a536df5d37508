//! Limits of the target that simprof's library may have reached: a failure that happens only under simprof must not look
//! like one of the target.

use simprof_model::{Notice, NoticeId};
use simprof_preload::{format, heap};

use crate::Outcome;

/// Returns a notice if a target that failed may have failed because of the library in it. `records_heap` is whether that is the
/// library that records allocations.
pub fn notice(outcome: &Outcome, records_heap: bool) -> Option<Notice> {
    match outcome {
        Outcome::Signalled { signal: libc::SIGSYS, .. } => Some(Notice::new(
            NoticeId::KilledByFilter,
            "A seccomp filter killed the target. simprof's library in it makes system calls too, and only knows filters that are \
             installed through the C library. If the target survives without simprof, record it without the filter.",
        )),
        Outcome::Exited(0) | Outcome::TimedOut | Outcome::Cancelled => None,
        _ => address_space_limit().map(|limit| shared_limit(limit, records_heap)),
    }
}

fn shared_limit(limit: u64, records_heap: bool) -> Notice {
    let heap_bytes = if records_heap { heap::format::offset::END } else { 0 };
    let (limit, used) = (limit >> 20, (heap_bytes + format::offset::END) >> 20);
    let text = format!(
        "The target failed under a limit of {limit} MiB of address space (`ulimit -v`), of which simprof's library uses up to \
         {used} MiB. If the target succeeds without simprof, raise the limit by that much."
    );
    Notice::new(NoticeId::LimitShared, text)
}

/// Returns the limit of address space that the target inherits, bytes; `None` if there is none.
fn address_space_limit() -> Option<u64> {
    let mut limit = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: 0 };
    // SAFETY: `limit` is a valid `rlimit` to write to.
    unsafe { libc::getrlimit(libc::RLIMIT_AS, &raw mut limit) };
    (limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_failures_that_the_library_may_have_caused_are_reported() {
        let signalled = |signal| Outcome::Signalled { signal, core_dumped: false };
        let id = |outcome| notice(&outcome, true).map(|notice| notice.id);
        assert_eq!(id(signalled(libc::SIGSYS)), Some(NoticeId::KilledByFilter));
        assert_eq!(id(Outcome::Exited(0)), None);
        let limited = address_space_limit().map(|_| NoticeId::LimitShared);
        assert_eq!(id(Outcome::Exited(1)), limited);
        assert_eq!(id(signalled(libc::SIGABRT)), limited);
        let text = shared_limit(1 << 30, true).text;
        assert!(text.contains("1024 MiB"), "{text}");
    }
}
