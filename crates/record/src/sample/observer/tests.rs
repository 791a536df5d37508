//! Tests of the observer.

use super::*;
use crate::sample::event::{self, Clock, Event};
use crate::sample::trace::Counts;
use linux_perf_event_reader::RecordParseInfo;
use proptest::prelude::*;

const MODULE: &str = "/no/such/program";

fn lifecycle() -> RecordParseInfo {
    event::layout(&event::lifecycle_attr())
}

fn sampling() -> RecordParseInfo {
    event::layout(
        &Event { clock: Clock::CpuClock, kernel: true, precise: 0 }.sampling_attr(1000, 16),
    )
}

fn pair(low: u32, high: u32) -> u64 {
    u64::from(low) | u64::from(high) << 32
}

fn padded(text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    bytes.resize(text.len() / 8 * 8 + 8, 0);
    bytes
}

fn words(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

fn give(
    observer: &mut Observer,
    kind: RecordType,
    misc: u16,
    body: &[u8],
    layout: RecordParseInfo,
) {
    let record = RawEventRecord::new(kind, misc, RawData::Single(body), layout);
    observer.handle(TimedRecord { time_ns: 1, record });
}

fn comm(observer: &mut Observer, pid: u32, name: &str, misc: u16) {
    let body = [words(&[pair(pid, pid)]), padded(name), words(&[0; 3])].concat();
    give(observer, RecordType::COMM, misc, &body, lifecycle());
}

fn mmap(observer: &mut Observer, pid: u32, start: u64) {
    let head = words(&[pair(pid, pid), start, 0x1000, 0x40, 0, 0, 0, pair(PROT_EXEC, 0)]);
    let body = [head, padded(MODULE), words(&[0; 3])].concat();
    give(observer, RecordType::MMAP2, 0, &body, lifecycle());
}

fn fork(observer: &mut Observer, parent: u32, pid: u32, tid: u32) {
    let body = words(&[pair(pid, parent), pair(tid, parent), 0, 0, 0, 0]);
    give(observer, RecordType::FORK, 0, &body, lifecycle());
}

/// Handles a sample in user code at `ip` with an empty stack. Returns module and address of the leaf.
fn sample(observer: &mut Observer, pid: u32, ip: u64) -> (String, u64) {
    const USER: u16 = 2;
    let mut registers = [0; 17];
    (registers[8], registers[7]) = (ip, 0x7fff_0000);
    let head = words(&[3, ip, pair(pid, pid), 1, 0, 1_000_000, 0, 2]);
    let body = [head, words(&registers), words(&[16, 0, 0, 0])].concat();
    give(observer, RecordType::SAMPLE, USER, &body, sampling());
    let trace = &observer.trace;
    assert_eq!(trace.counts.malformed, 0);
    let stack = trace.samples.last().and_then(|sample| sample.stack).expect("a leaf");
    let node = trace.stacks.nodes()[stack.0 as usize];
    let frame = trace.stacks.frames()[node.frame.0 as usize];
    (trace.modules.get(frame.module).path.clone(), frame.address)
}

#[test]
fn a_fork_copies_the_mappings_and_an_exec_drops_them() {
    const EXEC: u16 = linux_perf_event_reader::constants::PERF_RECORD_MISC_COMM_EXEC;
    let observer = &mut Observer::new();
    comm(observer, 10, "first", EXEC);
    mmap(observer, 10, 0x10000);
    fork(observer, 10, 11, 11);
    assert_eq!(sample(observer, 10, 0x10010), (MODULE.into(), 0x50));
    assert_eq!(sample(observer, 11, 0x10010), (MODULE.into(), 0x50));
    mmap(observer, 11, 0x20000);
    assert_eq!(sample(observer, 11, 0x20010), (MODULE.into(), 0x50));
    assert_eq!(sample(observer, 10, 0x20010), ("[unknown]".into(), 0x20010));
    comm(observer, 11, "second", EXEC);
    assert_eq!(sample(observer, 11, 0x10010), ("[unknown]".into(), 0x10010));
    assert_eq!(sample(observer, 10, 0x10010), (MODULE.into(), 0x50));
    let names: Vec<_> = observer.trace.threads.iter().map(|t| t.name.as_str()).collect();
    assert_eq!(names, ["first", "second"]);
}

#[test]
fn a_process_ends_with_its_last_thread() {
    let observer = &mut Observer::new();
    comm(observer, 10, "name", 0);
    mmap(observer, 10, 0x10000);
    fork(observer, 10, 10, 12);
    let exit = words(&[pair(10, 1), pair(10, 10), 0, 0, 0, 0]);
    give(observer, RecordType::EXIT, 0, &exit, lifecycle());
    assert_eq!(sample(observer, 10, 0x10010), (MODULE.into(), 0x50));
    give(observer, RecordType::EXIT, 0, &exit, lifecycle());
    assert_eq!(sample(observer, 10, 0x10010), ("[unknown]".into(), 0x10010));
    assert_eq!(observer.trace.threads[1].name, "name", "a thread inherits its parent's name");
}

#[test]
fn forks_of_armed_processes_are_remembered_until_an_exec() {
    const EXEC: u16 = linux_perf_event_reader::constants::PERF_RECORD_MISC_COMM_EXEC;
    let observer = &mut Observer::new();
    comm(observer, 10, "name", EXEC);
    fork(observer, 10, 11, 11);
    assert!(observer.trace.forks.is_empty(), "the parent is not armed");
    observer.arm(10, 0);
    (12..15).for_each(|pid| fork(observer, 10, pid, pid));
    comm(observer, 13, "other", EXEC);
    let exit = words(&[pair(14, 10), pair(14, 14), 0, 0, 0, 0]);
    give(observer, RecordType::EXIT, 0, &exit, lifecycle());
    let life = |until_ns| Lifetime { from_ns: 1, until_ns };
    let expected = HashMap::from([(12, life(None)), (14, life(Some(1)))]);
    assert_eq!(observer.trace.forks, expected);
}

#[test]
fn lost_samples_and_lost_lifecycle_records_are_counted_apart() {
    let observer = &mut Observer::new();
    let lost = words(&[0, 7, 0, 0, 0]);
    give(observer, RecordType::LOST, 0, &lost, sampling());
    give(observer, RecordType::LOST, 0, &lost, lifecycle());
    give(observer, RecordType::LOST_SAMPLES, 0, &words(&[5, 0, 0, 0]), sampling());
    give(observer, RecordType::THROTTLE, 0, &words(&[0; 6]), sampling());
    let expected = Counts { lost_samples: 12, lost_lifecycle: 7, throttled: 1, malformed: 0 };
    assert_eq!(observer.trace.counts, expected);
}

proptest! {
    #[test]
    fn arbitrary_records_do_not_panic(
        records in proptest::collection::vec(
            (0_u32..24, any::<u16>(), proptest::collection::vec(any::<u8>(), 0..400), any::<bool>()),
            0..20,
        ),
    ) {
        let observer = &mut Observer::new();
        for (kind, misc, body, is_sample) in records {
            let layout = if is_sample { sampling() } else { lifecycle() };
            give(observer, RecordType(kind), misc, &body, layout);
        }
    }
}
