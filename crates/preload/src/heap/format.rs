//! The memory that the heap library shares with the profiler: one file, mapped by both, that outlives a killed target.
//!
//! The file is sparse; what is never written takes no room. All numbers are of the machine's byte order. Every place that
//! two sides touch is an atomic; zero is the initial value of everything but the first five fields of the header.
//!
//! | part | what |
//! | --- | --- |
//! | [`Header`] | what is asked for, and what was lost |
//! | [`Process`] × [`PROCESSES`] | one for each process image that allocates (a forked child that never allocates has none) |
//! | [`Lane`] × [`LANES`] | where each ring is written and read |
//! | [`Record`] × [`RECORDS`] × [`LANES`] | the rings: an allocation was made, an allocation ended |
//! | [`Node`] × [`NODES`] | native stacks as a tree: each distinct frame called from a distinct stack, once |
//! | `u32` × [`NODE_SLOTS`] | hash table from a node's content to its position |
//! | [`Module`] × [`MODULES`] | the files that frames are in |
//!
//! # What is sampled
//!
//! With [`Header::interval`] of 1 every allocation is recorded. With an interval of `n` bytes, every allocated byte is drawn
//! with a probability such that draws are `n` bytes apart on average (a Poisson process over the bytes), and an
//! allocation is recorded where at least one of its bytes is drawn: with probability `1 - exp(-size / n)`. One that is
//! recorded stands for [`weight`] allocations of its size, which makes sums of counts and of bytes unbiased, for any set of
//! allocations that is chosen without looking at the sample: those of a stack, those live at a time, those of a size.
//!
//! The end of an allocation is recorded if and only if the allocation was. Its record repeats what the allocation's
//! said ([`Record::size`], [`Record::stack`], and [`Record::made_ns`], when it was made), so a reader needs no table of what is
//! live: sums suffice. An allocation whose process image ends (by exit, exec or kill) ends without a record.
//!
//! `realloc` is an end and an allocation, both with [`flag::REALLOC`], beside each other in one lane, the end first: so the
//! sum of live bytes never rises above the truth between them. A reader sees both or none. In sampled mode each half is drawn
//! by itself, and may stand alone.
//!
//! A mapping that ends in part ends as a whole, and what is left of it is an allocation with [`flag::REST`]: beside the end, or, where
//! a hole leaves two, the second after it. What is left keeps the stack and the time of the whole. In sampled mode it is
//! drawn anew among those draws that hit the whole, so sums stay unbiased.
//!
//! # Rings
//!
//! A thread always writes into the same lane; several threads (of several processes) may share one. Within a lane,
//! the records of a thread stand in the order in which things happened (but those of a signal handler that interrupts the
//! library's own work may stand before the one that it interrupted). Between lanes, [`Record::time_ns`] tells; an
//! allocation's time is taken after it was made, an end's before it happens, so that sorted by time no two
//! allocations overlap in one place.
//!
//! A writer reads [`Lane::next`] and [`Lane::taken`]. Where `next + n - taken` exceeds [`RECORDS`] there is no room (in sampled
//! mode, for an allocation, where it exceeds three quarters of that, so that ends are hardly ever lost): in sampled mode it
//! adds `n` to [`Lane::lost`] and goes on, and an allocation whose record is lost is forgotten, so that its end will not be
//! recorded either; in exact mode it waits, at most [`WAIT_NS`] while `taken` does not move, then it sets
//! [`Header::abandoned`], and from then on nothing is recorded. Where there is room it exchanges `next` for `next + n`,
//! which makes the positions `next .. next + n` its own, writes the fields of the records `position % RECORDS` and then, with
//! release ordering, their stamps, the last position's first.
//!
//! A reader looks at the record of the position `taken`: it is whole when its stamp holds that position's
//! sequence ([`sequence`], read with acquire ordering). When it has read the fields, it stores `taken + 1` with release ordering.
//! Where `next` is greater than `taken` but the record stays unwritten, its writer was stopped or killed at its work (some ten
//! nanoseconds long): once the writer's processes are known to have ended, or after a second, a reader steps over the position
//! and counts it as lost.
//!
//! # Stacks
//!
//! The low half of [`Record::stack`] is the [`Node`] of the innermost frame: the function that called the allocator; the
//! library's own frames are not there. The high half is a node of the Python stack, in the memory of [`crate::format`], which
//! the target is given beside this one ([`crate::format::VARIABLE`], with no [`crate::format::Header::features`]); 0 where there is none.

use core::ffi::CStr;
use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64};

/// Names the format and its version.
pub const MAGIC: u64 = u64::from_le_bytes(*b"simprofH");
/// The environment variable that holds the path of the memory.
pub const VARIABLE: &CStr = c"SIMPROF_HEAP";
/// Mean distance of two draws in sampled mode where nothing else is said, bytes.
pub const DEFAULT_INTERVAL: u64 = 512 << 10;

/// How many process images can be told of.
pub const PROCESSES: usize = 4096;
/// How many rings there are.
pub const LANES: usize = 16;
/// How many records a ring holds: a power of two.
pub const RECORDS: u64 = 1 << 16;
/// How many nodes the tree of stacks can have; node 0 is the empty stack.
pub const NODES: usize = 1 << 21;
/// Slots of the nodes' hash table: a power of two, twice as many as nodes. A slot holds a node's position, or 0.
pub const NODE_SLOTS: usize = 1 << 22;
/// How many modules can be told of; module 0 stands for code that is in no known file.
pub const MODULES: usize = 4096;
/// Most native frames that are recorded of one stack, counted from the innermost.
pub const MAX_FRAMES: usize = 256;
/// How long exact mode waits for a reader that does not read, ns.
pub const WAIT_NS: u64 = 5_000_000_000;

/// Where each part begins.
pub mod offset {
    use super::*;

    /// The processes.
    pub const PROCESSES: usize = 4096;
    /// The lanes.
    pub const LANES: usize = PROCESSES + super::PROCESSES * size_of::<Process>();
    /// The rings, one after the other.
    pub const RECORDS: usize = LANES + super::LANES * size_of::<Lane>();
    /// The tree of stacks.
    pub const NODES: usize = RECORDS + super::LANES * super::RECORDS as usize * size_of::<Record>();
    /// The nodes' hash table.
    pub const NODE_SLOTS: usize = NODES + super::NODES * size_of::<Node>();
    /// The modules.
    pub const MODULES: usize = NODE_SLOTS + super::NODE_SLOTS * 4;
    /// The end: the length of the file.
    pub const END: usize = MODULES + super::MODULES * size_of::<Module>();
}

/// What is asked for, written by the profiler before the target starts; and counts, added to by the library.
#[repr(C)]
pub struct Header {
    /// [`MAGIC`].
    pub magic: u64,
    /// Length of the file: [`offset::END`].
    pub bytes: u64,
    /// Mean distance of two draws, bytes; 1: every allocation is recorded.
    pub interval: u64,
    /// Where the draws begin: the same number makes a single-threaded target draw the same again. Any number will do.
    pub seed: u64,
    /// 0: native stacks; 1: none, only Python's.
    pub without_native: u64,
    /// Nodes in use; the first is node 1.
    pub nodes: AtomicU64,
    /// Modules in use; the first is module 1.
    pub modules: AtomicU64,
    /// Lanes given out so far: a thread's lane is this number, before it adds 1, modulo [`LANES`].
    pub threads: AtomicU64,
    /// Exact mode: CLOCK_MONOTONIC at which recording ended since nobody read the records, ns; 0: it did not.
    pub abandoned: AtomicU64,
    /// Process images that found no free place and are not recorded.
    pub processes_lost: AtomicU64,
    /// Allocations without a stack, or with less of it, since there was no room for nodes or modules.
    pub stacks_lost: AtomicU64,
    /// Sampled allocations that were not recorded since too many were live, so that their ends would not have been seen.
    pub live_full: AtomicU64,
    /// Allocations that were recorded without a stack, since too many threads (and signal handlers amid the library's work)
    /// were about theirs.
    pub nested: AtomicU64,
}

const _: () = assert!(size_of::<Header>() <= offset::PROCESSES);

/// Values of [`Process::state`].
pub mod state {
    /// Nobody's.
    pub const FREE: u32 = 0;
    /// Being filled in by the process.
    pub const TAKEN: u32 = 1;
    /// The process records. It stays so where it is killed, calls `_exit` or replaces its image.
    pub const RECORDS: u32 = 2;
    /// The process began to exit in the ordinary way. It may still free what it has, and record it.
    pub const EXITS: u32 = 3;
    /// The process is not recorded: see [`super::reason`].
    pub const UNSUPPORTED: u32 = 4;
}

/// Values of [`Process::reason`] with [`state::UNSUPPORTED`].
pub mod reason {
    /// A sanitizer that replaces the allocator is part of the program.
    pub const SANITIZER: u32 = 1;
    /// The program brings its own `malloc`, which comes before the library's: nothing is seen unless it tells of its
    /// allocations by the shim.
    pub const OWN_MALLOC: u32 = 2;
    /// The process may map so little (`ulimit -v`) that the library would take much of it.
    pub const LIMITED: u32 = 3;
}

/// One process image. Its position, counted from 0, is in each record.
#[repr(C, align(64))]
pub struct Process {
    /// See [`state`].
    pub state: AtomicU32,
    /// Process id, as the process itself sees it.
    pub pid: AtomicU32,
    /// Why not, see [`state`].
    pub reason: AtomicU32,
    /// For a forked child: position of its parent's image, plus 1; else 0. A child begins with copies of what its parent had;
    /// they are not recorded again, neither is their end.
    pub parent: AtomicU32,
    /// CLOCK_MONOTONIC of its first look at this memory, ns.
    pub time_ns: AtomicU64,
    /// `PY_VERSION_HEX` of its interpreter, once its objects are recorded; else 0.
    pub python: AtomicU32,
    /// Inode of the process namespace that `pid` is of; 0: not known.
    pub namespace: AtomicU64,
    /// Memory of its own that the library has touched to keep what is live, bytes: the process's resident set has it too.
    pub own_bytes: AtomicU64,
}

/// Where a ring is written and read; the two sides' numbers are in different cache lines.
#[repr(C, align(64))]
pub struct Lane {
    /// How many records were ever begun.
    pub next: AtomicU64,
    /// Records for which there was no room.
    pub lost: AtomicU64,
    /// How many records the reader has taken.
    pub taken: Padded,
}

/// A number in a cache line of its own.
#[repr(C, align(64))]
pub struct Padded(pub AtomicU64);

/// What a record tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// An allocation was made.
    Alloc = 1,
    /// An allocation ended.
    Free = 2,
}

/// Who allocated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Origin {
    /// `malloc` and its family, and what is built upon it: C++'s `new`, Rust's system allocator, NumPy.
    Malloc = 0,
    /// Anonymous memory that the program itself mapped. Sizes are multiples of the page.
    Map = 1,
    /// Python's own allocator for small objects.
    Python = 2,
    /// The program's own allocator, told by the shim.
    Program = 3,
}

/// Bits of a stamp that say more.
pub mod flag {
    /// Half of a `realloc` (or `mremap`, or of a partial `munmap`), see the module.
    pub const REALLOC: u64 = 1 << 8;
    /// The native stack does not reach the thread's first function: frames towards the root are missing.
    pub const PARTIAL: u64 = 1 << 9;
    /// The native stack is deeper than [`super::MAX_FRAMES`], or tables were full: frames towards the root are missing.
    pub const CUT: u64 = 1 << 10;
    /// The Python stack could not be read wholly: frames towards the root are missing.
    pub const PYTHON_PARTIAL: u64 = 1 << 11;
    /// Of an allocation: what lives on of another that ended just before, made when that was. It was not allocated anew.
    pub const REST: u64 = 1 << 12;
}

/// Bits of a stamp below its sequence: 4 of the [`Kind`], 4 of the [`Origin`], 8 of [`flag`]s.
pub const SEQUENCE_SHIFT: u32 = 16;

/// The stamp of a whole record: from the highest bits to the lowest its sequence, flags, origin and kind.
pub const fn stamp(position: u64, kind: Kind, origin: Origin, flags: u64) -> u64 {
    sequence(position) << SEQUENCE_SHIFT | flags | (origin as u64) << 4 | kind as u64
}

/// The sequence that a whole record's stamp holds, above [`SEQUENCE_SHIFT`] bits, at this position: never 0.
pub const fn sequence(position: u64) -> u64 {
    position + 1
}

/// Kind and origin of a stamp; none where it is no stamp of this format.
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

/// How many allocations of `size` bytes one that was recorded stands for: the reciprocal of its probability. Each stands for
/// `size` times as many bytes.
///
/// Horvitz and Thompson 1952. An allocation of 0 bytes is recorded in exact mode only.
#[cfg(not(simprof_preloaded))]
pub fn weight(size: u64, interval: u64) -> f64 {
    if interval <= 1 {
        return 1.0;
    }
    -1.0 / (-(size as f64) / interval as f64).exp_m1()
}

/// One thing that happened: a cache line.
#[repr(C, align(64))]
pub struct Record {
    /// See [`stamp`]; 0 where never written.
    pub stamp: AtomicU64,
    /// CLOCK_MONOTONIC, ns.
    pub time_ns: AtomicU64,
    /// Thread id, as the process sees it (low half), and position in the processes (high half).
    pub thread: AtomicU64,
    /// Address of the allocation, as the program has it.
    pub address: AtomicU64,
    /// Bytes that were asked for.
    pub size: AtomicU64,
    /// Node of the native stack (low half) and of the Python stack (high half) that made the allocation; 0: none.
    pub stack: AtomicU64,
    /// When the allocation was made: for [`Kind::Alloc`] without [`flag::REST`], `time_ns`.
    pub made_ns: AtomicU64,
    /// Not in use.
    pub reserved: AtomicU64,
}

const _: () = assert!(size_of::<Record>() == 64 && size_of::<Process>() == 64);

/// A frame called from a stack.
#[repr(C)]
pub struct Node {
    /// The caller's node, or 0.
    pub parent: AtomicU32,
    /// The frame's module; 0 where the code is in no known file. The highest bit, [`EXACT`], is set where `address` is
    /// that of the instruction that was interrupted by a signal.
    pub module: AtomicU32,
    /// Address that the frame returns to, as in the module's own symbol and line tables (what is at 0 in them is at the
    /// load bias in memory); without a module, in memory. The call is the instruction before: look up `address - 1`, unless
    /// [`EXACT`].
    pub address: AtomicU64,
}

/// Bit of [`Node::module`].
pub const EXACT: u32 = 1 << 31;

/// A file that code was loaded from; once for all processes that loaded it.
#[repr(C)]
pub struct Module {
    /// 1 once all else is written, with release ordering.
    pub whole: AtomicU32,
    /// Bytes of `build_id` in use; 0 where the file has none.
    pub build_id_bytes: AtomicU32,
    /// The file's build id.
    pub build_id: [AtomicU8; 32],
    /// Bytes of `path` in use.
    pub path_bytes: AtomicU32,
    /// Position of the first process image that told of it.
    pub process: AtomicU32,
    /// The file's path as that process's kernel gives it (with ` (deleted)` where it is gone), or `[vdso]`. Cut where longer.
    pub path: [AtomicU8; 976],
}

const _: () = assert!(size_of::<Module>() == 1024);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_gives_back_what_it_was_made_of() {
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
        // Small ones stand for about interval / size, large ones for themselves.
        assert!((weight(16, 1 << 19) / 32768.5 - 1.0).abs() < 1e-6);
        assert_eq!(weight(1 << 30, 1 << 19), 1.0);
        assert!((weight(1 << 19, 1 << 19) - 1.0 / (1.0 - (-1.0f64).exp())).abs() < 1e-12);
    }

    #[test]
    fn parts_are_aligned() {
        for offset in [offset::PROCESSES, offset::LANES, offset::RECORDS, offset::NODES] {
            assert_eq!(offset % 64, 0);
        }
        assert_eq!(offset::MODULES % 8, 0);
    }
}
