//! The memory that the library shares with the profiler: one file, mapped by both, that outlives a killed target.
//!
//! The file is sparse; what is never written takes no room. All numbers are of the machine's byte order. Every place that
//! two sides touch is an atomic; zero is the initial value of everything but the header.
//!
//! | part | what |
//! | --- | --- |
//! | [`Header`] | what is asked for, and what was lost |
//! | [`Process`] × [`PROCESSES`] | one for each process image that loaded the library and has something to tell |
//! | [`Record`] × [`RECORDS`] | ring of what happened: a thread was sampled, a thread waited |
//! | [`Node`] × [`NODES`] | Python stacks as a tree: each distinct frame called from a distinct stack, once |
//! | `u32` × [`NODE_SLOTS`] | hash table from a node's content to its position |
//! | `u32` × [`CODE_SLOTS`] | hash table from a code object to its [`Code`] |
//! | arena, [`ARENA_BYTES`] | the [`Code`]s with their texts, appended |
//! | script, [`SCRIPT_BYTES`] | Python text to be run in the target before its own, see [`Header::script_bytes`] |
//!
//! # Records
//!
//! As the step marks' ring: a writer adds 1 to [`Header::next`], takes the record `position % RECORDS` by exchanging its
//! stamp, where that is of an earlier position, for [`BUSY`], writes the fields and then, with release ordering, the stamp, whose
//! sequence is `position + 1`. A reader takes a record for whole when the stamp has the sequence that it expects both
//! before and after it read the fields. So each position is either read whole or counted as lost.

use core::ffi::CStr;
use core::sync::atomic::{AtomicU32, AtomicU64};

/// Names the format and its version.
pub const MAGIC: u64 = u64::from_le_bytes(*b"simprofP");
/// The environment variable that holds the path of the memory.
pub const VARIABLE: &CStr = c"SIMPROF_PRELOAD";

/// How many process images can be told of.
pub const PROCESSES: usize = 1024;
/// How many records the ring holds.
pub const RECORDS: u64 = 1 << 16;
/// How many nodes the tree of stacks can have; node 0 is the empty stack.
pub const NODES: usize = 1 << 19;
/// Slots of the nodes' hash table: a power of two, twice as many as nodes. A slot holds a node's position, or 0.
pub const NODE_SLOTS: usize = 1 << 20;
/// Slots of the code objects' hash table: a power of two. A slot holds a code's number, or 0.
pub const CODE_SLOTS: usize = 1 << 18;
/// Room for code objects and their texts.
pub const ARENA_BYTES: usize = 64 << 20;
/// Room for the script.
pub const SCRIPT_BYTES: usize = 64 << 10;
/// Most frames that are recorded of one stack, counted from the innermost.
pub const MAX_FRAMES: usize = 512;

/// Where each part begins.
pub mod offset {
    use super::*;

    /// The processes.
    pub const PROCESSES: usize = 4096;
    /// The ring of records.
    pub const RECORDS: usize = PROCESSES + super::PROCESSES * size_of::<Process>();
    /// The tree of stacks.
    pub const NODES: usize = RECORDS + super::RECORDS as usize * size_of::<Record>();
    /// The nodes' hash table.
    pub const NODE_SLOTS: usize = NODES + super::NODES * size_of::<Node>();
    /// The code objects' hash table.
    pub const CODE_SLOTS: usize = NODE_SLOTS + super::NODE_SLOTS * 4;
    /// The arena.
    pub const ARENA: usize = CODE_SLOTS + super::CODE_SLOTS * 4;
    /// The script.
    pub const SCRIPT: usize = ARENA + ARENA_BYTES;
    /// The end: the length of the file.
    pub const END: usize = SCRIPT + SCRIPT_BYTES;
}

/// Bits of [`Header::features`].
pub mod feature {
    /// Processes that run Python ask to be sampled, and record their Python stack with each sample.
    pub const FRAMES: u64 = 1;
    /// Threads that run Python record where they wait.
    pub const WAITS: u64 = 2;
    /// Processes that run Python run the script first.
    pub const SCRIPT: u64 = 4;
}

/// What is asked for, written by the profiler before the target starts; and counts, added to by the library.
#[repr(C)]
pub struct Header {
    /// [`MAGIC`].
    pub magic: u64,
    /// Length of the file: [`offset::END`].
    pub bytes: u64,
    /// See [`feature`].
    pub features: u64,
    /// Waiting time between two records of waits in a thread, ns, on average.
    pub wait_period_ns: u64,
    /// Length of the script, bytes.
    pub script_bytes: u64,
    /// Path of a pipe, ended by a zero: a process that asks to be sampled writes the 4 bytes of its position in the
    /// processes, with `O_NONBLOCK`.
    pub notify: [u8; 64],
    /// How many records were ever begun.
    pub next: AtomicU64,
    /// Nodes in use; the first is node 1.
    pub nodes: AtomicU64,
    /// Bytes of the arena in use, in units of 8: a code's number is its position in the arena divided by 8, plus 1.
    pub arena: AtomicU64,
    /// Processes that found no free place.
    pub processes_lost: AtomicU64,
    /// Stacks and code objects that found no room.
    pub full: AtomicU64,
}

const _: () = assert!(size_of::<Header>() <= offset::PROCESSES);

/// Values of [`Process::state`]; the profiler and the process change it by compare and exchange, and wake each other by
/// a (shared) futex on it.
pub mod state {
    /// Nobody's.
    pub const FREE: u32 = 0;
    /// Being filled in by the process.
    pub const TAKEN: u32 = 1;
    /// The process has its signal handler in place, and asks to be sampled. It waits for an answer for a bounded time.
    pub const ASKS: u32 = 2;
    /// The profiler opens events on the process.
    pub const OPENING: u32 = 3;
    /// The process is sampled.
    pub const SAMPLED: u32 = 4;
    /// The profiler could not or would not open events: [`super::Process::reason`] is an error number, or 0.
    pub const REFUSED: u32 = 5;
    /// The process gave up waiting, or does not ask: it is not sampled by this way.
    pub const UNSAMPLED: u32 = 6;
    /// The process replaces its image (it ignores the signal meanwhile).
    pub const EXECUTING: u32 = 7;
    /// The library cannot read this interpreter: see [`super::reason`].
    pub const UNSUPPORTED: u32 = 8;
}

/// Values of [`Process::reason`] with [`state::UNSUPPORTED`].
pub mod reason {
    /// A version that the library does not know.
    pub const VERSION: u32 = 1;
    /// A free-threaded build that cannot be read.
    pub const FREE_THREADED: u32 = 2;
    /// The interpreter's own description of its layout is missing or contradicts itself.
    pub const LAYOUT: u32 = 3;
    /// The program handles the signal that sampling needs before the library could.
    pub const SIGNAL: u32 = 4;
}

/// One process image that has something to tell.
#[repr(C, align(64))]
pub struct Process {
    /// See [`state`].
    pub state: AtomicU32,
    /// Process id, as the process itself sees it.
    pub pid: AtomicU32,
    /// `PY_VERSION_HEX` of its interpreter, or 0 before it is known.
    pub version: AtomicU32,
    /// Why not, see [`state`].
    pub reason: AtomicU32,
    /// CLOCK_MONOTONIC of its asking, ns.
    pub time_ns: AtomicU64,
    /// 1 for a free-threaded build.
    pub free_threaded: AtomicU32,
}

/// What a record tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A thread was interrupted by a sample.
    Sample = 1,
    /// A thread waited.
    Wait = 2,
}

/// The stamp of a record that is being written.
pub const BUSY: u64 = u64::MAX;

/// The stamp of a whole record: its sequence (position in the ring's history, plus 1) above its kind.
pub const fn stamp(position: u64, kind: Kind) -> u64 {
    (position + 1) << 8 | kind as u64
}

/// One thing that happened.
#[repr(C)]
pub struct Record {
    /// See [`stamp`]; 0 where never written.
    pub stamp: AtomicU64,
    /// CLOCK_MONOTONIC, ns: of the interruption, or of the end of the wait.
    pub time_ns: AtomicU64,
    /// Thread id, as the process sees it (low half), and position in the processes (high half).
    pub thread: AtomicU64,
    /// Node of the innermost Python frame (low half; 0: none), and [`flag`]s (high half).
    pub stack: AtomicU64,
    /// For a wait: how long it was, ns.
    pub duration_ns: AtomicU64,
    /// For a wait: nanoseconds of waiting that this record stands for.
    pub weight_ns: AtomicU64,
    /// For a wait: see [`Cause`] (low half).
    pub cause: AtomicU64,
    /// For a wait: address that the waiting function returns to.
    pub caller: AtomicU64,
}

const _: () = assert!(size_of::<Record>() == 64 && size_of::<Process>() == 64);

/// Bits in the high half of [`Record::stack`].
pub mod flag {
    /// The thread belongs to no interpreter.
    pub const NO_PYTHON: u32 = 1;
    /// A frame could not be read: what is missing is the rest towards the root.
    pub const UNREADABLE: u32 = 2;
    /// The stack is deeper than [`super::MAX_FRAMES`]: what is missing is the rest towards the root.
    pub const CUT: u32 = 4;
    /// The signal came late, when the thread had already gone on.
    pub const LATE: u32 = 8;
    /// The tables are full: the stack is missing.
    pub const FULL: u32 = 16;
}

/// What a thread waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Cause {
    /// Its turn with the interpreter (the global interpreter lock).
    Interpreter = 1,
    /// Another thread: a lock, a condition, a semaphore, its end.
    Synchronisation = 2,
    /// Time to pass.
    Sleep = 3,
    /// Events of file descriptors: poll, select, epoll.
    Events = 4,
    /// A file, a pipe or a socket: reading, writing, synchronising with the disk.
    Io = 5,
    /// A child process's end.
    Child = 6,
}

/// A frame called from a stack.
#[repr(C)]
pub struct Node {
    /// The caller's node, or 0.
    pub parent: AtomicU32,
    /// Number of the code object, see [`Header::arena`]; 0 where the frame could not be read.
    pub code: AtomicU32,
    /// Offset of the instruction being executed in the code, bytes; `u32::MAX` where it has not started.
    pub instruction: AtomicU32,
    /// [`ENTRY`] or 0, and bit 1 always set, so that a whole node is never all zeros.
    pub flags: AtomicU32,
}

/// Bit of [`Node::flags`]: the interpreter's native evaluation function was called for this frame. Frames without it run in
/// the same native call as their callers.
pub const ENTRY: u32 = 1;
/// Bit of [`Node::flags`]: the node is written.
pub const WRITTEN: u32 = 2;

/// A code object, in the arena at a multiple of 8; then come the bytes of its name, its file and its line table, each
/// padded to a multiple of 4.
#[repr(C)]
pub struct Code {
    /// Position in the processes of the image that it belongs to.
    pub process: u32,
    /// `PY_VERSION_HEX`: tells the form of the line table.
    pub version: u32,
    /// Address of the code object.
    pub address: u64,
    /// Line of its first statement or decorator.
    pub first_line: u32,
    /// 1 where the name is qualified (from 3.11 on).
    pub qualified: u32,
    /// Its name.
    pub name: Text,
    /// Its file.
    pub file: Text,
    /// Bytes of the line table (`co_linetable`, before 3.10 `co_lnotab`) that are kept; `u32::MAX` where it was too long
    /// or could not be read.
    pub table_bytes: u32,
    /// 1 once all is written, with release ordering.
    pub whole: AtomicU32,
    /// Addresses of its name, its file and its line table: with the process, the address and the first line they tell code
    /// objects apart whose addresses were used again.
    pub identity: [u64; 3],
}

/// A text of the interpreter, as it is in memory.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Text {
    /// Bytes that are kept: long ones are cut.
    pub bytes: u32,
    /// Bytes of a character: 1 (Latin-1), 2 (UCS-2) or 4 (UCS-4); 0 where it could not be read.
    pub width: u32,
}

/// Longest name or file that is kept, bytes.
pub const TEXT_BYTES: usize = 1024;
/// Longest line table that is kept, bytes.
pub const TABLE_BYTES: usize = 256 << 10;
