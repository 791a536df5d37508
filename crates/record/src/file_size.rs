//! The limit on the size of files (`ulimit -f`), which also applies to memory files.

/// Makes a write beyond the limit fail instead of killing this process, so that what was measured is kept and the error is
/// reported. Targets start with the default for this signal, as for all others.
pub fn survive_file_size_limit() {
    // SAFETY: ignoring a signal runs no handler.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}
