//! What simprof supports: versions of CPython and of the kernel. Checks, messages and tests take them from here.
//!
//! Each fact is a number and a text, since this is also compiled without a standard library, which could format
//! the number. A test compares them.

/// Oldest minor version of CPython 3 whose frames are read.
pub const OLDEST_CPYTHON_MINOR: u32 = 9;
/// Newest minor version of CPython 3 whose frames are read.
pub const NEWEST_CPYTHON_MINOR: u32 = 14;
/// The versions of CPython whose frames are read, for people.
pub const CPYTHON: &str = "CPython 3.9 to 3.14";

/// First kernel that can signal each sample to the sampled thread, which Python frames need (`perf_event_attr.sigtrap`).
pub const PYTHON_FRAMES_KERNEL: (u32, u32) = (5, 13);
/// The same, for people.
pub const PYTHON_FRAMES_LINUX: &str = "Linux 5.13 or later";

/// First kernel that delivers the signal of a sample in a system call after that call. On older ones it would interrupt
/// the call, so Python processes are sampled in user code only.
pub const PYTHON_KERNEL_TIME_KERNEL: (u32, u32) = (6, 1);
/// The same, for people.
pub const PYTHON_KERNEL_TIME_LINUX: &str = "Linux 6.1 or later";

/// Returns whether the frames of CPython 3.`minor` are read.
pub const fn is_supported_cpython(minor: u32) -> bool {
    OLDEST_CPYTHON_MINOR <= minor && minor <= NEWEST_CPYTHON_MINOR
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::python::layout;

    #[test]
    fn texts_agree_with_numbers() {
        assert_eq!(
            CPYTHON,
            format!("CPython 3.{OLDEST_CPYTHON_MINOR} to 3.{NEWEST_CPYTHON_MINOR}")
        );
        let linux = |(major, minor): (u32, u32)| format!("Linux {major}.{minor} or later");
        assert_eq!(PYTHON_FRAMES_LINUX, linux(PYTHON_FRAMES_KERNEL));
        assert_eq!(PYTHON_KERNEL_TIME_LINUX, linux(PYTHON_KERNEL_TIME_KERNEL));
    }

    #[test]
    fn exactly_the_supported_versions_have_a_layout() {
        for minor in 0..40 {
            let version = 0x0300_00f0 | minor << 16;
            assert_eq!(layout::table(version).is_some(), is_supported_cpython(minor), "3.{minor}");
        }
    }
}
