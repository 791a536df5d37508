//! The versions of CPython that simprof follows.

/// The oldest minor version of CPython 3 that simprof follows.
pub const OLDEST_MINOR: u32 = 9;
/// The newest minor version of CPython 3 that simprof follows.
pub const NEWEST_MINOR: u32 = 14;

/// Returns whether simprof follows a version of CPython (major, minor) that has the global interpreter lock.
pub fn is_supported(version: (u32, u32)) -> bool {
    ((3, OLDEST_MINOR)..=(3, NEWEST_MINOR)).contains(&version)
}
