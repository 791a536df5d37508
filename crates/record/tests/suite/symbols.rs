//! Names of functions in programs that are stripped, have compressed or separate debug information, or have mangled names.

use std::collections::BTreeSet;
use std::process::Command;

use simprof_model::{FunctionKind, Profile};
use simprof_testkit::{TestFolder, run};

use crate::support::{explain, frames, names, profile, samples_with};

const WORK: &str = r#"
#include <stdint.h>
static volatile uint64_t sink;
__attribute__((noinline)) void spin(uint64_t n) {
    for (uint64_t i = 0; i < n; i++) { sink += i; sink ^= i; }
}
int main(void) { spin(100000000); return 0; }
"#;

/// Returns the number of samples with the function at the leaf, and their lines.
fn leaves(profile: &Profile, function: &str) -> (usize, BTreeSet<Option<u32>>) {
    let leaves: Vec<_> = profile
        .samples
        .iter()
        .filter_map(|sample| frames(profile, sample).next())
        .map(|frame| profile.frame(frame))
        .filter(|frame| profile.function_name(frame.function) == function)
        .collect();
    (leaves.len(), leaves.iter().map(|frame| frame.line).collect())
}

fn assert_named_with_lines(profile: &Profile) {
    let (count, lines) = leaves(profile, "spin");
    assert!(count * 2 > profile.samples.len(), "{}", explain(profile));
    // A sample may fall on the first instruction of the function, which belongs to line 4.
    assert!(lines.contains(&Some(5)), "{}", explain(profile));
    assert!(lines.is_subset(&BTreeSet::from([Some(4), Some(5)])), "{}", explain(profile));
}

#[test]
fn without_symbols_a_function_is_an_offset_in_its_module() {
    let folder = TestFolder::new();
    let program = folder.compile_c("bare", WORK, &["-O2", "-s"]);
    let Some(profile) = profile(&[&program]) else { return };
    let unnamed: BTreeSet<_> = profile
        .samples
        .iter()
        .filter_map(|sample| frames(&profile, sample).next())
        .map(|frame| profile.function(profile.frame(frame).function))
        .filter(|function| function.kind == FunctionKind::Unsymbolised)
        .map(|function| profile.string(function.name))
        .collect();
    assert_eq!(unnamed.len(), 1, "all addresses belong to one function: {}", explain(&profile));
    let name = unnamed.first().expect("one");
    let offset = name.strip_prefix("bare+0x").expect("the module's name");
    assert!(u64::from_str_radix(offset, 16).is_ok(), "{name}");
    assert!(
        profile.provenance.unsymbolised * 2 > profile.provenance.samples,
        "{}",
        explain(&profile)
    );
    let whole = profile.samples.iter().filter(|s| names(&profile, s).len() > 3).count();
    assert!(whole * 2 > profile.samples.len(), "unwinding needs no symbols: {}", explain(&profile));
}

#[test]
fn with_a_symbol_table_alone_there_are_names_without_lines() {
    let folder = TestFolder::new();
    let program = folder.compile_c("plain", WORK, &["-O2"]);
    let Some(profile) = profile(&[&program]) else { return };
    let (count, lines) = leaves(&profile, "spin");
    assert!(count * 2 > profile.samples.len(), "{}", explain(&profile));
    assert_eq!(lines, BTreeSet::from([None]));
}

#[test]
fn compressed_debug_information_is_read() {
    let folder = TestFolder::new();
    let program = folder.compile_c("compressed", WORK, &["-O2", "-g", "-gz=zlib"]);
    let Some(profile) = profile(&[&program]) else { return };
    assert_named_with_lines(&profile);
}

#[test]
fn debug_information_in_a_separate_file_is_found() {
    let folder = TestFolder::new();
    let program = folder.compile_c("split", WORK, &["-O2", "-g"]);
    let debug = folder.text_path("split.debug");
    run(Command::new("objcopy").arg("--only-keep-debug").args([&program, &debug]));
    run(Command::new("objcopy").arg("--strip-all").arg(&program));
    let link = format!("--add-gnu-debuglink={debug}");
    run(Command::new("objcopy").arg(link).arg(&program));
    let Some(profile) = profile(&[&program]) else { return };
    assert_named_with_lines(&profile);
}

#[test]
fn unwinding_needs_no_section_headers() {
    let folder = TestFolder::new();
    let program = folder.compile_c("headless", WORK, &["-O2", "-s", "-fomit-frame-pointer"]);
    remove_section_headers(&program);
    let Some(profile) = profile(&[&program]) else { return };
    let whole = profile
        .samples
        .iter()
        .filter(|s| names(&profile, s).contains(&"__libc_start_main"))
        .count();
    let deep = profile.samples.iter().filter(|s| names(&profile, s).len() >= 4).count();
    assert!(whole.max(deep) * 10 > profile.samples.len() * 9, "{}", explain(&profile));
    assert!(
        profile.provenance.truncated * 10 < profile.provenance.samples,
        "{}",
        explain(&profile)
    );
}

/// Clears the fields e_shoff, e_shnum and e_shstrndx of a 64-bit ELF header.
fn remove_section_headers(program: &str) {
    let mut bytes = std::fs::read(program).expect("it was just built");
    bytes[0x28..0x30].fill(0);
    bytes[0x3c..0x40].fill(0);
    std::fs::write(program, bytes).expect("it is ours");
}

#[test]
fn cpp_names_are_demangled() {
    let source = r#"
#include <cstdint>
static volatile uint64_t sink;
namespace world {
template <typename T> struct Grid {
    __attribute__((noinline)) void spin(T n) { for (T i = 0; i < n; i++) sink = sink + i; }
};
}
extern "C" __attribute__((noinline)) void f() { world::Grid<uint64_t>().spin(200000000); sink = sink + 1; }
int main() { f(); }
"#;
    let folder = TestFolder::new();
    let file = folder.write("grid.cpp", source);
    for (name, flag) in [("debug", "-g"), ("plain", "-g0")] {
        let program = folder.text_path(name);
        run(Command::new("c++").args(["-O2", flag, "-o"]).args([&program, &file]));
        let Some(profile) = profile(&[&program]) else { return };
        let samples = samples_with(&profile, "world::Grid<unsigned long>::spin(unsigned long)");
        assert!(samples.len() > 50, "{}", explain(&profile));
        assert!(names(&profile, samples[0]).contains(&"f"), "{}", explain(&profile));
    }
}

#[test]
fn a_rust_release_program_is_unwound_and_named() {
    // `mix` is a long chain without a branch, so that samples of the loop fall into it on every processor. It uses plain operators,
    // because functions of the standard library would add inlined frames.
    let source = r#"
use std::hint::black_box;
mod world {
    pub struct Agent { pub energy: u64 }
    impl Agent {
        #[inline(never)]
        pub fn decide(&mut self, rounds: u64) { for i in 0..rounds { self.energy = mix(self.energy ^ i); } }
    }
    #[inline(always)]
    fn mix(a: u64) -> u64 { CHAIN }
}
#[inline(never)]
fn step(agent: &mut world::Agent) { agent.decide(black_box(20_000_000)); black_box(&agent.energy); }
fn main() {
    std::thread::spawn(|| { let mut agent = world::Agent { energy: 1 }; step(&mut agent); }).join().unwrap();
}
"#;
    let chain = (0..16)
        .fold("a".to_owned(), |a, _| format!("({a} * 6364136223846793005 ^ 1442695040888963407)"));
    let folder = TestFolder::new();
    let program = compile_rust(&folder, &source.replace("CHAIN", &chain));
    let Some(profile) = profile(&[&program]) else { return };
    // The name depends on which of the two mangling schemes the compiler uses by default.
    let decide = ["<simulation::world::Agent>::decide", "simulation::world::Agent::decide"]
        .map(|name| samples_with(&profile, name))
        .concat();
    assert!(decide.len() > 50, "{}", explain(&profile));
    let inlined = decide
        .iter()
        .filter(|sample| names(&profile, sample).contains(&"simulation::world::mix"))
        .count();
    assert!(inlined * 2 > decide.len(), "{}", explain(&profile));
    for sample in decide {
        assert!(names(&profile, sample).contains(&"simulation::step"), "{}", explain(&profile));
    }
    assert_eq!(profile.provenance.truncated, 0, "{}", explain(&profile));
}

/// Compiles a Rust program like a release build with limited debug information, with the default linker.
fn compile_rust(folder: &TestFolder, source: &str) -> String {
    let file = folder.write("simulation.rs", source);
    let program = folder.text_path("simulation");
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let options = ["-O", "--edition", "2024", "-C", "debuginfo=1", "-o"];
    run(Command::new(rustc).args(options).args([&program, &file]));
    program
}
