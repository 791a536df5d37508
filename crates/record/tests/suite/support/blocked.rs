//! A child that can be prepared for sampling before it executes its program.

use std::ffi::CString;
use std::io::{self, Write};
use std::os::fd::AsRawFd;

/// A child that waits before it executes its program.
pub struct Blocked {
    pub pid: u32,
    start: io::PipeWriter,
}

impl Blocked {
    /// Forks a child that will execute `argv`.
    pub fn new(argv: &[&str]) -> Self {
        let words: Vec<CString> =
            argv.iter().map(|word| CString::new(*word).expect("no nul")).collect();
        let mut pointers: Vec<_> = words.iter().map(|word| word.as_ptr()).collect();
        pointers.push(std::ptr::null());
        let (waiting, start) = io::pipe().expect("a pipe");
        let mut byte = [0_u8];
        // SAFETY: the child only calls functions that are safe after a fork of a process with threads.
        let pid = unsafe { libc::fork() };
        assert!(pid >= 0, "fork: {}", io::Error::last_os_error());
        if pid == 0 {
            // SAFETY: as above; the buffers were made before the fork.
            unsafe {
                libc::read(waiting.as_raw_fd(), byte.as_mut_ptr().cast(), 1);
                libc::execv(pointers[0], pointers.as_ptr());
                libc::_exit(127)
            }
        }
        Self { pid: u32::try_from(pid).expect("positive"), start }
    }

    /// Lets the child execute, waits for its end, and returns the CPU time that it used, ns.
    pub fn run(mut self) -> u64 {
        self.start.write_all(&[0]).expect("the child waits");
        self.wait()
    }

    /// Waits for the child's end and returns its CPU time, ns.
    fn wait(self) -> u64 {
        let pid = i32::try_from(self.pid).expect("a process id");
        drop(self.start);
        // SAFETY: both structures are local, and zero is a valid value of each.
        let usage = unsafe {
            let mut usage: libc::rusage = std::mem::zeroed();
            let mut status = 0;
            assert_eq!(libc::wait4(pid, &raw mut status, 0, &raw mut usage), pid);
            usage
        };
        nanoseconds(usage.ru_utime) + nanoseconds(usage.ru_stime)
    }
}

fn nanoseconds(time: libc::timeval) -> u64 {
    u64::try_from(time.tv_sec * 1_000_000_000 + time.tv_usec * 1000).expect("positive")
}
