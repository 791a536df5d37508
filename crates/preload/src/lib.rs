//! The library that simprof loads into a target: Python frames with each sample, and what threads wait for.
//!
//! It is loaded by `LD_PRELOAD`, and shares one file of memory with the profiler ([`mod@format`]). In a process that runs no Python it
//! samples nothing, and only sees to `exec`. What it does in the target never allocates and never locks.
//!
//! This crate is compiled three times: as two shared libraries without Rust's standard library (`cfg(simprof_preloaded)`; the one
//! that records allocations, [`heap`], with `cfg(simprof_heap)` too), by the build script; and as an ordinary crate that carries
//! the bytes of those libraries ([`LIBRARY`], [`HEAP_LIBRARY`]) and the formats. Tests of the ordinary crate contain the
//! libraries' modules too, without the functions that it interposes.

#![cfg_attr(simprof_preloaded, no_std)]
// The ordinary crate has no beginning and interposes nothing, so its tests use only parts of the modules.
#![cfg_attr(not(simprof_preloaded), allow(dead_code))]
// The library that records allocations uses only parts of what serves the other.
#![cfg_attr(simprof_heap, allow(dead_code, unused_imports))]

pub mod format;
pub mod heap;
#[cfg(not(simprof_preloaded))]
pub mod supported;

#[cfg(any(simprof_preloaded, test))]
mod codes;
#[cfg(any(simprof_preloaded, test))]
mod exec;
#[cfg(simprof_preloaded)]
mod marks;
#[cfg(any(simprof_preloaded, test))]
mod memory;
#[cfg(any(simprof_preloaded, test))]
mod own;
#[cfg(any(simprof_preloaded, test))]
mod process;
#[cfg(any(simprof_preloaded, test))]
mod python;
#[cfg(any(simprof_preloaded, test))]
mod recent;
#[cfg(any(all(simprof_preloaded, not(simprof_heap)), test))]
mod ring;
#[cfg(any(simprof_preloaded, test))]
mod scratch;
#[cfg(all(simprof_preloaded, not(simprof_heap)))]
mod script;
#[cfg(any(all(simprof_preloaded, not(simprof_heap)), test))]
mod signal;
#[cfg(any(all(simprof_preloaded, not(simprof_heap)), test))]
mod start;
#[cfg(any(simprof_preloaded, test))]
mod sys;
#[cfg(any(simprof_preloaded, test))]
mod table;
#[cfg(any(simprof_preloaded, test))]
mod thread;
#[cfg(any(simprof_preloaded, test))]
mod tree;
#[cfg(any(all(simprof_preloaded, not(simprof_heap)), test))]
mod waits;

/// The shared library: an ELF file.
#[cfg(not(simprof_preloaded))]
pub const LIBRARY: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/libsimprof_preload.so"));

/// The shared library that records allocations: an ELF file; empty on machines other than x86-64, where there is none yet.
#[cfg(not(simprof_preloaded))]
pub const HEAP_LIBRARY: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/libsimprof_heap.so"));

/// Nothing in the library panics knowingly; where it did, the target would have to end.
#[cfg(simprof_preloaded)]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // SAFETY: it has no preconditions.
    unsafe { sys::abort() }
}

// Rust's own compiled parts name a function that unwinding would call. Nothing unwinds here, and no other definition is to be
// found when the library is loaded.
#[cfg(simprof_preloaded)]
core::arch::global_asm!(
    ".pushsection .text.rust_eh_personality,\"ax\",@progbits",
    ".globl rust_eh_personality",
    ".hidden rust_eh_personality",
    ".type rust_eh_personality, @function",
    "rust_eh_personality:",
    #[cfg(target_arch = "x86_64")]
    "call abort@PLT",
    #[cfg(target_arch = "aarch64")]
    "b abort",
    ".popsection",
);
