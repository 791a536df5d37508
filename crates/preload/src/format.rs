//! Layout of the memory that the library shares with the profiler: one file that both map and that outlives a
//! killed target.
//!
//! The file is sparse: pages that are never written use no memory. Numbers have the machine's byte order.
//! Every field that both sides access is an atomic. Everything except the header starts as zero.
//!
//! | part | content |
//! | --- | --- |
//! | [`Header`] | the profiler's settings, and counts of losses |
//! | [`Process`] × [`PROCESSES`] | one slot for each process image that loaded the library and runs Python |
//! | script, [`SCRIPT_BYTES`] | Python source to run in the target before the program, see [`Header::script_bytes`] |
//! | [`Record`] × [`RECORDS`] | ring buffer of events: a sample, a wait |
//! | generations, [`GENERATIONS`] | the tables of stacks and code objects |
//!
//! # Generations
//!
//! The tables are divided into generations of growing size, so that a process maps only as much as it needs: a limit on its
//! address space counts what is mapped, not what is used. Each generation has these parts; [`size`] has their sizes:
//!
//! | part | content |
//! | --- | --- |
//! | [`Node`]s | Python stacks as a tree: one node for each distinct frame called from a distinct stack |
//! | `u32` slots | hash table from a node's content to its index |
//! | `u32` slots | hash table from a code object to its [`Code`] |
//! | arena | the [`Code`]s with their texts, one after the other |
//!
//! Indices of nodes and numbers of code objects continue in the next generation. A slot may refer to an entry of any generation.
//!
//! # Records
//!
//! The ring buffer follows the same protocol as the one for step marks. A writer adds 1 to [`Header::next`]
//! to get a position. It then exchanges the stamp of the record `position % RECORDS` for [`BUSY`], if that
//! stamp is of an earlier position. It writes the fields and finally, with release ordering, the stamp, whose
//! sequence is `position + 1`. A reader accepts a record if its stamp has the expected sequence both before
//! and after the fields were read. So each position is either read completely or counted as lost.

use core::ffi::CStr;
use core::sync::atomic::{AtomicU32, AtomicU64};

/// Identifies the format and its version.
pub const MAGIC: u64 = u64::from_le_bytes(*b"simprofP");
/// The environment variable that holds the path of the memory.
pub const VARIABLE: &CStr = c"SIMPROF_PRELOAD";

/// Number of slots for process images.
pub const PROCESSES: usize = 1024;
/// Number of records in the ring buffer.
pub const RECORDS: u64 = 1 << 15;
/// Number of generations of the tables.
pub const GENERATIONS: usize = 3;
/// Maximum number of nodes in the tree of stacks. Node 0 is the empty stack.
pub const NODES: usize = sum(size::NODES);
/// Size of the arenas for code objects and their texts.
pub const ARENA_BYTES: usize = sum(size::ARENA_BYTES);
/// Size of the buffer for the script.
pub const SCRIPT_BYTES: usize = 64 << 10;
/// Maximum number of frames recorded per stack. Python's own limit of recursion is 1000.
pub const MAX_FRAMES: usize = 2048;
/// Number of the outermost frames that are recorded of a deeper stack. A frame with the code [`LEFT_OUT`] stands for the
/// frames in its middle.
pub const OUTERMOST_FRAMES: usize = 256;

/// Returns the number of entries of a table in all generations.
pub(crate) const fn sum(sizes: [usize; GENERATIONS]) -> usize {
    let (mut sum, mut at) = (0, 0);
    while at < GENERATIONS {
        sum += sizes[at];
        at += 1;
    }
    sum
}

/// Returns the generation that contains entry `number` of a table, counted from 0 over all generations, and its position there.
/// `None` if there is no such entry.
#[inline]
pub fn locate(sizes: [usize; GENERATIONS], number: usize) -> Option<(usize, usize)> {
    let mut position = number;
    for (generation, size) in sizes.into_iter().enumerate() {
        if position < size {
            return Some((generation, position));
        }
        position -= size;
    }
    None
}

/// Generations begin at multiples of it: a multiple of every page size.
pub const GRANULE: usize = 64 << 10;

/// Offsets in the file where the generations begin, and where the last one ends: multiples of [`GRANULE`].
pub type Offsets = [usize; GENERATIONS + 1];

/// Where an entry of a table is: its generation, and its offset there, bytes.
pub type Location = (usize, usize);

/// Returns the offsets of the generations and of their end, if they have these sizes.
pub(crate) const fn generations(begin: usize, bytes: [usize; GENERATIONS]) -> Offsets {
    let mut offsets = [begin.next_multiple_of(GRANULE); GENERATIONS + 1];
    let mut at = 0;
    while at < GENERATIONS {
        offsets[at + 1] = offsets[at] + bytes[at].next_multiple_of(GRANULE);
        at += 1;
    }
    offsets
}

/// Returns whether a process with this limit of address space (bytes) may map a later generation of a memory.
///
/// What the limit leaves is not considered: it cannot be read in a signal handler without opening a file.
pub fn is_affordable(generation_bytes: usize, limit: usize) -> bool {
    const SHARE: usize = 32;
    generation_bytes <= limit / SHARE
}

/// Returns the most bytes of a memory with these `generations` that a process with this limit of address space maps.
#[cfg(not(simprof_preloaded))]
pub fn mappable_bytes(offsets: Offsets, limit: usize) -> usize {
    let is_mapped =
        |generation: &usize| is_affordable(offsets[generation + 1] - offsets[*generation], limit);
    let last = (1..GENERATIONS).take_while(is_mapped).last().unwrap_or(0);
    offsets[last + 1]
}

/// Sizes of the tables' parts in each generation.
pub mod size {
    use super::*;

    /// Number of nodes.
    pub const NODES: [usize; GENERATIONS] = [1 << 15, 1 << 17, 1 << 19];
    /// Slots of the nodes' hash table: a power of two, twice the number of nodes. A slot holds a node's index, or 0.
    pub const NODE_SLOTS: [usize; GENERATIONS] = [1 << 16, 1 << 18, 1 << 20];
    /// Slots of the code objects' hash table: a power of two. A slot holds a code's number, or 0.
    pub const CODE_SLOTS: [usize; GENERATIONS] = [1 << 14, 1 << 16, 1 << 18];
    /// Bytes of the arena.
    pub const ARENA_BYTES: [usize; GENERATIONS] = [1 << 20, 8 << 20, 64 << 20];
}

/// Offsets of the parts, bytes.
pub mod offset {
    use super::*;

    /// The processes.
    pub const PROCESSES: usize = 4096;
    /// The script.
    pub const SCRIPT: usize = PROCESSES + super::PROCESSES * size_of::<Process>();
    /// The ring of records.
    pub const RECORDS: usize = SCRIPT + SCRIPT_BYTES;
    /// The generations, and the end of the last one.
    pub const GENERATIONS: Offsets = generations(
        RECORDS + super::RECORDS as usize * size_of::<Record>(),
        [generation_bytes(0), generation_bytes(1), generation_bytes(2)],
    );
    /// The end: the length of the file.
    pub const END: usize = GENERATIONS[super::GENERATIONS];

    const fn generation_bytes(generation: usize) -> usize {
        arena(generation) + size::ARENA_BYTES[generation]
    }

    /// Offset of the nodes in a generation.
    pub const NODES: usize = 0;

    /// Returns the offset of the nodes' hash table in a generation.
    pub const fn node_slots(generation: usize) -> usize {
        NODES + size::NODES[generation] * size_of::<Node>()
    }

    /// Returns the offset of the code objects' hash table in a generation.
    pub const fn code_slots(generation: usize) -> usize {
        node_slots(generation) + size::NODE_SLOTS[generation] * 4
    }

    /// Returns the offset of the arena in a generation.
    pub const fn arena(generation: usize) -> usize {
        code_slots(generation) + size::CODE_SLOTS[generation] * 4
    }

    /// Returns the offset of a node in the file; `None` if there is no such node.
    pub fn node(index: usize) -> Option<usize> {
        location::node(index).map(in_file)
    }

    /// Returns the offset of a code object in the file; `None` if there is no such number.
    pub fn code(number: u32) -> Option<usize> {
        location::code(number).map(in_file)
    }

    fn in_file((generation, offset): Location) -> usize {
        GENERATIONS[generation] + offset
    }
}

/// Locations of entries of the tables. A process maps the generations one by one.
pub mod location {
    use super::*;

    /// Returns the location of a node; `None` if there is no such node.
    #[inline]
    pub fn node(index: usize) -> Option<Location> {
        let (generation, position) = locate(size::NODES, index)?;
        Some((generation, offset::NODES + position * size_of::<Node>()))
    }

    /// Returns the location of a code object; `None` if there is no such number.
    #[inline]
    pub fn code(number: u32) -> Option<Location> {
        let begin = 8 * (number as usize).checked_sub(1)?;
        let (generation, position) = locate(size::ARENA_BYTES, begin)?;
        Some((generation, offset::arena(generation) + position))
    }
}

/// Bits of [`Header::features`].
pub mod feature {
    /// Processes that run Python request to be sampled, and record their Python stack with each sample.
    pub const FRAMES: u64 = 1;
    /// Threads that run Python record their waits.
    pub const WAITS: u64 = 2;
    /// Processes that run Python run the script before the program.
    pub const SCRIPT: u64 = 4;
}

/// The profiler's settings, written before the target starts, and counters that the library increments.
#[repr(C)]
pub struct Header {
    /// [`MAGIC`].
    pub magic: u64,
    /// Length of the file: [`offset::END`].
    pub bytes: u64,
    /// See [`feature`].
    pub features: u64,
    /// Mean waiting time between two recorded waits of a thread, ns.
    pub wait_period_ns: u64,
    /// Length of the script, bytes.
    pub script_bytes: u64,
    /// Path of a pipe, terminated by a zero. A process that requests to be sampled writes the 4 bytes of its
    /// slot's index to it, with `O_NONBLOCK`.
    pub notify: [u8; 64],
    /// Number of records begun so far.
    pub next: AtomicU64,
    /// Number of nodes in use. The first is node 1.
    pub nodes: AtomicU64,
    /// Units of 8 bytes of the arenas in use. A code object's number is its offset in the arenas, one after the other,
    /// divided by 8, plus 1. No code object extends into the next arena.
    pub arena: AtomicU64,
    /// Processes that found no free slot.
    pub processes_lost: AtomicU64,
    /// Number of the profiler's own seccomp filters, see [`filters_in`]. The profiler writes it before the target
    /// starts.
    pub filters: AtomicU64,
    /// Stacks and code objects that were dropped because a table was full, or because a limit leaves the process too little
    /// address space for the next generation.
    pub full: AtomicU64,
}

const _: () = assert!(size_of::<Header>() <= offset::PROCESSES);

/// Values of [`Process::state`]. The profiler and the process change the state by compare-and-exchange, and
/// wake each other with a shared futex on it.
pub mod state {
    /// The slot is free.
    pub const FREE: u32 = 0;
    /// The process is filling in the slot.
    pub const TAKEN: u32 = 1;
    /// The process has installed its signal handler and requests to be sampled. It waits for an answer for a
    /// limited time.
    pub const ASKS: u32 = 2;
    /// The profiler is opening events for the process.
    pub const OPENING: u32 = 3;
    /// The process is sampled.
    pub const SAMPLED: u32 = 4;
    /// The profiler did not open events: [`super::Process::reason`] is the error number, or 0.
    pub const REFUSED: u32 = 5;
    /// The process stopped waiting, or made no request: it is not sampled by this mechanism.
    pub const UNSAMPLED: u32 = 6;
    /// The process is replacing its image. It ignores the signal meanwhile.
    pub const EXECUTING: u32 = 7;
    /// The library cannot read this interpreter: see [`super::reason`].
    pub const UNSUPPORTED: u32 = 8;
}

/// Values of [`Process::reason`] with [`state::UNSUPPORTED`].
pub mod reason {
    /// The library does not know this version.
    pub const VERSION: u32 = 1;
    /// A free-threaded build, which the library cannot read.
    pub const FREE_THREADED: u32 = 2;
    /// The interpreter's description of its layout is missing or inconsistent.
    pub const LAYOUT: u32 = 3;
    /// The program installed a handler for the sampling signal before the library could.
    pub const SIGNAL: u32 = 4;
    /// A seccomp filter may forbid system calls that the library needs.
    pub const FILTER: u32 = 5;
    /// A limit leaves the process too little address space for the shared memory.
    pub const LIMITED: u32 = 6;
}

/// Returns the number of seccomp filters that a `/proc/PID/status` reports. Kernels before 5.9 only report whether there
/// is one.
pub fn filters_in(status: &[u8]) -> u32 {
    let value = |name: &[u8]| {
        let mut lines = status.split(|&byte| byte == b'\n');
        let digits = lines.find_map(|line| line.strip_prefix(name))?.iter();
        let digits = digits.filter(|byte| byte.is_ascii_digit());
        Some(digits.fold(0, |sum: u32, digit| sum.saturating_mul(10) + u32::from(digit - b'0')))
    };
    value(b"Seccomp_filters:").unwrap_or_else(|| value(b"Seccomp:").unwrap_or(0).min(1))
}

/// The slot of one process image that runs Python.
#[repr(C, align(64))]
pub struct Process {
    /// See [`state`].
    pub state: AtomicU32,
    /// Process id, as the process itself sees it.
    pub pid: AtomicU32,
    /// `PY_VERSION_HEX` of its interpreter, or 0 before it is known.
    pub version: AtomicU32,
    /// The reason for the state, see [`state`].
    pub reason: AtomicU32,
    /// CLOCK_MONOTONIC when the process took the slot, ns.
    pub time_ns: AtomicU64,
    /// 1 for a free-threaded build.
    pub free_threaded: AtomicU32,
}

/// The kind of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A thread was interrupted by a sample.
    Sample = 1,
    /// A thread waited.
    Wait = 2,
}

/// Stamp of a record that is being written.
pub const BUSY: u64 = u64::MAX;

/// Returns the stamp of a complete record: its sequence (position plus 1) above its kind.
pub const fn stamp(position: u64, kind: Kind) -> u64 {
    (position + 1) << 8 | kind as u64
}

/// One event.
#[repr(C)]
pub struct Record {
    /// See [`stamp`]; 0 if never written.
    pub stamp: AtomicU64,
    /// CLOCK_MONOTONIC, ns: of the sample, or of the end of the wait.
    pub time_ns: AtomicU64,
    /// Thread id, as the process sees it (low half), and index of the process's slot (high half).
    pub thread: AtomicU64,
    /// Node of the leaf frame of the Python stack (low half; 0: none), and [`flag`]s (high half).
    pub stack: AtomicU64,
    /// For a wait: its duration, ns.
    pub duration_ns: AtomicU64,
    /// For a wait: the waiting time that this record represents, ns.
    pub weight_ns: AtomicU64,
    /// For a wait: see [`Cause`] (low half).
    pub cause: AtomicU64,
    /// For a wait: return address of the blocking function.
    pub caller: AtomicU64,
}

const _: () = assert!(size_of::<Record>() == 64 && size_of::<Process>() == 64);

/// Bits in the high half of [`Record::stack`].
pub mod flag {
    /// The thread belongs to no interpreter.
    pub const NO_PYTHON: u32 = 1;
    /// A frame could not be read: the frames from there to the root are missing.
    pub const UNREADABLE: u32 = 2;
    /// The stack is deeper than [`super::MAX_FRAMES`], and its root was not found: the frames towards the root are missing.
    pub const CUT: u32 = 4;
    /// The signal arrived after the thread had continued.
    pub const LATE: u32 = 8;
    /// The tables are full: the stack is missing.
    pub const FULL: u32 = 16;
    /// The stack is deeper than [`super::MAX_FRAMES`]: frames in its middle are missing, see [`super::LEFT_OUT`].
    pub const LEFT_OUT: u32 = 32;
}

/// The reason why a thread waited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Cause {
    /// The global interpreter lock.
    Interpreter = 1,
    /// Another thread: a lock, a condition variable, a semaphore, a join.
    Synchronisation = 2,
    /// A sleep.
    Sleep = 3,
    /// Events of file descriptors: poll, select, epoll.
    Events = 4,
    /// A file, a pipe or a socket: read, write, synchronisation with the disk.
    Io = 5,
    /// The end of a child process.
    Child = 6,
}

/// A node of the tree of stacks: a frame called from a stack.
#[repr(C)]
pub struct Node {
    /// The caller's node, or 0.
    pub parent: AtomicU32,
    /// Number of the code object, see [`Header::arena`]; 0 if the frame could not be read; or [`LEFT_OUT`].
    pub code: AtomicU32,
    /// Offset of the current instruction in the code, bytes; `u32::MAX` if the frame has not started.
    pub instruction: AtomicU32,
    /// [`ENTRY`] or 0, combined with [`WRITTEN`], so that a complete node is never all zeros.
    pub flags: AtomicU32,
}

/// Bit of [`Node::flags`]: the interpreter's native evaluation function was called for this frame. A frame
/// without it runs in the same native call as its caller.
pub const ENTRY: u32 = 1;
/// Bit of [`Node::flags`]: the node is written.
pub const WRITTEN: u32 = 2;

/// Value of [`Node::code`] for the frames in the middle of a very deep stack. It is no number of a code object.
pub const LEFT_OUT: u32 = u32::MAX;

/// A code object, aligned to 8 in the arena. The bytes of its name, its file and its line table follow, each
/// padded to a multiple of 4.
#[repr(C)]
pub struct Code {
    /// Index of the slot of the process that the code object belongs to.
    pub process: u32,
    /// `PY_VERSION_HEX`, which determines the format of the line table.
    pub version: u32,
    /// Address of the code object.
    pub address: u64,
    /// Line of its first statement or decorator.
    pub first_line: u32,
    /// 1 if the name is qualified (from 3.11 on).
    pub qualified: u32,
    /// Its name.
    pub name: Text,
    /// Its file.
    pub file: Text,
    /// Bytes of the line table (`co_linetable`, before 3.10 `co_lnotab`) that are stored; `u32::MAX` if it
    /// was too long or could not be read.
    pub table_bytes: u32,
    /// 1 once all fields are written, with release ordering.
    pub written: AtomicU32,
    /// Addresses of its name, its file and its line table. Together with process, address and first line they
    /// distinguish code objects whose addresses were reused.
    pub identity: [u64; 3],
}

/// A string of the interpreter, in the interpreter's encoding.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Text {
    /// Bytes that are stored. Long strings are cut.
    pub bytes: u32,
    /// Bytes per character: 1 (Latin-1), 2 (UCS-2) or 4 (UCS-4); 0 if the string could not be read.
    pub width: u32,
}

/// Longest name or file name that is stored, bytes.
pub const TEXT_BYTES: usize = 1024;
/// Longest line table that is stored, bytes.
pub const TABLE_BYTES: usize = 256 << 10;
