//! The library that simprof loads into a target. It records Python frames with each sample, and the waits of
//! threads.
//!
//! It is loaded by `LD_PRELOAD` and shares a file of memory with the profiler ([`mod@format`]). In a process
//! that runs no Python it records nothing and only handles `exec`. Its code in the target never allocates and
//! never locks.
//!
//! This crate is compiled three times. The build script compiles it as two shared libraries without Rust's
//! standard library (`cfg(simprof_preloaded)`); the one that records allocations, [`heap`], also has
//! `cfg(simprof_heap)`. The ordinary crate contains these libraries as bytes ([`LIBRARY`], [`HEAP_LIBRARY`]),
//! and the formats. Tests of the ordinary crate also contain the libraries' modules, but do not export the
//! interposed functions.

#![cfg_attr(simprof_preloaded, no_std)]
// The ordinary crate has no constructor and interposes nothing, so its tests use only parts of the modules.
#![cfg_attr(not(simprof_preloaded), allow(dead_code))]
// The heap library uses only parts of the shared modules.
#![cfg_attr(simprof_heap, allow(dead_code, unused_imports))]

pub mod format;
pub mod heap;
#[cfg(not(simprof_preloaded))]
pub mod supported;

#[cfg(any(simprof_preloaded, test))]
mod codes;
#[cfg(any(simprof_preloaded, test))]
mod exec;
#[cfg(any(simprof_preloaded, test))]
mod generations;
#[cfg(any(simprof_preloaded, test))]
mod lookup_cache;
#[cfg(simprof_preloaded)]
mod marks;
#[cfg(any(simprof_preloaded, test))]
mod own_work;
#[cfg(any(simprof_preloaded, test))]
mod process;
#[cfg(any(simprof_preloaded, test))]
mod python;
#[cfg(any(simprof_preloaded, test))]
mod real_function;
#[cfg(any(all(simprof_preloaded, not(simprof_heap)), test))]
mod ring;
#[cfg(any(simprof_preloaded, test))]
mod scratch;
#[cfg(all(simprof_preloaded, not(simprof_heap)))]
mod script;
#[cfg(any(simprof_preloaded, test))]
mod seccomp;
#[cfg(any(simprof_preloaded, test))]
mod shared_memory;
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

/// The shared library that records Python frames and waits: an ELF file.
#[cfg(not(simprof_preloaded))]
pub const LIBRARY: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/libsimprof_preload.so"));

/// The shared library that records allocations: an ELF file.
#[cfg(not(simprof_preloaded))]
pub const HEAP_LIBRARY: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/libsimprof_heap.so"));

#[cfg(simprof_heap)]
use heap::{
    confinement::{filter_was_added, prepare as prepare_for_filter},
    deepbind::interposed,
};
#[cfg(all(simprof_preloaded, not(simprof_heap)))]
use seccomp::find as interposed;
#[cfg(all(simprof_preloaded, not(simprof_heap)))]
use start::{filter_was_added, prepare_for_filter};

/// Ends the target. The library contains no intentional panics.
#[cfg(simprof_preloaded)]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // SAFETY: `abort` has no preconditions.
    unsafe { sys::abort() }
}

// Rust's precompiled parts refer to a function that unwinding would call. Nothing unwinds here, and the
// loader would find no other definition.
#[cfg(simprof_preloaded)]
core::arch::global_asm!(
    ".pushsection .text.rust_eh_personality,\"ax\",@progbits",
    ".globl rust_eh_personality",
    ".hidden rust_eh_personality",
    ".type rust_eh_personality, @function",
    "rust_eh_personality:",
    "call abort@PLT",
    ".popsection",
);
