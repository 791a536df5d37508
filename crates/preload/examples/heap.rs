//! Runs a program with the heap library and prints totals: `heap INTERVAL PROGRAM ARGUMENTS...`.

#[path = "../tests/suite/heap/recorder.rs"]
mod recorder;

use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::Instant;

use recorder::{Memory, Options, run};
use simprof_preload::heap::format::{Kind, weight};

fn main() {
    let mut arguments = std::env::args_os().skip(1);
    let interval = arguments.next().and_then(|text| text.into_string().ok()?.parse().ok());
    let (Some(interval), Some(program)) = (interval, arguments.next()) else {
        eprintln!("usage: heap INTERVAL PROGRAM ARGUMENTS...");
        std::process::exit(2);
    };
    let memory = Memory::new(Options::sampled(interval, 0));
    let (mut records, mut count, mut bytes, mut live) = (0u64, 0.0, 0.0, 0.0);
    let begin = Instant::now();
    let (output, lost) =
        run(Command::new(program).args(arguments), &memory, true, |_| {}, &mut |event| {
            records += 1;
            let weight = weight(event.size, interval);
            let of_event = weight * event.size as f64;
            if event.kind == Kind::Alloc {
                count += weight;
                bytes += of_event;
                live += of_event;
            } else {
                live -= of_event;
            }
        });
    print!("{}", String::from_utf8_lossy(&output.stdout));
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
    let header = memory.header();
    eprintln!(
        "{:.3} s, {records} records, {lost} lost, {count:.0} allocations, {bytes:.0} bytes, {live:.0} live at the end, \
         {} nodes, {} modules, {} threads",
        begin.elapsed().as_secs_f64(),
        header.nodes.load(Ordering::Relaxed),
        header.modules.load(Ordering::Relaxed),
        header.threads.load(Ordering::Relaxed),
    );
    std::process::exit(output.status.code().unwrap_or(1));
}
