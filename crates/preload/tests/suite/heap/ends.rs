//! Programs that are killed, missing readers, and programs that the library must not record.

use std::collections::HashMap;
use std::mem::offset_of;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::Ordering;

use simprof_preload::heap::format::{Kind, LANES, Lane, offset, reason, state};

use crate::heap::programs::compiled;
use crate::heap::recorder::{
    Memory, Options, Reader, Recording, program, record, record_at, record_until, run,
};

/// Whenever the program is killed, every record is complete and consistent with the records before it.
#[test]
fn a_killed_program_leaves_complete_records() {
    let path = compiled("endless.c", &["-O2", "-pthread"]);
    let mut read = 0;
    for round in 0..20 {
        let options = if round % 2 == 0 { Options::EXACT } else { Options::sampled(10_000, round) };
        // The program is killed at different times, in the first round right after its start.
        let recording = record_until(&mut program(&path), options, Some(round as usize * 97));
        assert!(!recording.output.status.success());
        // Each of the four threads can be killed in one operation, which writes up to two records.
        let unwritten = recording.lost;
        if round % 2 == 0 {
            assert!(unwritten <= 2 * 4);
        }
        if unwritten == 0 {
            recording.check();
        }
        read += recording.events.len();
    }
    assert!(read > 10_000);
}

#[test]
fn exact_recording_stops_without_a_reader() {
    let path = compiled("family.c", &["-O2"]);
    let options = Options { reads: false, ..Options::EXACT };
    let recording = record(program(&path).env("ROUNDS", "400"), options);
    assert_eq!(recording.output.status.code(), Some(3));
    assert_ne!(recording.memory.header().abandoned.load(Ordering::Relaxed), 0);
}

#[test]
fn sampled_recording_counts_losses_without_a_reader() {
    let path = compiled("sizes.c", &["-O2"]);
    let options = Options { reads: false, ..Options::sampled(100, 0) };
    let recording = record(&mut program(&path), options);
    assert_eq!(recording.output.status.code(), Some(0));
    assert!(recording.lost > 1_000_000);
    assert_eq!(recording.memory.header().abandoned.load(Ordering::Relaxed), 0);
}

/// If the ring is full, both halves of a `realloc` are lost, and so is the later free of its result.
#[test]
fn lost_allocations_have_no_later_records() {
    let path = compiled("full.c", &["-O1", "-fno-builtin"]);
    let fields = [offset_of!(Lane, next), offset_of!(Lane, taken)];
    let fields = fields.map(|field| (offset::LANES + field).to_string());
    // At this interval every block of that size is sampled. Unlike in exact mode, no thread waits for a reader.
    let options = Options { reads: false, ..Options::sampled(2, 0) };
    let memory = Memory::new(options);
    let (output, _) = run(program(&path).args(fields), &memory, false, |_| {}, &mut |_| {});
    assert_eq!(output.status.code(), Some(0));
    let mut counts = HashMap::new();
    Reader::new(&memory)
        .drain(true, &mut |event| *counts.entry((event.kind, event.size)).or_insert(0) += 1);
    let reallocated = [Kind::Alloc, Kind::Free].map(|kind| counts.get(&(kind, 2000)).copied());
    assert!(reallocated[0] > Some(1000) && reallocated[0] < Some(20_000), "{reallocated:?}");
    assert_eq!(reallocated[0], reallocated[1]);
}

#[test]
fn a_sanitized_program_is_not_recorded() {
    sanitized(&[], reason::OWN_MALLOC);
    // If the program exports its symbols, the sanitizer is recognised by name.
    sanitized(&["-rdynamic"], reason::SANITIZER);
}

fn sanitized(arguments: &[&str], expected: u32) {
    let sanitizer = ["-fsanitize=address", "-static-libasan"];
    let path = compiled("family.c", &[&sanitizer, arguments].concat());
    let options = "allocator_may_return_null=1:detect_leaks=0:alloc_dealloc_mismatch=0";
    let plain = program(&path).env("ASAN_OPTIONS", options).output().expect("it runs");
    let recording = record(program(&path).env("ASAN_OPTIONS", options), Options::EXACT);
    assert_eq!(recording.output.status, plain.status);
    assert_eq!(recording.output.stdout, plain.stdout);
    assert!(recording.events.is_empty());
    let processes = recording.memory.processes();
    assert_eq!(processes.len(), 1);
    assert_eq!(processes[0].state.load(Ordering::Relaxed), state::UNSUPPORTED);
    assert_eq!(processes[0].reason.load(Ordering::Relaxed), expected);
}

/// The stack pointer of the interrupted program is invalid. The handler still ends the program, as without the library.
#[test]
fn a_signal_handler_may_allocate_if_the_stack_pointer_is_invalid() {
    let path = compiled("lost_stack.c", &["-O1"]);
    for stack_pointer in ["10", "7fff0000", "dead000000000008", "fffffffffffffff8"] {
        let recording = record(program(&path).arg(stack_pointer), Options::EXACT);
        assert_eq!(
            recording.output.status.code(),
            Some(7),
            "{stack_pointer}: {:?}",
            recording.output
        );
        recording.check();
        assert_eq!(recording.totals(|event| event.size == 12345).allocated_count, 1.0);
    }
}

/// If the address space is limited, the library's table of live allocations leaves most of it to the program.
#[test]
fn a_program_with_limited_address_space_can_still_allocate() {
    let recording =
        record(&mut program(&compiled("confined.c", &["-O1", "-fno-builtin"])), Options::EXACT);
    assert_eq!(recording.output.status.code(), Some(5), "{:?}", recording.output);
    recording.check();
    assert_ne!(recording.memory.header().live_full.load(Ordering::Relaxed), 0);
}

/// Returns a program whose address space is limited to this many MiB.
fn limited(path: &Path, limit_mib: libc::rlim_t) -> Command {
    let mut command = program(path);
    let limit = libc::rlimit { rlim_cur: limit_mib << 20, rlim_max: limit_mib << 20 };
    // SAFETY: setrlimit may be called between fork and exec.
    unsafe {
        command.pre_exec(move || {
            libc::setrlimit(libc::RLIMIT_AS, &raw const limit);
            Ok(())
        });
    }
    command
}

#[test]
fn a_program_with_too_little_address_space_is_not_recorded() {
    let path = compiled("family.c", &["-O2"]);
    let plain = limited(&path, 50).output().expect("it runs");
    let recording = record(&mut limited(&path, 50), Options::EXACT);
    assert_eq!((recording.output.status, &recording.output.stdout), (plain.status, &plain.stdout));
    assert!(recording.events.is_empty() && recording.stderr().is_empty());
    let processes = recording.memory.processes();
    let [process] = processes.as_slice() else { panic!("{}", processes.len()) };
    assert_eq!(process.state.load(Ordering::Relaxed), state::UNSUPPORTED);
    assert_eq!(process.reason.load(Ordering::Relaxed), reason::LIMITED);
}

/// The limit does not leave space for the second generation of the tables, which has more ring buffers: all threads share one.
#[test]
fn threads_share_a_ring_buffer_if_the_address_space_is_limited() {
    let path = compiled("six_threads.c", &["-O1", "-fno-builtin", "-pthread"]);
    let lanes = |recording: &Recording| {
        let used = |&lane: &usize| recording.memory.lane(lane).next.load(Ordering::Relaxed) != 0;
        (0..LANES).filter(used).count()
    };
    let free = record(&mut program(&path), Options::EXACT);
    let recording = record(&mut limited(&path, 300), Options::EXACT);
    for recording in [&free, &recording] {
        assert!(recording.output.status.success(), "{:?}", recording.output);
        recording.check();
    }
    assert!(lanes(&free) > 1);
    assert_eq!(lanes(&recording), 1);
    let count = recording.totals(|event| event.size == 123).allocated_count;
    assert_eq!(count, 6.0 * 1000.0);
}

#[test]
fn allocations_in_dlsym_fail_during_the_lookup() {
    let path = compiled("old_loader.c", &["-O0", "-fno-builtin", "-rdynamic"]);
    let recording = record(&mut program(&path), Options::EXACT);
    assert_eq!(recording.output.status.code(), Some(6), "{:?}", recording.output);
    for size in [4321, 1234] {
        assert_eq!(recording.totals(|event| event.size == size).allocated_count, 1.0, "{size}");
    }
}

#[test]
fn errno_is_not_changed() {
    let path = compiled("errno.c", &["-O1", "-fno-builtin"]);
    for options in [Options::EXACT, Options::sampled(1000, 1)] {
        let mut command = program(&path);
        // A failed lookup of a path from the environment must not change errno either.
        let recording = record(command.env("SIMPROF_PRELOAD", "/nonexistent"), options);
        assert_eq!(recording.output.status.code(), Some(0), "{options:?}");
        assert!(!recording.events.is_empty());
    }
}

#[test]
fn a_program_without_shared_memory_runs_unchanged() {
    let path = compiled("family.c", &["-O2"]);
    let plain = program(&path).output().expect("it runs");
    // This file does not have the length of the format.
    let recording = record_at(&mut program(&path), "/dev/null");
    assert_eq!(recording.status, plain.status);
    assert_eq!(recording.stdout, plain.stdout);
    assert_eq!(recording.stderr, plain.stderr);
}
