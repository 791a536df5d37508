//! Looks for processes by a mark in their environment, which whatever they start inherits.

/// The variable that holds the mark.
pub const MARK: &str = "SIMPROF_TEST_MARK";

/// Processes that carry the mark and are alive.
pub fn with_mark(mark: &str) -> Vec<u32> {
    let wanted = format!("{MARK}={mark}").into_bytes();
    let carries = |pid: &u32| {
        // That of a zombie is empty, and that of a process that has gone cannot be read.
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|&byte| byte == 0).any(|variable| variable == wanted)
    };
    let entries = std::fs::read_dir("/proc").expect("there is a /proc");
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(carries)
        .collect()
}

/// Whether this test runs as root.
pub fn is_root() -> bool {
    // SAFETY: geteuid touches no memory and cannot fail.
    unsafe { libc::geteuid() == 0 }
}
