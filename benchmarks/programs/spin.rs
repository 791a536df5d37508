//! Computes in several threads, each with a stack of 30 frames, and prints the time.
//!
//! `spin THREADS BLOCKS`: the amount of work is fixed, so that any overhead increases the time.

use std::hint::black_box;
use std::time::Instant;

const DEPTH: u32 = 30;
/// Rounds of the generator in one block. They take about a millisecond, much longer than the recursion.
const ROUNDS: u32 = 500_000;

#[repr(C)]
struct Timespec {
    seconds: i64,
    nanoseconds: i64,
}

unsafe extern "C" {
    fn clock_gettime(clock: i32, time: *mut Timespec) -> i32;
}

fn process_cpu_ms() -> f64 {
    const CLOCK_PROCESS_CPUTIME_ID: i32 = 2;
    let mut time = Timespec { seconds: 0, nanoseconds: 0 };
    // SAFETY: `time` is valid for writing a `timespec`.
    unsafe { clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    time.seconds as f64 * 1e3 + time.nanoseconds as f64 * 1e-6
}

#[inline(never)]
fn descend(depth: u32, state: u64) -> u64 {
    if depth == 0 {
        return block(state);
    }
    // Work after the call prevents a tail call, which would remove the frame.
    black_box(descend(depth - 1, state)).wrapping_add(u64::from(depth))
}

#[inline(never)]
fn block(mut state: u64) -> u64 {
    for _ in 0..ROUNDS {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
    }
    state
}

fn main() {
    let mut numbers = std::env::args().skip(1).map(|word| word.parse::<u64>().expect("a number"));
    let (threads, blocks) = (numbers.next().expect("THREADS"), numbers.next().expect("BLOCKS"));
    let began = Instant::now();
    let workers: Vec<_> = (1..=threads)
        .map(|seed| {
            std::thread::spawn(move || (0..blocks).fold(seed, |state, _| descend(DEPTH, state)))
        })
        .collect();
    let sum = workers.into_iter().fold(0_u64, |sum, worker| sum ^ worker.join().expect("no panic"));
    let wall_ms = began.elapsed().as_secs_f64() * 1e3;
    println!(r#"{{"wall_ms": {wall_ms:.3}, "cpu_ms": {:.3}, "sum": {sum}}}"#, process_cpu_ms());
}
