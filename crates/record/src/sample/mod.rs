//! Samples the stacks of a process and its descendants with the kernel's perf events.
//!
//! [`Sampler::open`] opens one sampling event per CPU, which threads and children inherit, and starts the thread that drains
//! the buffers, orders the records and unwinds the stacks. [`Sampler::finish`] returns the samples, which [`symbolise()`] turns
//! into a profile. The target is never stopped: each sample costs it the kernel's copy of registers and stack. If the recorder
//! falls behind, samples are lost and counted.

mod address_space;
mod call_sites;
mod code_exit;
mod code_loops;
mod debug_file;
mod debug_storage;
mod drain;
mod dwarf;
mod dynamic_symbols;
mod error;
mod event;
mod event_fallback;
mod kallsyms;
mod map_file;
mod module;
mod native_frames;
mod native_stacks;
mod notices;
mod observed_process;
mod observer;
mod partial_units;
mod perf_map;
mod plt;
mod process_memory;
mod profile;
mod python;
mod raw_stacks;
mod record_order;
mod registers;
mod ring;
mod sampler;
mod samples;
mod scheduling;
mod split_files;
mod state_spans;
mod switches;
mod symbol_table;
mod symbolise;
mod symbols;
mod target_stacks;
mod thread_states;
mod tight_loops;
mod trace;
mod unwind;
mod unwind_rule;
mod unwind_table;
mod wait_cause;

pub use error::{Refusal, SampleError};
pub(crate) use event_fallback::probe_signalling;
pub use event_fallback::{EventProbe, probe_events};
pub use profile::symbolise;
pub(crate) use python::{interpreter_name, original_file_limit, unsampled_notices};
pub(crate) use raw_stacks::FastMap;
pub use sampler::Sampler;
pub use samples::Samples;
pub(crate) use target_stacks::{
    MappedModule, NativeStack, OpenedModules, TargetStack, TargetStacks,
};

/// Returns whether a separate file with the debug information of the program at `path` is installed. `data` is the content of
/// the program.
pub(crate) fn has_debug_file(data: &[u8], path: &std::path::Path) -> bool {
    use object::read::elf::ElfFile64;
    let file = ElfFile64::<object::Endianness>::parse(data);
    file.is_ok_and(|file| debug_file::find(&file, path).is_some())
}

pub(crate) use symbolise::missing_files;

/// The event that triggers samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Recorder {
    /// [`Recorder::Cycles`] if available, otherwise [`Recorder::CpuClock`].
    Auto,
    /// The hardware's cycle counter. Virtual machines often have none.
    Cycles,
    /// The kernel's high-resolution timer. It is available wherever perf events are.
    CpuClock,
}

/// Sampling settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sampling {
    /// Samples per second of CPU time of the target, 1 to 100,000.
    pub rate_hz: u32,
    /// Bytes of user stack copied with each sample: a multiple of 8, at most 65,528. The kernel copies less if the record would
    /// exceed 64 KiB. Deeper stacks are truncated and counted.
    pub stack_bytes: u32,
    /// Whether to sample time in the kernel, with its frames, if the system allows it.
    pub kernel: bool,
    /// The event to use.
    pub recorder: Recorder,
}
