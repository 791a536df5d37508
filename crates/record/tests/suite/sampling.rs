//! Programs whose stacks are known: shares, inlining, depth.

use simprof_record::sample::Sampling;
use simprof_testkit::TestFolder;

use crate::support::{SAMPLING, explain, frames, names, profile, profile_with, samples_with};

/// Spins three times as long in `three` as in `one`. Arguments: the number of turns, and a file to which it appends the CPU time of
/// both.
const SPIN: &str = include_str!("../../../../tests/programs/three_to_one.c");

#[test]
fn shares_follow_the_work_without_frame_pointers() {
    let folder = TestFolder::new();
    let flags = ["-O2", "-g", "-fomit-frame-pointer"];
    let program = folder.compile_c("spin", SPIN, &flags);
    let times = folder.text_path("times");
    let Some(profile) = profile(&[&program, "80", &times]) else { return };
    let [three, one] = ["three", "one"].map(|name| samples_with(&profile, name).len());
    let total = (three + one) as f64;
    let times = folder.read("times");
    let (in_three, in_one) = times.trim_end().split_once(' ').expect("two times");
    let [in_three, in_one]: [f64; 2] = [in_three, in_one].map(|time| time.parse().expect("a time"));
    let expected = in_three / (in_three + in_one);
    let (share, error) = (three as f64 / total, (expected * (1.0 - expected) / total).sqrt());
    assert!(total > 200.0, "{}", explain(&profile));
    // Four standard errors of a binomial share. Periodic samples vary less than random ones.
    assert!((share - expected).abs() < 4.0 * error, "{share} +- {error}: {}", explain(&profile));
    let whole =
        profile.samples.iter().filter(|s| names(&profile, s).last() == Some(&"_start")).count();
    assert!(whole as f64 > 0.95 * profile.samples.len() as f64, "{}", explain(&profile));
}

#[test]
fn the_provenance_of_a_profile_is_consistent() {
    let folder = TestFolder::new();
    let program = folder.compile_c("spin", SPIN, &["-O2", "-g"]);
    let Some(profile) = profile(&[&program]) else { return };
    let account = &profile.provenance;
    assert_eq!(account.samples, profile.samples.len() as u64);
    assert_eq!(account.lost, 0, "{}", explain(&profile));
    assert_eq!((account.rate_hz, account.stack_bytes), (1000.0, 16384));
    let achieved = account.samples as f64 / (account.target_cpu_ns as f64 / 1e9);
    assert!((account.achieved_hz - achieved).abs() < 1e-6);
    assert!((500.0..1500.0).contains(&achieved), "{}", explain(&profile));
    let covered = profile.total_weight() as f64 / account.target_cpu_ns as f64;
    assert!((0.5..1.5).contains(&covered), "{covered}: {}", explain(&profile));
    assert!(account.recorder_cpu_ns > 0 && account.symbolise_ns > 0);
    assert!(profile.samples.is_sorted_by_key(|sample| sample.time_ns));
    let parents_first =
        profile.stacks.iter().zip(0..).all(|(node, at)| node.parent.is_none_or(|p| p.0 < at));
    assert!(parents_first);
}

/// A loop in an inlined function, which is in no symbol table. The loop is in line 5, its function starts in line 4.
const INLINED: &str = r#"
#include <stdint.h>
static volatile uint64_t sink;
static inline __attribute__((always_inline)) uint64_t mix(uint64_t x) {
    for (int i = 0; i < 1000; i++) { x = x * 6364136223846793005u + 1442695040888963407u; x ^= x >> 29; }
    return x;
}
__attribute__((noinline)) uint64_t drive(uint64_t rounds) {
    uint64_t x = 1;
    for (uint64_t i = 0; i < rounds; i++)
        x = mix(x);
    return x;
}
int main(void) { sink = drive(300000); return 0; }
"#;

#[test]
fn an_inlined_function_is_named_at_its_line() {
    let folder = TestFolder::new();
    let program = folder.compile_c("inlined", INLINED, &["-O2", "-g"]);
    let Some(profile) = profile(&[&program]) else { return };
    let hot: Vec<_> = samples_with(&profile, "mix")
        .into_iter()
        .map(|sample| frames(&profile, sample).map(|id| profile.frame(id)).collect::<Vec<_>>())
        .filter(|stack| profile.function_name(stack[0].function) == "mix")
        .collect();
    assert!(hot.len() > 50, "{}", explain(&profile));
    for stack in &hot {
        let (mix, drive) = (stack[0], stack[1]);
        assert!(mix.inlined && !drive.inlined);
        assert_eq!(mix.address, drive.address, "one instruction, two functions");
        assert_eq!(profile.function_name(drive.function), "drive");
        assert_eq!(drive.line, Some(11), "the line of the call");
        let file = profile.string(mix.file.expect("a file"));
        assert!(file.ends_with("/inlined.c"), "{file}");
        assert_eq!(profile.function(mix.function).line, Some(4), "the declaration");
        assert!(
            profile.function_file(mix.function).is_some_and(|file| file.ends_with("/inlined.c"))
        );
    }
    let at_loop = hot.iter().filter(|stack| stack[0].line == Some(5)).count();
    assert!(at_loop * 10 > hot.len() * 9, "{at_loop} of {}: {}", hot.len(), explain(&profile));
}

/// Recurses to the depth given as its argument, and spins at the bottom.
const DEEP: &str = r#"
#include <stdint.h>
#include <stdlib.h>
static volatile uint64_t sink;
__attribute__((noinline)) void bottom(void) { for (uint64_t i = 0; i < 200000000; i++) sink += i; }
__attribute__((noinline)) int recurse(int depth) {
    if (depth == 0) { bottom(); return 0; }
    int below = recurse(depth - 1);
    sink += below;
    return below + 1;
}
int main(int argc, char **argv) { return recurse(atoi(argv[argc - 1])) == 0; }
"#;

#[test]
fn a_deep_recursion_is_unwound_completely() {
    let folder = TestFolder::new();
    let program = folder.compile_c("deep", DEEP, &["-O1", "-g", "-fomit-frame-pointer"]);
    let Some(profile) = profile(&[&program, "200"]) else { return };
    let samples = samples_with(&profile, "bottom");
    assert!(samples.len() > 50, "{}", explain(&profile));
    for sample in samples {
        let names = names(&profile, sample);
        let depth = names.iter().filter(|&&name| name == "recurse").count();
        assert_eq!(depth, 201, "{}", explain(&profile));
        assert_eq!(names.last(), Some(&"_start"));
    }
    // Samples in the loader may be truncated: it uses stack pages that are not mapped yet, which the kernel cannot copy.
    let outside_main = profile.samples.len() - samples_with(&profile, "main").len();
    assert!(
        profile.provenance.truncated <= outside_main as u64,
        "{outside_main}: {}",
        explain(&profile)
    );
}

#[test]
fn a_stack_that_is_not_copied_completely_counts_as_truncated() {
    let folder = TestFolder::new();
    let program = folder.compile_c("deep", DEEP, &["-O1", "-g"]);
    let sampling = Sampling { stack_bytes: 1024, ..SAMPLING };
    let Some(profile) = profile_with(&sampling, &[&program, "1000"]) else { return };
    let deep = samples_with(&profile, "bottom").len() as u64;
    assert!(deep > 50, "{}", explain(&profile));
    assert!(profile.provenance.truncated >= deep, "{}", explain(&profile));
    assert!(samples_with(&profile, "_start").len() < 50, "{}", explain(&profile));
}

/// Recurses deeply with a zero in %rbp, which can be a frame pointer, and spins at the bottom.
const ZERO: &str = r#"
#include <stdint.h>
static volatile uint64_t sink;
__attribute__((used, noinline)) void bottom(void) { for (uint64_t i = 0; i < 300000000; i++) sink += i; }
/* 4096 frames of 32 bytes. The value of %rbp in main is restored at the end. */
__asm__(
    ".type deep, @function\n"
    "deep: .cfi_startproc\n"
    "sub $24, %rsp\n" ".cfi_adjust_cfa_offset 24\n"
    "sub $1, %rdi\n" "jz 1f\n" "call deep\n" "jmp 2f\n"
    "1: call bottom\n"
    "2: add $24, %rsp\n" ".cfi_adjust_cfa_offset -24\n"
    "ret\n" ".cfi_endproc\n" ".size deep, .-deep\n"
    ".globl zero\n" ".type zero, @function\n"
    "zero: .cfi_startproc\n"
    "push %rbp\n" ".cfi_adjust_cfa_offset 8\n" ".cfi_rel_offset rbp, 0\n"
    "xor %ebp, %ebp\n" "mov $4096, %edi\n" "call deep\n"
    "pop %rbp\n" ".cfi_adjust_cfa_offset -8\n" ".cfi_restore rbp\n"
    "ret\n" ".cfi_endproc\n" ".size zero, .-zero\n");
void zero(void);
int main(void) { zero(); return 0; }
"#;

#[test]
fn a_zero_frame_pointer_is_not_the_end_of_a_stack() {
    let folder = TestFolder::new();
    let program = folder.compile_c("zero", ZERO, &["-O2", "-g", "-fomit-frame-pointer"]);
    let Some(profile) = profile(&[&program]) else { return };
    let deep = samples_with(&profile, "bottom").len() as u64;
    assert!(deep > 50, "{}", explain(&profile));
    assert!(profile.provenance.truncated >= deep, "{}", explain(&profile));
}

#[test]
fn without_a_copy_of_the_stack_the_leaf_is_still_known() {
    let folder = TestFolder::new();
    let program = folder.compile_c("spin", SPIN, &["-O2", "-g"]);
    let sampling = Sampling { stack_bytes: 0, kernel: false, ..SAMPLING };
    let Some(profile) = profile_with(&sampling, &[&program]) else { return };
    let three = samples_with(&profile, "three").len();
    assert!(three * 2 > profile.samples.len(), "{}", explain(&profile));
    assert!(!profile.provenance.kernel);
    assert!(profile.provenance.event.ends_with(":u"), "{}", profile.provenance.event);
}
