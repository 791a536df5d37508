//! The library that records allocations: a second shared library, built from the same crate.
//!
//! | module | content |
//! | --- | --- |
//! | [`mod@format`] | the memory that it shares with the profiler |
//! | `hooks`, `real`, `caller` | the functions that replace the allocator's, the real ones, and the caller's registers |
//! | `byte_sampling`, `live` | which allocations are recorded, and which of them are live |
//! | `record` | the records of allocations and of their ends |
//! | `unwind`, `modules`, `nodes`, `unload` | native stacks: unwinding, files, the tree of stacks, unloaded code |
//! | `mmap_hooks`, `mappings` | memory that the program maps itself |
//! | `python`, `python_allocator`, `late_interpreter` | the Python interpreter, and the hooks of its allocators |
//! | `custom_allocator` | a program's own allocator, reported through the probe |
//! | `shared`, `image` | the shared memory, and this process image's slot in it |
//! | `contexts`, `thread`, `start` | buffers for unwinding, the state of a thread, the start of the library |
//! | `root` | the root folder of the process |
//! | `memory_limits` | how much memory the process may still map |
//! | `deepbind` | libraries that look past the hooks |
//! | `confinement` | preparation for a seccomp filter of the program |

pub mod format;

#[cfg(any(simprof_heap, test))]
mod byte_sampling;
#[cfg(simprof_heap)]
mod caller;
#[cfg(simprof_heap)]
pub mod confinement;
#[cfg(any(simprof_heap, test))]
mod contexts;
#[cfg(simprof_heap)]
mod custom_allocator;
#[cfg(simprof_heap)]
pub mod deepbind;
#[cfg(simprof_heap)]
mod hooks;
#[cfg(simprof_heap)]
mod image;
#[cfg(simprof_heap)]
mod late_interpreter;
#[cfg(any(simprof_heap, test))]
mod live;
#[cfg(any(simprof_heap, test))]
mod loader;
#[cfg(simprof_heap)]
mod mappings;
#[cfg(any(simprof_heap, test))]
mod memory_limits;
#[cfg(simprof_heap)]
mod mmap_hooks;
#[cfg(any(simprof_heap, test))]
mod modules;
#[cfg(any(simprof_heap, test))]
mod nodes;
#[cfg(any(simprof_heap, test))]
mod proc_maps;
#[cfg(simprof_heap)]
mod python;
#[cfg(simprof_heap)]
mod python_allocator;
#[cfg(simprof_heap)]
mod real;
#[cfg(simprof_heap)]
mod record;
#[cfg(simprof_heap)]
mod root;
#[cfg(any(simprof_heap, test))]
mod shared;
#[cfg(simprof_heap)]
mod start;
#[cfg(any(simprof_heap, test))]
mod system;
#[cfg(any(simprof_heap, test))]
mod thread;
#[cfg(simprof_heap)]
mod unload;
#[cfg(any(simprof_heap, test))]
mod unwind;
