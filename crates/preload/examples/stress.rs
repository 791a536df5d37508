//! Records programs that are hard for a profiler, for a given time, and prints the results: `cargo run -p
//! simprof-preload --example stress -- --seconds 600 --rate 10000 [--python PATH]`.

#[path = "../tests/suite/support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use simprof_preload::format::flag;
use simprof_testkit::pythons;
use support::{Options, Recording, record};

fn main() {
    let mut seconds = 30.0_f64;
    let mut options = Options { rate_hz: 10_000, ..Options::default() };
    let mut only = None;
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().unwrap_or_else(|| panic!("{name} needs a value"));
        match name.as_str() {
            "--seconds" => seconds = value.parse().expect("a number of seconds"),
            "--rate" => options.rate_hz = value.parse().expect("samples per second"),
            "--python" => only = Some(PathBuf::from(value)),
            _ => panic!("unknown option {name}: the options are --seconds, --rate and --python"),
        }
    }
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/programs/stress.py");
    let mut failed = false;
    let paths = only.map_or_else(
        || pythons().into_iter().map(|python| python.path).collect(),
        |path| vec![path],
    );
    for python in paths {
        let mut command = Command::new(&python);
        command.args([program, &seconds.to_string()]);
        let recording = record(command, options);
        println!("{}: {}", python.display(), recording.output.status);
        failed |= !recording.output.status.success();
        describe(&recording);
    }
    std::process::exit(failed.into());
}

fn describe(recording: &Recording) {
    let mut flags = BTreeMap::<u32, u64>::new();
    let mut depths = BTreeMap::new();
    let mut depth = 0;
    for sample in &recording.samples {
        *flags.entry(sample.flags).or_default() += 1;
        depth +=
            *depths.entry(sample.node).or_insert_with(|| recording.memory.stack(sample.node).len());
    }
    let all = recording.samples.len();
    println!(
        "  {} samples, {} lost, {} frames on average",
        all,
        recording.lost,
        depth / all.max(1)
    );
    for (bits, count) in flags {
        let names = [
            (flag::NO_PYTHON, "no python"),
            (flag::UNREADABLE, "unreadable"),
            (flag::CUT, "cut"),
            (flag::LATE, "late"),
            (flag::FULL, "full"),
        ];
        let names: Vec<_> =
            names.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, name)| *name).collect();
        let share = 100.0 * count as f64 / all as f64;
        println!(
            "  {share:.3} % ({count}) {}",
            if names.is_empty() { "plain".into() } else { names.join(", ") }
        );
    }
    let (nodes, arena) = recording.memory.used();
    println!("  {nodes} nodes, {} KiB of code objects", arena * 8 / 1024);
    println!("  {}", String::from_utf8_lossy(&recording.output.stdout).trim());
    eprintln!("{}", String::from_utf8_lossy(&recording.output.stderr));
}
