//! Reads clocks. All times in recordings are of CLOCK_MONOTONIC.

/// Returns the time of CLOCK_MONOTONIC, ns.
pub fn now_ns() -> u64 {
    read_ns(libc::CLOCK_MONOTONIC).expect("every Linux has a monotonic clock")
}

/// Returns the CPU time of the calling thread, ns.
pub fn thread_cpu_ns() -> u64 {
    read_ns(libc::CLOCK_THREAD_CPUTIME_ID).unwrap_or(0)
}

/// Reads a clock, ns. Returns `None` if it does not exist or its process has gone.
pub fn read_ns(clock: libc::clockid_t) -> Option<u64> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid `timespec` to write to.
    let status = unsafe { libc::clock_gettime(clock, &raw mut time) };
    (status == 0).then(|| time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}
