//! Native stacks match those of the C library's `backtrace` in the same function.

use std::collections::HashMap;
use std::process::Command;

use simprof_preload::heap::format::{Kind, flag};

use crate::heap::programs::compiled;
use crate::heap::recorder::{Event, Options, Recording, program, record};

/// Returns the stacks that a program printed as lines `stack SIZE MODULE+ADDRESS...`, by size.
fn reported(recording: &Recording) -> HashMap<u64, Vec<(String, u64)>> {
    let frame = |text: &str| {
        let (module, address) = text.rsplit_once('+').expect("a module and an address");
        let module = std::fs::canonicalize(module).expect("modules exist");
        let address = u64::from_str_radix(address, 16).expect("a number");
        (module.to_str().expect("ASCII").to_owned(), address)
    };
    let output = recording.stdout();
    let stacks = output.lines().filter_map(|line| line.strip_prefix("stack "));
    stacks
        .map(|line| {
            let mut words = line.split(' ');
            let size = words.next().and_then(|size| size.parse().ok()).expect("a size");
            (size, words.map(frame).collect())
        })
        .collect()
}

fn made(recording: &Recording, size: u64) -> Event {
    let is = |event: &&Event| event.kind == Kind::Alloc && event.size == size;
    *recording.events.iter().find(is).expect("it was recorded")
}

fn compare(command: &mut Command) {
    let recording = record(command, Options::EXACT);
    assert!(recording.output.status.success(), "{}", recording.stderr());
    recording.check();
    let reported = reported(&recording);
    assert!(reported.len() > 20);
    for (size, expected) in reported {
        let event = made(&recording, size);
        let found = recording.memory.stack(event.node);
        let found: Vec<_> = found.into_iter().map(|frame| (frame.module, frame.address)).collect();
        // The innermost addresses differ: one returns from `malloc`, the other from `backtrace`, close to it in the same function.
        assert_eq!(found[0].0, expected[0].0);
        assert!(found[0].1.abs_diff(expected[0].1) < 200, "{size} {found:x?} {expected:x?}");
        let rest = &expected[1..];
        if event.flags & flag::CUT == 0 {
            assert_eq!(found[1..], *rest, "{size}");
            assert_eq!(event.flags & flag::PARTIAL, 0);
        } else {
            assert_eq!(found[1..], rest[..found.len() - 1], "{size}");
            assert_eq!(found.len(), 256);
        }
    }
}

#[test]
fn stacks_match_backtrace() {
    for arguments in [
        &["-O0", "-g", "-fno-omit-frame-pointer"][..],
        &["-O2", "-fomit-frame-pointer"],
        &["-O3", "-fomit-frame-pointer"],
        &["-O2", "-no-pie", "-fcf-protection=none"],
    ] {
        let path = compiled("call_sites.c", &[arguments, &["-pthread"]].concat());
        compare(&mut program(&path));
    }
}
