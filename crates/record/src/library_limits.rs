//! Limits of the target that simprof's library may have reached: a failure that happens only under simprof must not look
//! like one of the target.

use simprof_model::{Notice, NoticeId};
use simprof_preload::format::{self, mappable_bytes};
use simprof_preload::heap;

use crate::Outcome;

/// Address space of a library itself, with its static memory, rounded up.
const STATIC_BYTES: usize = 4 << 20;

/// Limits of the target's main process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TargetLimits {
    /// Bytes of address space; `None` if there is no limit, or it cannot be read.
    address_space: Option<u64>,
}

impl TargetLimits {
    /// Reads the limits of a process that runs, or has ended and was not reaped. It may have changed those that it inherited.
    pub fn of(pid: u32) -> Self {
        let mut limit = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: 0 };
        // SAFETY: no limit is passed to be set, and `limit` is a valid `rlimit` to write to.
        let status = unsafe {
            libc::prlimit(pid as libc::pid_t, libc::RLIMIT_AS, std::ptr::null(), &raw mut limit)
        };
        if status != 0 {
            let error = std::io::Error::last_os_error();
            log::warn!("cannot read the limit of address space of process {pid}: {error}");
        }
        Self { address_space: (limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur) }
    }
}

/// Returns a notice if a target that failed may have failed because of the library in it. `records_heap` is whether that is the
/// library that records allocations.
pub fn notice(outcome: &Outcome, limits: TargetLimits, records_heap: bool) -> Option<Notice> {
    match outcome {
        Outcome::Signalled { signal: libc::SIGSYS, .. } => Some(Notice::new(
            NoticeId::KilledByFilter,
            "A seccomp filter killed the target. simprof's library in it makes system calls too, and only knows filters that are \
             installed through the C library. If the target survives without simprof, record it without the filter.",
        )),
        Outcome::Exited(0) | Outcome::TimedOut | Outcome::Cancelled => None,
        _ => limits.address_space.map(|limit| shared_limit(limit, records_heap)),
    }
}

/// Returns a notice if a target failed because of its limit on the size of files: simprof writes its output to files, where it
/// might otherwise go to a terminal or a pipe.
pub fn output_notice(outcome: &Outcome) -> Option<Notice> {
    let Outcome::Signalled { signal: libc::SIGXFSZ, .. } = outcome else { return None };
    Some(Notice::new(
        NoticeId::LimitShared,
        "The target reached its limit on the size of files (`ulimit -f`). Under simprof its output goes to files too. If the \
         target succeeds without simprof, raise the limit by the size of its output.",
    ))
}

fn shared_limit(limit: u64, records_heap: bool) -> Notice {
    let used = used_bytes(limit, records_heap) >> 20;
    let limit = limit >> 20;
    let text = format!(
        "The target failed under a limit of {limit} MiB of address space (`ulimit -v`), of which simprof's library uses up to \
         {used} MiB. If the target succeeds without simprof, raise the limit by that much."
    );
    Notice::new(NoticeId::LimitShared, text)
}

/// Returns the address space that the libraries use in a process with this limit, bytes.
fn used_bytes(limit: u64, records_heap: bool) -> usize {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let python = STATIC_BYTES + mappable_bytes(format::offset::GENERATIONS, limit);
    if !records_heap {
        return python;
    }
    // The table of live allocations uses at most an eighth of what is free, each time that it grows.
    let table = limit / 8;
    python + STATIC_BYTES + mappable_bytes(heap::format::offset::GENERATIONS, limit) + table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_failures_that_the_library_may_have_caused_are_reported() {
        let signalled = |signal| Outcome::Signalled { signal, core_dumped: false };
        let limited = TargetLimits { address_space: Some(1 << 30) };
        let free = TargetLimits { address_space: None };
        let id = |outcome, limits| notice(&outcome, limits, true).map(|notice| notice.id);
        for limits in [limited, free] {
            let shared = limits.address_space.map(|_| NoticeId::LimitShared);
            assert_eq!(id(signalled(libc::SIGSYS), limits), Some(NoticeId::KilledByFilter));
            assert_eq!(id(Outcome::Exited(0), limits), None);
            assert_eq!(id(Outcome::Exited(1), limits), shared);
            assert_eq!(id(signalled(libc::SIGABRT), limits), shared);
        }
        assert!(output_notice(&signalled(libc::SIGXFSZ)).is_some());
        assert!(output_notice(&signalled(libc::SIGSEGV)).is_none());
        let text = shared_limit(1 << 30, true).text;
        assert!(text.contains("1024 MiB"), "{text}");
    }

    #[test]
    fn the_limit_of_a_process_is_read() {
        let mut own = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: `own` is a valid `rlimit` to write to.
        unsafe { libc::getrlimit(libc::RLIMIT_AS, &raw mut own) };
        let expected = (own.rlim_cur != libc::RLIM_INFINITY).then_some(own.rlim_cur);
        assert_eq!(TargetLimits::of(std::process::id()).address_space, expected);
    }

    #[test]
    fn a_lower_limit_leaves_less_to_the_library() {
        let used = |limit_mib: u64, heap| used_bytes(limit_mib << 20, heap) >> 20;
        assert!(used(100, false) <= 8, "{}", used(100, false));
        for heap in [false, true] {
            let by_limit: Vec<_> = [100, 300, 1000, 8000].map(|limit| used(limit, heap)).into();
            assert!(by_limit.is_sorted() && by_limit[0] < by_limit[3], "{by_limit:?}");
            assert!(by_limit[0] <= 40, "{by_limit:?}");
        }
    }
}
