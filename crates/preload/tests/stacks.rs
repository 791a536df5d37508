//! Stacks are what the program says of itself.

mod support;

use std::process::Command;

use support::{Options, pythons, record};

#[test]
fn first() {
    let program = "
def inner(n):
    t = 0
    for i in range(n):
        t += i
    return t
def outer(n):
    for _ in range(60):
        inner(n)
outer(100000)
";
    for python in pythons() {
        let mut command = Command::new(&python.path);
        command.args(["-c", program]);
        let recording = record(command, Options::default());
        println!(
            "{python:?} {:?} taken {} lost {} n {}",
            recording.output,
            recording.taken,
            recording.lost,
            recording.samples.len()
        );
        let mut counts = std::collections::BTreeMap::new();
        for sample in &recording.samples {
            let stack = recording.memory.stack(sample.node);
            let text = stack
                .iter()
                .map(|f| format!("{}:{}{}", f.name, f.line, if f.entry { "*" } else { "" }))
                .collect::<Vec<_>>()
                .join(" ");
            *counts.entry((sample.flags, text)).or_insert(0) += 1;
        }
        let mut counts: Vec<_> = counts.into_iter().collect();
        counts.sort_by_key(|c| -c.1);
        for ((flags, text), count) in counts.iter().take(12) {
            println!("{count} {flags} {text}");
        }
    }
}
