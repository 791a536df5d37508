//! Exact mode counts all allocations correctly, to the byte.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::Ordering;

use simprof_preload::heap::format::{Kind, Origin};

use crate::heap::programs::compiled;
use crate::heap::recorder::{Event, Options, Recording, Totals, program, record};

fn name_of(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).expect("tests' names are ASCII")
}

/// Compares a recording with the totals that the program printed: `[count, bytes, freed count, freed bytes]`.
fn compare_with(recording: &Recording, reported: [u64; 4], own: impl Fn(&Event) -> bool) {
    let Totals { allocated_count, allocated_bytes, live_count, live_bytes, .. } =
        recording.totals(&own);
    let freed = [allocated_count - live_count, allocated_bytes - live_bytes];
    let found = [allocated_count, allocated_bytes, freed[0], freed[1]].map(|value| value as u64);
    assert_eq!(found, reported);
    assert!(reported[0] > 0);
}

/// Compares a recording with the totals that the program printed. The program's own calls are those with a frame of the program
/// among the innermost `depth`.
fn compare(recording: &Recording, path: &Path, depth: usize) {
    assert_eq!(recording.lost, 0);
    recording.check();
    let reported = recording.reported();
    let reported = ["count", "bytes", "freed_count", "freed_bytes"].map(|name| reported[name]);
    compare_with(recording, reported, |event| {
        event.origin == Origin::Malloc && recording.is_called_from(event, name_of(path), depth)
    });
}

fn check(source: &str, arguments: &[&str], status: i32) -> Recording {
    let path = compiled(source, arguments);
    let recording = record(&mut program(&path), Options::EXACT);
    let output = (recording.stdout(), recording.stderr());
    assert_eq!(recording.output.status.code(), Some(status), "{output:?}");
    compare(&recording, &path, 1);
    recording
}

#[test]
fn every_function_of_the_family_is_counted() {
    check("family.c", &["-O0", "-g"], 3);
    check("family.c", &["-O2", "-fomit-frame-pointer"], 3);
}

#[test]
fn allocations_through_pointers_are_counted() {
    for arguments in [["-fno-pie", "-no-pie"], ["-fpie", "-pie"]] {
        let path = compiled("pointers.c", &[&["-O1"][..], &arguments].concat());
        let recording = record(&mut program(&path), Options::EXACT);
        assert_eq!(recording.output.status.code(), Some(0));
        assert_eq!(
            recording.memory.processes()[0].reason.load(Ordering::Relaxed),
            0,
            "{arguments:?}"
        );
        let made = recording.totals(|event| event.size == 4321);
        assert_eq!((made.allocated_count, made.live_count), (1000.0, 0.0), "{arguments:?}");
    }
}

#[test]
fn threads_can_free_allocations_of_other_threads() {
    let recording = check("cross.c", &["-O2", "-pthread"], 0);
    let mut makers = HashMap::new();
    let mut crossed = 0;
    for event in &recording.events {
        match event.kind {
            Kind::Alloc => _ = makers.insert((event.address, event.made_ns), event.thread),
            Kind::Free => {
                let maker = makers.get(&(event.address, event.made_ns));
                crossed += u64::from(maker.is_some_and(|&maker| maker != event.thread));
            }
        }
    }
    assert!(crossed > 1000);
}

#[test]
fn a_hundred_thousand_threads_are_seen() {
    let recording = check("short_threads.c", &["-O2", "-pthread"], 0);
    assert!(recording.memory.header().threads.load(Ordering::Relaxed) > 100_000);
    assert_eq!(recording.memory.header().nested.load(Ordering::Relaxed), 0);
}

#[test]
fn failed_allocations_are_not_counted() {
    check("limited.c", &["-O2"], 4);
}

#[test]
fn forked_children_are_counted_separately() {
    let path = compiled("forks.c", &["-O1"]);
    let recording = record(&mut program(&path), Options::EXACT);
    let output = (recording.stdout(), recording.stderr());
    assert_eq!(recording.output.status.code(), Some(0), "{output:?}");
    assert_eq!(recording.lost, 0);
    recording.check();
    let processes = recording.memory.processes();
    let own = std::fs::metadata("/proc/self/ns/pid").expect("a process has one").ino();
    assert!(processes.iter().all(|process| process.namespace.load(Ordering::Relaxed) == own));
    let lines: Vec<Vec<u64>> = (recording.stdout().lines())
        .map(|line| line.split(' ').map(|word| word.parse().expect("a number")).collect())
        .collect();
    assert_eq!(lines.len(), 6);
    for line in &lines {
        // Two slots can have the same process id: those before and after an exec. Only one of them prints totals.
        let slots: Vec<u32> = (0..processes.len() as u32)
            .filter(|&at| u64::from(processes[at as usize].pid.load(Ordering::Relaxed)) == line[0])
            .collect();
        let own = |event: &Event| {
            slots.contains(&event.process) && recording.is_called_from(event, name_of(&path), 1)
        };
        compare_with(&recording, [line[1], line[2], line[3], line[4]], own);
    }
    let parents = processes.iter().map(|process| process.parent.load(Ordering::Relaxed));
    // A child, a grandchild, and a child of the `clone` system call have a parent; the other two were started by exec.
    assert_eq!(parents.filter(|&parent| parent != 0).count(), 3);
}

#[test]
fn mappings_are_counted() {
    let path = compiled("mappings.c", &["-O2"]);
    let recording = record(&mut program(&path), Options::EXACT);
    assert_eq!(recording.output.status.code(), Some(0));
    let reported = recording.reported();
    let reported = ["count", "bytes", "freed_count", "freed_bytes"].map(|name| reported[name]);
    compare_with(&recording, reported, |event| event.origin == Origin::Map);
    recording.check();
}

#[test]
fn operators_and_exceptions_of_cpp_are_counted() {
    let path = compiled("objects.cc", &["-O2"]);
    let recording = record(&mut program(&path), Options::EXACT);
    assert_eq!(recording.output.status.code(), Some(0));
    recording.check();
    let reported = recording.reported();
    // Requests of the program to `new`, with sizes of the objects that it counts. Its containers may request such sizes too.
    let libstdcxx = |event: &Event| {
        let stack = recording.memory.stack(event.node);
        stack[0].module.contains("libstdc++") && stack[1].module.ends_with(name_of(&path))
    };
    let sizes =
        |event: &Event| event.size == 256 || event.size <= 800 && event.size.is_multiple_of(4);
    let totals = recording.totals(|event| libstdcxx(event) && sizes(event));
    assert!(totals.allocated_count as u64 >= reported["count"]);
    let wide = recording.totals(|event| libstdcxx(event) && event.size == 256);
    assert_eq!(wide.live_count, 100.0);
    // Everything else is freed, except for what the C++ library keeps for itself.
    let others = recording.totals(|event| libstdcxx(event) && event.size != 256);
    assert_eq!(others.live_count, 0.0);
}

#[test]
fn the_system_allocator_of_rust_is_counted() {
    let path = compiled("counted.rs", &["-Cdebuginfo=1", "-Copt-level=1"]);
    let recording = record(&mut program(&path), Options::EXACT);
    assert_eq!(recording.output.status.code(), Some(0));
    // The standard library also maps a stack for signal handlers.
    let maps = |event: &Event| event.origin == Origin::Map;
    assert_eq!(recording.totals(maps).allocated_count, 1.0);
    compare(&recording, &path, 1);
}

#[test]
fn a_custom_allocator_is_recorded_through_the_probe() {
    let path = compiled("own.rs", &["-Copt-level=1"]);
    let recording = record(&mut program(&path), Options::EXACT);
    assert_eq!(recording.output.status.code(), Some(8), "{}", recording.stderr());
    recording.check();
    let reported = recording.reported();
    let reported = ["count", "bytes", "freed_count", "freed_bytes"].map(|name| reported[name]);
    compare_with(&recording, reported, |event| event.origin == Origin::Program);
    let maps = recording.totals(|event| event.origin == Origin::Map && event.size >= 64 << 20);
    assert_eq!(maps.allocated_count, 0.0);
}
