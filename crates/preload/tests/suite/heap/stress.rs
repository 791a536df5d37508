//! Signals, forks and loading of libraries at once. They cause no crash and no deadlock, and do not change the program's behaviour.

use std::path::PathBuf;

use crate::heap::programs::compiled;
use crate::heap::recorder::{Event, Options, program, record};

fn plugin(size: &str) -> PathBuf {
    compiled("plugin.c", &["-O1", "-shared", "-fPIC", &format!("-DSIZE={size}")])
}

#[test]
fn libraries_loaded_at_one_address_are_distinguished() {
    let path = compiled("plugins.c", &["-O1"]);
    let sizes = ["10007", "10009", "10037"];
    let libraries = sizes.map(plugin);
    let recording = record(program(&path).args(&libraries), Options::EXACT);
    assert_eq!(recording.output.status.code(), Some(0));
    assert!(recording.reported()["again"] > 20);
    for (size, library) in sizes.iter().zip(&libraries) {
        let size: u64 = size.parse().expect("a number");
        let of_size: Vec<_> = recording.events.iter().filter(|event| event.size == size).collect();
        assert_eq!(of_size.len(), 20);
        for event in of_size {
            let stack = recording.memory.stack(event.node);
            assert_eq!(stack[0].module, library.to_str().expect("ASCII"));
            assert!(stack[1].module.contains("plugins"));
        }
        let id = recording.memory.build_id(library.to_str().expect("ASCII"));
        assert!(id.is_empty() || id.len() == 20);
    }
}

#[test]
fn signals_forks_and_loads_do_not_disturb_the_program() {
    let path = compiled("stress.c", &["-O2", "-pthread"]);
    let library = plugin("10007");
    for options in [Options::EXACT, Options::sampled(1000, 1), Options::sampled(1 << 19, 2)] {
        let recording = record(program(&path).arg(&library), options);
        let output = (recording.stdout(), recording.stderr());
        assert_eq!(recording.output.status.code(), Some(0), "{output:?}");
        assert_eq!(output.0, "failures 0\nhandled 1\n", "{}", output.1);
        // With samples as frequent as in the second case, a reader that gets too little CPU time loses some.
        assert!(recording.lost == 0 || options.interval == 1000);
        assert!(!recording.events.is_empty());
    }
}

#[test]
fn a_signal_handler_may_allocate_during_the_first_allocation() {
    let path = compiled("first.c", &["-O2"]);
    let recording = record(&mut program(&path), Options::EXACT);
    assert_eq!(recording.output.status.code(), Some(0));
    let reported = recording.reported();
    assert!(reported["handled"] > 20, "{reported:?}");
    let own = |event: &Event| [77, 1000].contains(&event.size);
    assert_eq!(recording.totals(own).allocated_count as u64, reported["count"]);
    assert_eq!(recording.totals(own).live_count, 0.0);
}
