//! Samples the stacks of a process and of all that it starts, from outside, by the kernel's perf events.
//!
//! [`Sampler::open`] opens one sampling event per CPU, inherited by threads and children, and starts
//! the thread that drains, orders and unwinds; [`symbolise()`] names what [`Sampler::finish`] hands over.
//! Nothing here stops or slows the target by more than the kernel's own copy of registers and stack:
//! where the recorder falls behind, samples are lost and counted.

mod address_space;
mod caveats;
mod debug_file;
mod drain;
mod dwarf;
mod error;
mod event;
mod kallsyms;
mod ladder;
mod merge;
mod module;
mod named;
mod observer;
mod profile;
mod python;
mod raw_stacks;
mod ring;
mod sampler;
mod symbol_table;
mod symbolise;
mod symbols;
mod unwind;

pub use error::{Refusal, SampleError};
pub(crate) use ladder::probe_signalling;
pub use ladder::{EventProbe, probe_events};
pub use profile::{Samples, symbolise};
pub(crate) use python::{interpreter_name, original_file_limit, unsampled_notices};
pub use sampler::Sampler;

pub(crate) use named::{NativeStack, OpenedModules, ToldStack, ToldStacks};
pub(crate) use raw_stacks::FastMap;

/// Whether the debug information of the program at `path`, whose bytes are `data`, is installed as a
/// file of its own.
pub(crate) fn has_debug_file(data: &[u8], path: &std::path::Path) -> bool {
    use object::read::elf::ElfFile64;
    let file = ElfFile64::<object::Endianness>::parse(data);
    file.is_ok_and(|file| debug_file::find(&file, path).is_some())
}

/// Which event is asked to tell the time that a thread spends on a CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Recorder {
    /// The best that the machine allows: [`Recorder::Cycles`], else [`Recorder::CpuClock`].
    Auto,
    /// The hardware's cycle counter. Virtual machines often have none.
    Cycles,
    /// The kernel's high-resolution timer; works wherever perf events do.
    CpuClock,
}

/// How to sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sampling {
    /// Samples per second of CPU time of the target, 1 to 100,000.
    pub rate_hz: u32,
    /// Bytes of user stack copied with each sample: a multiple of 8, at most 65,528 (the kernel
    /// cuts it shorter where a record would pass 64 KiB). Deeper stacks are cut and counted.
    pub stack_bytes: u32,
    /// Whether to record frames and time of the kernel, where that is allowed.
    pub kernel: bool,
    /// Which event to use.
    pub recorder: Recorder,
}
