//! Makes small allocations at a high rate: agents have a fixed number of memories, and random ones are replaced by new ones.
//!
//! `allocations MILLIONS`: the number of allocations in millions.

use std::time::Instant;

const AGENTS: usize = 1024;
const MEMORIES: usize = 8;
const FEWEST_WORDS: u64 = 2;
const MORE_WORDS: u64 = 13;

fn cpu_ms() -> f64 {
    let mut time = [0i64; 2];
    unsafe extern "C" {
        fn clock_gettime(clock: i32, time: *mut i64) -> i32;
    }
    const CLOCK_PROCESS_CPUTIME_ID: i32 = 2;
    // SAFETY: on 64-bit machines a `timespec` has two 64-bit words, and `time` is valid for writing both.
    let result = unsafe { clock_gettime(CLOCK_PROCESS_CPUTIME_ID, time.as_mut_ptr()) };
    assert_eq!(result, 0, "the clock exists");
    time[0] as f64 * 1e3 + time[1] as f64 * 1e-6
}

fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

#[inline(never)]
fn remember(state: &mut u64) -> Box<[u64]> {
    let words = FEWEST_WORDS + (random(state) >> 20) % MORE_WORDS;
    (0..words).map(|_| random(state)).collect()
}

#[inline(never)]
fn live(agents: &mut [Vec<Box<[u64]>>], times: u64, state: &mut u64) -> u64 {
    let mut sum = 0u64;
    for _ in 0..times {
        let choice = random(state) as usize;
        let memory = remember(state);
        let agent = &mut agents[choice % AGENTS];
        let replaced = std::mem::replace(&mut agent[choice / AGENTS % MEMORIES], memory);
        sum = replaced.iter().fold(sum, |sum, word| sum.rotate_left(5) ^ word);
    }
    sum
}

fn main() {
    let millions: f64 = std::env::args().nth(1).and_then(|text| text.parse().ok()).expect("millions of allocations");
    let times = (millions * 1e6) as u64;
    let mut state = 88_172_645_463_325_252;
    let mut agents: Vec<Vec<Box<[u64]>>> =
        (0..AGENTS).map(|_| (0..MEMORIES).map(|_| remember(&mut state)).collect()).collect();
    let (wall, cpu) = (Instant::now(), cpu_ms());
    let sum = live(&mut agents, times, &mut state);
    let (wall_ms, cpu_ms) = (wall.elapsed().as_secs_f64() * 1e3, cpu_ms() - cpu);
    println!(
        "{{\"wall_ms\": {wall_ms:.3}, \"cpu_ms\": {cpu_ms:.3}, \"allocations\": {times}, \"sum\": {sum}}}"
    );
}
