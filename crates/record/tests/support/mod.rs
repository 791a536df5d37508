//! Builds small programs, runs them under the sampler, and asks the profile about them.

#![allow(dead_code, reason = "each test binary uses a part")]

use std::ffi::CString;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use simprof_model::{FrameId, Profile, StackSample};
use simprof_record::sample::{Recorder, SampleError, Sampler, Sampling};

/// What the tests ask for unless they say otherwise.
pub const SAMPLING: Sampling =
    Sampling { rate_hz: 1000, stack_bytes: 16384, kernel: true, recorder: Recorder::Auto };

/// A directory for one test's programs, removed at the end.
pub fn directory() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

/// Compiles a C program and returns its path.
pub fn compile_c(directory: &Path, name: &str, source: &str, flags: &[&str]) -> PathBuf {
    let file = directory.join(format!("{name}.c"));
    std::fs::write(&file, source).expect("the source is written");
    let program = directory.join(name);
    run(Command::new("cc").arg(&file).arg("-o").arg(&program).args(flags));
    program
}

/// Copies a program, by another process: where this one had it open for writing, a child that another test forks
/// meanwhile would hold it open, and it could not be executed ("text file busy").
pub fn copy_program(from: &Path, to: &Path) {
    run(Command::new("cp").arg(from).arg(to));
}

/// Runs a command that must succeed.
pub fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {message}");
}

/// A child that waits to be told to execute its program.
pub struct Blocked {
    pub pid: u32,
    start: io::PipeWriter,
}

impl Blocked {
    /// Forks a child that will execute `argv`.
    pub fn new(argv: &[&Path]) -> Self {
        let words: Vec<CString> = argv
            .iter()
            .map(|word| CString::new(word.as_os_str().as_bytes()).expect("no nul"))
            .collect();
        let mut pointers: Vec<_> = words.iter().map(|word| word.as_ptr()).collect();
        pointers.push(std::ptr::null());
        let (waiting, start) = io::pipe().expect("a pipe");
        let mut byte = [0_u8];
        // SAFETY: the child calls only what is safe after a fork of a process with threads.
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

    /// Lets it execute, waits for its end, and returns the CPU time that it used, ns.
    pub fn run(mut self) -> u64 {
        self.start.write_all(&[0]).expect("the child waits");
        self.wait()
    }

    /// Waits for the child's end, without letting it execute where it has not been let yet.
    fn wait(self) -> u64 {
        let pid = i32::try_from(self.pid).expect("a process id");
        drop(self.start);
        // SAFETY: both structures are ours, and zero is a valid value of theirs.
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

/// Profiles a program.
///
/// None where this system allows no sampling at all: the refusal is then checked and printed.
pub fn profile_with(sampling: &Sampling, argv: &[&Path]) -> Option<Profile> {
    let child = Blocked::new(argv);
    match Sampler::open(child.pid, sampling) {
        Ok(sampler) => {
            let cpu_ns = child.run();
            let samples = sampler.finish(cpu_ns).expect("the recording ends well");
            Some(simprof_record::sample::symbolise(vec![samples]))
        }
        Err(error) => {
            child.run();
            check_refusal(&error);
            None
        }
    }
}

/// Profiles a program as the tests do by default.
pub fn profile(argv: &[&Path]) -> Option<Profile> {
    profile_with(&SAMPLING, argv)
}

/// A refusal names every event that was tried, and a mend.
fn check_refusal(error: &SampleError) {
    eprintln!("not sampled here: {error}");
    let SampleError::Refused { refusals, hint, .. } = error else { panic!("{error:?}") };
    assert!(!refusals.is_empty() && !hint.is_empty(), "{error:?}");
    assert!(refusals.iter().all(|refusal| refusal.errno != 0 && !refusal.reason.is_empty()));
}

/// Names of the functions of a sample's stack, from leaf to root.
pub fn names<'p>(profile: &'p Profile, sample: &StackSample) -> Vec<&'p str> {
    frames(profile, sample)
        .map(|frame| profile.function_name(profile.frame(frame).function))
        .collect()
}

/// The frames of a sample's stack, from leaf to root.
pub fn frames(profile: &Profile, sample: &StackSample) -> impl Iterator<Item = FrameId> {
    profile.frames_from_leaf(sample.stack)
}

/// Samples in whose stack a function occurs.
pub fn samples_with<'p>(profile: &'p Profile, function: &str) -> Vec<&'p StackSample> {
    profile.samples.iter().filter(|sample| names(profile, sample).contains(&function)).collect()
}

/// Panics with the profile's own account where a condition does not hold.
pub fn explain(profile: &Profile) -> String {
    let mut counts = std::collections::BTreeMap::<Vec<&str>, usize>::new();
    for sample in &profile.samples {
        *counts.entry(names(profile, sample)).or_default() += 1;
    }
    let mut stacks: Vec<_> = counts.into_iter().collect();
    stacks.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let stacks: Vec<_> = stacks
        .iter()
        .take(20)
        .map(|(stack, count)| format!("{count}: {}", stack.join(" < ")))
        .collect();
    format!("{:#?}\n{}", profile.provenance, stacks.join("\n"))
}
