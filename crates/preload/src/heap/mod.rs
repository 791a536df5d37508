//! The library that records allocations: a second shared library, made of the same crate.
//!
//! | module | what |
//! | --- | --- |
//! | [`mod@format`] | the memory that it shares with the profiler |
//! | `hooks` | the functions that stand before the allocator's, and `real` those |
//! | `draw`, `live` | which allocations are recorded, and which of them are live |
//! | `record` | the records of allocations and of their ends |
//! | `unwind`, `modules`, `nodes`, `unload` | native stacks: unwound, named by file, kept as a tree |
//! | `maps`, `python`, `program` | what else allocates: the program by mapping, Python, the program's own allocator |
//! | `shared`, `contexts`, `thread`, `start` | what belongs to all processes, to one, to a thread; how it begins |
//! | `room` | how much memory the program leaves to the library |
//! | `later` | an interpreter that is loaded later |

pub mod format;

#[cfg(any(simprof_heap, all(test, target_arch = "x86_64")))]
mod contexts;
#[cfg(any(simprof_heap, all(test, target_arch = "x86_64")))]
mod draw;
#[cfg(simprof_heap)]
mod hooks;
#[cfg(simprof_heap)]
mod later;
#[cfg(any(simprof_heap, all(test, target_arch = "x86_64")))]
mod live;
#[cfg(simprof_heap)]
mod maps;
#[cfg(any(simprof_heap, all(test, target_arch = "x86_64")))]
mod modules;
#[cfg(any(simprof_heap, all(test, target_arch = "x86_64")))]
mod nodes;
#[cfg(simprof_heap)]
mod program;
#[cfg(simprof_heap)]
mod python;
#[cfg(simprof_heap)]
mod real;
#[cfg(simprof_heap)]
mod record;
#[cfg(any(simprof_heap, all(test, target_arch = "x86_64")))]
mod room;
#[cfg(any(simprof_heap, all(test, target_arch = "x86_64")))]
mod shared;
#[cfg(simprof_heap)]
mod start;
#[cfg(any(simprof_heap, all(test, target_arch = "x86_64")))]
mod system;
#[cfg(any(simprof_heap, all(test, target_arch = "x86_64")))]
mod thread;
#[cfg(simprof_heap)]
mod unload;
#[cfg(any(simprof_heap, all(test, target_arch = "x86_64")))]
mod unwind;

#[cfg(simprof_heap)]
pub(crate) use thread::own_work;

/// The other library's way to [`own_work`].
#[cfg(simprof_heap)]
#[unsafe(no_mangle)]
extern "C" fn simprof_heap_own(change: i32) {
    own_work(change);
}

/// In a forked child: what is there of its parent, and is not told by zeroed memory.
#[cfg(simprof_heap)]
fn forget_parent() {
    maps::forked();
    python::forked();
}
