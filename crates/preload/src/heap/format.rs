//! Layout of the memory that the heap library shares with the profiler: one file that both map and that
//! outlives a killed target.
//!
//! The file is sparse: pages that are never written use no memory. Numbers have the machine's byte order.
//! Every field that both sides access is an atomic. Everything except the first six fields of the header
//! starts as zero.
//!
//! | part | content |
//! | --- | --- |
//! | [`Header`] | the profiler's settings, and counts of losses |
//! | [`Process`] × [`PROCESSES`] | one slot for each process image that allocates (a forked child that never allocates has none) |
//! | [`Lane`] × [`LANES`] | the read and write positions of each ring buffer |
//! | generations | the tables, see [`crate::format`]; [`size`] has their sizes |
//!
//! Each generation has these parts:
//!
//! | part | content |
//! | --- | --- |
//! | [`Module`]s | the files that frames are in |
//! | [`Record`] × [`RECORDS`] for each lane | the ring buffers: an allocation was made, an allocation ended |
//! | [`Node`]s | native stacks as a tree: one node for each distinct frame called from a distinct stack |
//! | `u32` slots | hash table from a node's content to its index |
//!
//! # Sampling
//!
//! With a [`Header::interval`] of 1 every allocation is recorded. With an interval of `n` bytes, allocated
//! bytes are sampled by a Poisson process: sampled bytes are `n` bytes apart on average. An allocation is
//! recorded if at least one of its bytes is sampled, which has the probability `1 - exp(-size / n)`. A
//! recorded allocation represents [`weight`] allocations of its size. This makes sums of counts and bytes
//! unbiased for any set of allocations that is chosen without looking at the sample: those of a stack, those
//! live at a time, those of a size.
//!
//! The end of an allocation is recorded if and only if the allocation was. Its record repeats
//! [`Record::size`], [`Record::stack`] and [`Record::made_ns`] of the allocation, so a reader needs no table
//! of live allocations: sums suffice. When a process image ends (by exit, exec or kill), its allocations end
//! without a record.
//!
//! `realloc` is an end and an allocation, both with [`flag::REALLOC`], next to each other in one lane, the
//! end first. So the sum of live bytes never exceeds the true value in between. A reader sees both or none.
//! In sampled mode each half is sampled independently, and may occur alone.
//!
//! When a part of a mapping is unmapped, the whole mapping ends and the remaining part becomes an allocation
//! with [`flag::REMAINDER`]. It stands right after the end; if a hole leaves two parts, the second part
//! follows. A remainder keeps the stack and the time of the original. In sampled mode it is sampled again,
//! conditional on the original having been sampled, so sums stay unbiased.
//!
//! # Ring buffers
//!
//! A thread always writes to the same lane. Several threads, of several processes, may share one. Within a
//! lane, the records of a thread are in the order of events. An exception is a signal handler that interrupts
//! the library: its records may precede the interrupted one. Between lanes, [`Record::time_ns`] gives the
//! order. An allocation's time is taken after it was made, and an end's before it happens, so sorted by time
//! no two allocations overlap at one address.
//!
//! A writer reads [`Lane::next`] and [`Lane::taken`]. The lane is full if `next + n - taken` exceeds
//! [`RECORDS`]. For allocations in sampled mode it is full at three quarters of that, so that ends are hardly
//! ever lost. If the lane is full in sampled mode, the writer adds `n` to [`Lane::lost`] and continues; an
//! allocation whose record is lost is forgotten, so that its end is not recorded either. In exact mode the
//! writer waits, at most [`WAIT_NS`] while `taken` does not move. Then it sets [`Header::abandoned`], and
//! nothing is recorded any more. If there is space, the writer exchanges `next` for `next + n`, which
//! reserves the positions `next .. next + n`. It writes the fields of the records `position % RECORDS` and
//! then, with release ordering, their stamps, the last position's first.
//!
//! A reader looks at the record of the position `taken`. It is complete if its stamp holds that position's
//! sequence ([`sequence`], read with acquire ordering). After reading the fields, the reader stores `taken +
//! 1` with release ordering. If `next` is greater than `taken` but the record stays incomplete, its writer
//! was stopped or killed within the few tens of nanoseconds that writing takes. Once the writer's processes are
//! known to have ended, or after a second, a reader skips the position and counts it as lost.
//!
//! # Stacks
//!
//! The low half of [`Record::stack`] is the [`Node`] of the leaf frame: the function that called the
//! allocator. The library's own frames are not included. The high half is a node of the Python stack in the
//! memory of [`crate::format`], or 0. The target is given that memory as well ([`crate::format::VARIABLE`],
//! with no [`crate::format::Header::features`]).

use core::ffi::CStr;
use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64};

use crate::format::{GENERATIONS, Location, Offsets, generations, locate, sum};

/// Identifies the format and its version.
pub const MAGIC: u64 = u64::from_le_bytes(*b"simprofH");
/// The environment variable that holds the path of the memory.
pub const VARIABLE: &CStr = c"SIMPROF_HEAP";
/// Default sampling interval: mean number of bytes between two sampled bytes.
pub const DEFAULT_INTERVAL: u64 = 512 << 10;

/// Number of slots for process images.
pub const PROCESSES: usize = 4096;
/// Number of ring buffers.
pub const LANES: usize = sum(size::LANES);
/// Number of records per ring buffer: a power of two.
pub const RECORDS: u64 = 1 << 16;
/// Maximum number of nodes in the tree of stacks. Node 0 is the empty stack.
pub const NODES: usize = sum(size::NODES);
/// Maximum number of modules. Module 0 stands for code that is in no known file.
pub const MODULES: usize = sum(size::MODULES);
/// Maximum number of native frames recorded per stack, counted from the leaf.
pub const MAX_FRAMES: usize = 256;
/// How long exact mode waits for a reader that makes no progress, ns.
pub const WAIT_NS: u64 = 5_000_000_000;

/// Sizes of the tables' parts in each generation.
pub mod size {
    use super::GENERATIONS;

    /// Number of modules.
    pub const MODULES: [usize; GENERATIONS] = [512, 1024, 4096];
    /// Number of ring buffers.
    pub const LANES: [usize; GENERATIONS] = [1, 3, 12];
    /// Number of nodes.
    pub const NODES: [usize; GENERATIONS] = [1 << 16, 1 << 18, 1 << 21];
    /// Slots of the nodes' hash table: a power of two, twice the number of nodes. A slot holds a node's index, or 0.
    pub const NODE_SLOTS: [usize; GENERATIONS] = [1 << 17, 1 << 19, 1 << 22];
}

/// Offsets of the parts, bytes.
pub mod offset {
    use super::*;

    /// The processes.
    pub const PROCESSES: usize = 4096;
    /// The lanes.
    pub const LANES: usize = PROCESSES + super::PROCESSES * size_of::<Process>();
    /// The generations, and the end of the last one.
    pub const GENERATIONS: Offsets = generations(
        LANES + super::LANES * size_of::<Lane>(),
        [generation_bytes(0), generation_bytes(1), generation_bytes(2)],
    );
    /// The end: the length of the file.
    pub const END: usize = GENERATIONS[super::GENERATIONS];

    const fn generation_bytes(generation: usize) -> usize {
        node_slots(generation) + size::NODE_SLOTS[generation] * 4
    }

    /// Offset of the modules in a generation.
    pub const MODULES: usize = 0;

    /// Returns the offset of the ring buffers in a generation.
    pub const fn records(generation: usize) -> usize {
        MODULES + size::MODULES[generation] * size_of::<Module>()
    }

    /// Returns the offset of the nodes in a generation.
    pub const fn nodes(generation: usize) -> usize {
        records(generation) + size::LANES[generation] * RECORDS as usize * size_of::<Record>()
    }

    /// Returns the offset of the nodes' hash table in a generation.
    pub const fn node_slots(generation: usize) -> usize {
        nodes(generation) + size::NODES[generation] * size_of::<Node>()
    }

    /// Returns the offset of a module in the file; `None` if there is no such module.
    pub fn module(number: usize) -> Option<usize> {
        location::module(number).map(in_file)
    }

    /// Returns the offset of a lane's record in the file, see [`location::record`].
    pub fn record(lane: usize, position: u64) -> Option<usize> {
        location::record(lane, position).map(in_file)
    }

    /// Returns the offset of a node in the file; `None` if there is no such node.
    pub fn node(number: usize) -> Option<usize> {
        location::node(number).map(in_file)
    }

    fn in_file((generation, offset): Location) -> usize {
        GENERATIONS[generation] + offset
    }
}

/// Locations of entries of the tables, see [`crate::format::location`].
pub mod location {
    use super::*;

    /// Returns the location of a module; `None` if there is no such module.
    pub fn module(number: usize) -> Option<Location> {
        let (generation, position) = locate(size::MODULES, number)?;
        Some((generation, offset::MODULES + position * size_of::<Module>()))
    }

    /// Returns the location of a lane's record for a position, which counts up without wrapping; `None` if there is no such lane.
    #[inline]
    pub fn record(lane: usize, position: u64) -> Option<Location> {
        let (generation, lane) = locate(size::LANES, lane)?;
        let number = lane * RECORDS as usize + (position % RECORDS) as usize;
        Some((generation, offset::records(generation) + number * size_of::<Record>()))
    }

    /// Returns the location of a node; `None` if there is no such node.
    #[inline]
    pub fn node(number: usize) -> Option<Location> {
        let (generation, position) = locate(size::NODES, number)?;
        Some((generation, offset::nodes(generation) + position * size_of::<Node>()))
    }
}

/// The profiler's settings, written before the target starts, and counters that the library increments.
#[repr(C)]
pub struct Header {
    /// [`MAGIC`].
    pub magic: u64,
    /// Length of the file: [`offset::END`].
    pub bytes: u64,
    /// Sampling interval: mean number of bytes between two sampled bytes. 1: every allocation is recorded.
    pub interval: u64,
    /// Seed of the sampling; any number. The same seed gives the same sample of a single-threaded target.
    pub seed: u64,
    /// 0: native stacks are recorded; 1: only Python stacks are.
    pub without_native: u64,
    /// Number of the profiler's own seccomp filters, see [`crate::format::filters_in`].
    pub filters: u64,
    /// Number of nodes in use. The first is node 1.
    pub nodes: AtomicU64,
    /// Number of modules in use. The first is module 1.
    pub modules: AtomicU64,
    /// Number of threads so far. A thread's lane is this number, before it adds 1, modulo [`LANES`]. If the process cannot map
    /// that lane, it is the number modulo those that it can map.
    pub threads: AtomicU64,
    /// Exact mode: CLOCK_MONOTONIC when recording stopped because the reader made no progress, ns; 0: it did
    /// not stop.
    pub abandoned: AtomicU64,
    /// Process images that found no free slot and are not recorded.
    pub processes_lost: AtomicU64,
    /// Allocations whose stack is missing or cut because the table of nodes or of modules was full.
    pub stacks_lost: AtomicU64,
    /// Sampled allocations that were not recorded because the table of live allocations was full.
    pub live_full: AtomicU64,
    /// Allocations that were recorded without a stack because too many threads, or signal handlers that
    /// interrupted the library, were unwinding.
    pub nested: AtomicU64,
    /// Allocations whose stack is cut because a seccomp filter forbids to examine the thread's stack.
    pub stacks_confined: AtomicU64,
}

const _: () = assert!(size_of::<Header>() <= offset::PROCESSES);

/// Values of [`Process::state`].
pub mod state {
    /// The slot is free.
    pub const FREE: u32 = 0;
    /// The process is filling in the slot.
    pub const TAKEN: u32 = 1;
    /// The process records. The state stays if the process is killed, calls `_exit` or replaces its image.
    pub const RECORDS: u32 = 2;
    /// The process is exiting in the ordinary way. It may still free allocations and record that.
    pub const EXITS: u32 = 3;
    /// The process is not recorded: see [`super::reason`].
    pub const UNSUPPORTED: u32 = 4;
}

/// Values of [`Process::reason`] with [`state::UNSUPPORTED`].
pub mod reason {
    /// The program contains a sanitizer that replaces the allocator.
    pub const SANITIZER: u32 = 1;
    /// The program defines its own `malloc`, which precedes the library's. Only allocations that the program
    /// reports through the probe are recorded.
    pub const OWN_MALLOC: u32 = 2;
    /// The process has a limit on its address space (`ulimit -v`) of which the library would use a large
    /// part.
    pub const LIMITED: u32 = 3;
    /// A seccomp filter may forbid system calls that the library needs.
    pub const FILTER: u32 = 4;
}

/// The slot of one process image. Its index is in each record.
#[repr(C, align(64))]
pub struct Process {
    /// See [`state`].
    pub state: AtomicU32,
    /// Process id, as the process itself sees it.
    pub pid: AtomicU32,
    /// The reason for the state, see [`state`].
    pub reason: AtomicU32,
    /// For a forked child: index of its parent's slot, plus 1; otherwise 0. A child starts with copies of its
    /// parent's allocations. They are not recorded again, and neither are their ends.
    pub parent: AtomicU32,
    /// CLOCK_MONOTONIC when the process first used this memory, ns.
    pub time_ns: AtomicU64,
    /// `PY_VERSION_HEX` of its interpreter, once the interpreter's objects are recorded; otherwise 0.
    pub python: AtomicU32,
    /// Inode of the process namespace that `pid` belongs to; 0: not known.
    pub namespace: AtomicU64,
    /// Private memory that the library uses in the process for its table of live allocations, bytes. It is
    /// part of the process's resident set.
    pub own_bytes: AtomicU64,
}

/// Positions of a ring buffer. Writers and readers use different cache lines.
#[repr(C, align(64))]
pub struct Lane {
    /// Number of records begun so far.
    pub next: AtomicU64,
    /// Records that were lost because the buffer was full.
    pub lost: AtomicU64,
    /// Number of records that the reader has taken.
    pub taken: Padded,
}

/// A number with its own cache line.
#[repr(C, align(64))]
pub struct Padded(pub AtomicU64);

/// The kind of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// An allocation was made.
    Alloc = 1,
    /// An allocation ended.
    Free = 2,
}

/// The allocator that an allocation came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Origin {
    /// `malloc` and its family, and everything built on it: C++'s `new`, Rust's system allocator, NumPy.
    Malloc = 0,
    /// Anonymous memory that the program itself mapped. Sizes are multiples of the page size.
    Map = 1,
    /// Python's allocator for small objects.
    Python = 2,
    /// The program's own allocator, reported through the probe.
    Program = 3,
}

/// Flags of a record, as bits of its stamp.
pub mod flag {
    /// Half of a `realloc` (or `mremap`, or of a partial `munmap`), see the module documentation.
    pub const REALLOC: u64 = 1 << 8;
    /// The native stack is truncated: unwinding did not reach the thread's first function.
    pub const PARTIAL: u64 = 1 << 9;
    /// The native stack is deeper than [`super::MAX_FRAMES`], or tables were full: frames towards the root
    /// are missing.
    pub const CUT: u64 = 1 << 10;
    /// The Python stack could not be read completely: frames towards the root are missing.
    pub const PYTHON_PARTIAL: u64 = 1 << 11;
    /// For an allocation: the remaining part of another one that ended just before. It was not allocated anew.
    pub const REMAINDER: u64 = 1 << 12;
}

/// Bits of a stamp below its sequence: 4 of the [`Kind`], 4 of the [`Origin`], 8 of [`flag`]s.
pub const SEQUENCE_SHIFT: u32 = 16;

/// Returns the stamp of a complete record: from the highest bits to the lowest its sequence, flags, origin
/// and kind.
pub const fn stamp(position: u64, kind: Kind, origin: Origin, flags: u64) -> u64 {
    sequence(position) << SEQUENCE_SHIFT | flags | (origin as u64) << 4 | kind as u64
}

/// Returns the sequence of this position, which a complete record's stamp holds above [`SEQUENCE_SHIFT`]
/// bits. It is never 0.
pub const fn sequence(position: u64) -> u64 {
    position + 1
}

/// Returns kind and origin of a stamp. `None` if it is not a stamp of this format.
pub const fn unstamp(stamp: u64) -> Option<(Kind, Origin)> {
    let kind = match stamp & 15 {
        1 => Kind::Alloc,
        2 => Kind::Free,
        _ => return None,
    };
    let origin = match stamp >> 4 & 15 {
        0 => Origin::Malloc,
        1 => Origin::Map,
        2 => Origin::Python,
        3 => Origin::Program,
        _ => return None,
    };
    Some((kind, origin))
}

/// Returns how many allocations of `size` bytes a recorded one represents: the reciprocal of its probability.
/// It represents `size` times as many bytes.
///
/// Horvitz and Thompson 1952. An allocation of 0 bytes is only recorded in exact mode.
#[cfg(not(simprof_preloaded))]
pub fn weight(size: u64, interval: u64) -> f64 {
    if interval <= 1 {
        return 1.0;
    }
    -1.0 / (-(size as f64) / interval as f64).exp_m1()
}

/// One event, in a cache line.
#[repr(C, align(64))]
pub struct Record {
    /// See [`stamp`]; 0 if never written.
    pub stamp: AtomicU64,
    /// CLOCK_MONOTONIC, ns.
    pub time_ns: AtomicU64,
    /// Thread id, as the process sees it (low half), and index of the process's slot (high half).
    pub thread: AtomicU64,
    /// Address of the allocation that the program received.
    pub address: AtomicU64,
    /// Requested size, bytes.
    pub size: AtomicU64,
    /// Leaf node of the native stack (low half) and of the Python stack (high half) that made the allocation;
    /// 0: none.
    pub stack: AtomicU64,
    /// When the allocation was made, ns. For [`Kind::Alloc`] without [`flag::REMAINDER`] it equals `time_ns`.
    pub made_ns: AtomicU64,
    /// Unused.
    pub reserved: AtomicU64,
}

const _: () = assert!(size_of::<Record>() == 64 && size_of::<Process>() == 64);

/// A node of the tree of stacks: a frame called from a stack.
#[repr(C)]
pub struct Node {
    /// The caller's node, or 0.
    pub parent: AtomicU32,
    /// The frame's module; 0 if the code is in no known file. The highest bit, [`EXACT`], is set if `address`
    /// is that of an instruction that a signal interrupted.
    pub module: AtomicU32,
    /// Return address of the frame. It is relative to the module, as in the module's symbol and line tables
    /// (address 0 in them is at the load bias in memory). Without a module it is absolute. The call is the
    /// instruction before: look up `address - 1`, unless [`EXACT`] is set.
    pub address: AtomicU64,
}

/// Bit of [`Node::module`].
pub const EXACT: u32 = 1 << 31;

/// A file that code was loaded from, recorded once for all processes.
#[repr(C)]
pub struct Module {
    /// 1 once all other fields are written, with release ordering.
    pub written: AtomicU32,
    /// Length of `build_id`, bytes; 0 if the file has none.
    pub build_id_bytes: AtomicU32,
    /// The file's build id.
    pub build_id: [AtomicU8; 32],
    /// Length of `path`, bytes.
    pub path_bytes: AtomicU32,
    /// Index of the slot of the process image that registered it.
    pub process: AtomicU32,
    /// Address at which that process image has mapped the beginning of the file.
    pub start: AtomicU64,
    /// 1: `path` is what the process's kernel reports (with ` (deleted)` if the file is gone), or `[vdso]`. 0: it is
    /// the path by which the process's loader opened the file, which may be relative to any folder and root; the
    /// program itself then has an empty path.
    pub is_mapped: AtomicU32,
    /// 1: this entry only reports that what this library allocates and frees is not recorded.
    pub is_unseen: AtomicU32,
    /// The file's path. Long paths are cut.
    pub path: [AtomicU8; 960],
}

const _: () = assert!(size_of::<Module>() == 1024);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_can_be_decoded() {
        for position in [0, 1, RECORDS, (1 << 48) - 2] {
            for kind in [Kind::Alloc, Kind::Free] {
                for origin in [Origin::Malloc, Origin::Map, Origin::Python, Origin::Program] {
                    let stamp = stamp(position, kind, origin, flag::REALLOC | flag::CUT);
                    assert_eq!(unstamp(stamp), Some((kind, origin)));
                    assert_eq!(stamp >> SEQUENCE_SHIFT, sequence(position));
                    assert_eq!(stamp & flag::PARTIAL, 0);
                    assert_ne!(stamp & flag::CUT, 0);
                }
            }
        }
        assert_eq!(unstamp(0), None);
    }

    #[test]
    fn a_weight_is_the_reciprocal_of_the_probability() {
        assert_eq!(weight(100, 1), 1.0);
        assert_eq!(weight(0, 1), 1.0);
        // Small allocations represent about interval / size, large ones only themselves.
        assert!((weight(16, 1 << 19) / 32768.5 - 1.0).abs() < 1e-6);
        assert_eq!(weight(1 << 30, 1 << 19), 1.0);
        assert!((weight(1 << 19, 1 << 19) - 1.0 / (1.0 - (-1.0f64).exp())).abs() < 1e-12);
    }

    #[test]
    fn parts_are_aligned() {
        for offset in [offset::PROCESSES, offset::LANES].into_iter().chain(offset::GENERATIONS) {
            assert_eq!(offset % 64, 0);
        }
        for generation in 0..GENERATIONS {
            assert_eq!(offset::records(generation) % 64, 0);
            assert_eq!(offset::nodes(generation) % 64, 0);
        }
    }
}
