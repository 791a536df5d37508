//! Measures the cost of a mark, ns per call, with and without a recorder's memory.
//!
//! `cargo run --release -p simprof-probe --example mark_cost`

use std::fs;
use std::hint::black_box;
use std::process::Command;
use std::time::Instant;

use simprof_probe::format::{FILE_BYTES, MAGIC, RECORDS};

const ROUNDS: usize = 9;
const MARKS: u64 = 2_000_000;

fn main() {
    if let Some(label) = std::env::args().nth(1) {
        return measure(&label);
    }
    let path = std::env::temp_dir().join(format!("simprof-mark-cost-{}", std::process::id()));
    let mut memory = vec![0; FILE_BYTES];
    memory[..8].copy_from_slice(&MAGIC.to_ne_bytes());
    memory[8..16].copy_from_slice(&RECORDS.to_ne_bytes());
    fs::write(&path, memory).expect("the temporary folder is writable");
    let own = std::env::current_exe().expect("this program has a path");
    for (name, value) in [("recorded", path.as_os_str()), ("not recorded", "".as_ref())] {
        let mut command = Command::new(&own);
        command.arg(name).env("SIMPROF_MARKS", value);
        command.status().expect("this program runs");
    }
    fs::remove_file(&path).expect("it was just written");
}

/// Prints the median and the minimum of some rounds.
fn measure(label: &str) {
    simprof_probe::step(0);
    let mut costs_ns: Vec<f64> = (0..ROUNDS).map(|_| round()).collect();
    costs_ns.sort_by(f64::total_cmp);
    println!("{label}: median {:.2} ns, minimum {:.2} ns", costs_ns[ROUNDS / 2], costs_ns[0]);
}

fn round() -> f64 {
    let begin = Instant::now();
    (0..MARKS).for_each(|index| simprof_probe::step(black_box(index)));
    begin.elapsed().as_nanos() as f64 / MARKS as f64
}
