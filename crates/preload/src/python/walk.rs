//! Reads the Python stack of the current thread, at any instant.
//!
//! The thread may have been interrupted while it pushes or pops a frame, starts or ends. What can be followed
//! without a check, and why:
//!
//! - The thread state: it is the thread's own, and the interpreter clears its slot before freeing it. While
//!   the interpreter is finalised it may free those of other threads, so then everything is checked.
//! - Up to 3.10, all frames: a frame object is complete before it is linked, and unlinked before it is freed.
//! - From 3.11 on, frames in the data stack: its chunks are mapped as long as they are linked from the thread
//!   state.
//! - All outer frames of a frame that is proven to be live: they were complete before it was called, do not
//!   change while it runs, and hold references to their code objects.
//!
//! From 3.11 on the innermost frame is not known to be live. The slot that names it may be memory of the
//! native stack that is not written yet, and the fields of a frame are written in any order. So it is read
//! with checks that cannot fault (a system call that tests memory), and then proven. Frames in the data stack
//! are contiguous: a frame whose caller ends where it begins, both with a code object, is live. So is the
//! frame of a generator whose state is running. As long as nothing is proven, each pointer is checked.
//!
//! All this applies to interrupts. If the interpreter called the current code, such as an allocator, it has
//! linked its innermost frame and no frame is half written: then a frame on the data stack needs no proof
//! ([`Moment::Call`]). The same holds for the innermost frame of an interpreter that called another one, whose frames
//! continue the stack ([`super::outer_states`]).

use core::mem::MaybeUninit;
use core::sync::atomic::Ordering;

use super::data_stack::DataStack;
use super::interpreter::{Interpreter, interpreter};
use super::layout::{Chain, Layout};
use super::outer_states::States;
use super::thread_state::{self, ThreadState};
use crate::codes::{self, CodeIdentity, Owner};
use crate::format::{ENTRY, MAX_FRAMES, OUTERMOST_FRAMES, flag};
use crate::lookup_cache::PythonCache;
use crate::scratch::Buffer;
use crate::shared_memory::{self, SharedMemory};
use crate::tree::{self, Frame};
use crate::{process, scratch, sys};

/// A recorded stack.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stack {
    /// Node of the leaf frame; 0: none.
    pub node: u32,
    /// See [`crate::format::flag`].
    pub flags: u32,
}

/// Number of frames that are recorded from the leaf before frames in the middle are left out.
const INNERMOST_FRAMES: usize = MAX_FRAMES - OUTERMOST_FRAMES - 1;
/// Maximum number of frames that are read with checks. Each costs a few system calls, so this bounds the
/// work.
const CHECKED_FRAMES: usize = 64;

/// Value of `owner` for the frame of a generator, a coroutine or an asynchronous generator.
const OWNED_BY_GENERATOR: u8 = 1;
/// Smallest value of `owner` for frames that are not Python's: shims on the native stack, and sentinels.
const OWNED_BY_NATIVE: u8 = 3;

/// The kind of program location at which a stack is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Anywhere, also in a signal handler that interrupted any code, with or without the GIL.
    Any,
    /// In a function that the interpreter called directly or indirectly, so that no frame is half written.
    #[cfg_attr(not(simprof_heap), allow(dead_code, reason = "only used for allocations"))]
    Call,
}

/// Records the Python stack of this thread as nodes in the shared memory. Does not allocate or lock, and
/// preserves `errno`.
pub fn record_stack(moment: Moment) -> Stack {
    let _errno = sys::ErrnoGuard::new();
    let no_python = Stack { node: 0, flags: flag::NO_PYTHON };
    let (Some(memory), Some(interpreter)) = (shared_memory::memory(), interpreter()) else {
        return no_python;
    };
    let (Ok(layout), Some(process)) = (&interpreter.layout, process::current()) else {
        return no_python;
    };
    let Some(state) = thread_state::current(interpreter, layout) else { return no_python };
    let owner = Owner { process, version: interpreter.version, layout };
    let full = Stack { node: 0, flags: flag::FULL };
    scratch::with(|Buffer { frames, recent }| {
        let recent = recent.for_process(process);
        let stack = DataStack::for_thread(layout, state);
        let trusted = layout.chain == Chain::Objects && !state.checked;
        let mut states = States::one(state.address);
        if !state.checked {
            states.add_outer(interpreter, layout);
        }
        let inner = Inner::None;
        let mut walk =
            Walk { memory, interpreter, layout, owner, states, state, stack, inner, trusted };
        if moment == Moment::Call {
            walk.trust_innermost();
        }
        let (count, flags) = walk.collect(frames, recent);
        intern(memory, recent, &frames[..count], flags)
    })
    .unwrap_or(full)
}

/// Interns `frames`, which are ordered from the leaf to the root.
fn intern(memory: SharedMemory, recent: &mut PythonCache, frames: &[Frame], flags: u32) -> Stack {
    let mut parent = 0;
    for (depth, &frame) in frames.iter().rev().enumerate() {
        match recent.node(depth, parent, frame, || tree::node(memory, parent, frame)) {
            Some(node) => parent = node,
            None => {
                memory.header().full.fetch_add(1, Ordering::Relaxed);
                return Stack { node: 0, flags: flags | flag::FULL };
            }
        }
    }
    Stack { node: parent, flags }
}

/// The fields of a frame of the interpreter.
#[derive(Debug, Clone, Copy)]
struct RawFrame {
    address: usize,
    previous: usize,
    code: usize,
    /// Address of the instruction; before 3.11 its offset.
    instruction: usize,
    owner: u8,
    is_entry: bool,
}

/// Why a walk stopped before the root.
pub(super) enum Stop {
    Unreadable,
    Full,
}

/// Why reading frames ended.
pub(super) enum End {
    /// There are no more.
    Root,
    /// There are more than asked for.
    Many,
    Stopped(Stop),
}

/// The previously read frame, while no frame is proven to be live.
enum Inner {
    /// There is none.
    None,
    /// A frame on the data stack, at this address.
    Frame(usize),
    /// The frame of a generator that is about to yield.
    Yielding,
}

/// A frame on the way from the leaf to the root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    /// Address of the frame, or 0 beyond the root.
    pub address: usize,
    /// Position in [`Walk::states`] of the thread state that it belongs to.
    pub state: usize,
}

pub(super) struct Walk<'a> {
    memory: SharedMemory,
    interpreter: &'a Interpreter,
    pub(super) layout: &'a Layout,
    owner: Owner<'a>,
    /// The states of this thread.
    pub(super) states: States,
    /// The state whose frames are being read, and its data stack.
    state: ThreadState,
    stack: DataStack,
    /// The previously read frame.
    inner: Inner,
    /// Whether the next frame is known to be live.
    trusted: bool,
}

impl Walk<'_> {
    /// Reads the stack into `frames`. Returns the number of frames, and flags.
    fn collect(&mut self, frames: &mut scratch::Frames, recent: &mut PythonCache) -> (usize, u32) {
        let Some(address) = self.innermost() else { return unreadable(frames, 0) };
        let mut at = Position { address, state: 0 };
        let (count, end) = self.read(&mut at, frames, 0, INNERMOST_FRAMES, recent);
        match end {
            End::Root => (count, 0),
            End::Many => self.collect_outermost(at, frames, count, recent),
            End::Stopped(stop) => self.stopped(stop, frames, count),
        }
    }

    pub(super) fn stopped(
        &self,
        stop: Stop,
        frames: &mut scratch::Frames,
        count: usize,
    ) -> (usize, u32) {
        match stop {
            Stop::Unreadable => unreadable(frames, count),
            Stop::Full => {
                self.memory.header().full.fetch_add(1, Ordering::Relaxed);
                (0, flag::FULL)
            }
        }
    }

    /// Appends frames from `at` on, until there are `limit`. Returns their number.
    pub(super) fn read(
        &mut self,
        at: &mut Position,
        frames: &mut scratch::Frames,
        mut count: usize,
        limit: usize,
        recent: &mut PythonCache,
    ) -> (usize, End) {
        let (mut of_state, mut checked) = (0, 0);
        // Frames that are not Python's do not add to `count`, but there are at most as many of them as of others.
        for _ in 0..2 * MAX_FRAMES {
            if at.address == 0 {
                // Each is a frame, but none was proven to be live: some may be missing, or in the wrong order.
                if !self.trusted && of_state > 1 && !self.state.checked {
                    return (count, End::Stopped(Stop::Unreadable));
                }
                if !self.enter_outer_state(at) {
                    return (count, End::Root);
                }
                (of_state, checked) = (0, 0);
                continue;
            }
            if count == limit {
                return (count, End::Many);
            }
            checked += usize::from(!self.trusted);
            if checked > CHECKED_FRAMES {
                return (count, End::Stopped(Stop::Unreadable));
            }
            match self.step(at.address, recent) {
                Ok((previous, frame)) => {
                    at.address = previous;
                    if let Some(frame) = frame {
                        frames[count] = frame;
                        count += 1;
                        of_state += 1;
                    }
                }
                Err(stop) => return (count, End::Stopped(stop)),
            }
        }
        (count, End::Many)
    }

    /// Continues with the innermost frame of the next outer thread state. Returns false if there is none.
    fn enter_outer_state(&mut self, at: &mut Position) -> bool {
        let Some(address) = self.states.get(at.state + 1) else { return false };
        self.state = ThreadState { address, checked: false };
        self.stack = DataStack::for_thread(self.layout, self.state);
        self.inner = Inner::None;
        self.trusted = self.layout.chain == Chain::Objects;
        // It waits in a call, so its frames are complete.
        self.trust_innermost();
        *at = Position { address: self.innermost().unwrap_or(0), state: at.state + 1 };
        true
    }

    /// Trusts the innermost frame at a call made by the interpreter, where it is complete. Only a frame on the data
    /// stack is trusted. Other frames are rare, and are checked in case another library linked one of its own.
    fn trust_innermost(&mut self) {
        let is_live = |&address: &usize| address != 0 && self.is_on_stack(address);
        self.trusted |= !self.state.checked && self.innermost().as_ref().is_some_and(is_live);
    }

    /// Returns the address of the innermost frame, or 0.
    fn innermost(&self) -> Option<usize> {
        self.innermost_of(self.state)
    }

    /// Returns the address of the innermost frame of a thread state, or 0.
    pub(super) fn innermost_of(&self, state: ThreadState) -> Option<usize> {
        let frame = self.word(state.address + self.layout.thread.frame, !state.checked)?;
        match self.layout.chain {
            Chain::Objects | Chain::Direct => Some(frame),
            // The structure is on this thread's native stack or within the thread state. It is mapped in any
            // case, but perhaps not written yet.
            Chain::Marked | Chain::Shims => {
                self.word(frame + self.layout.thread.current, !state.checked)
            }
        }
    }

    /// Reads the frame at `address`. Returns the address of the next outer frame, and the frame if it is
    /// Python's.
    fn step(
        &mut self,
        address: usize,
        recent: &mut PythonCache,
    ) -> Result<(usize, Option<Frame>), Stop> {
        let raw = self.raw(address).ok_or(Stop::Unreadable)?;
        if raw.owner >= OWNED_BY_NATIVE {
            let is_shim = self.trusted || !self.is_on_stack(address);
            return if is_shim { Ok((raw.previous, None)) } else { Err(Stop::Unreadable) };
        }
        let (head, size) = self.head(raw.code).ok_or(Stop::Unreadable)?;
        if !self.trusted {
            self.trusted = self.proves(&raw, size).ok_or(Stop::Unreadable)?;
        }
        let is_entry = self.is_entry(&raw).ok_or(Stop::Unreadable)?;
        let find = || codes::number(self.memory, self.owner, &head);
        let code = recent.code(&head, find).ok_or(Stop::Full)?;
        let flags = if is_entry { ENTRY } else { 0 };
        Ok((raw.previous, Some(Frame { code, instruction: self.instruction(&raw), flags })))
    }

    /// Returns whether a frame with consistent fields, of `size` bytes, proves that its callers are live.
    /// `None` if it cannot be live itself.
    fn proves(&mut self, raw: &RawFrame, size: usize) -> Option<bool> {
        if self.state.checked {
            return Some(false);
        }
        if raw.owner == OWNED_BY_GENERATOR {
            return self.generator_proves(raw);
        }
        self.is_on_stack(raw.address).then_some(())?;
        let end = raw.address + size;
        let ends_before = |inner| end == inner || self.stack.next(end) == inner;
        let proves = match self.inner {
            Inner::None => false,
            Inner::Frame(inner) => ends_before(inner),
            Inner::Yielding => (end == self.stack.top()).then_some(true)?,
        };
        self.inner = Inner::Frame(raw.address);
        Some(proves)
    }

    /// Like [`Walk::proves`], for the frame of a generator. It is live if the state of the generator is "running".
    /// A generator that is about to yield changes its state while its frame is still the innermost one. Such a
    /// frame proves nothing. Its caller is then the running frame.
    fn generator_proves(&mut self, raw: &RawFrame) -> Option<bool> {
        const RUNNING: i8 = 0;
        let state = self.generator_state(raw.address)?;
        if state < RUNNING && raw.previous != 0 && matches!(self.inner, Inner::None) {
            self.inner = Inner::Yielding;
            return Some(false);
        }
        (state == RUNNING).then_some(true)
    }

    /// Returns the state of the generator, coroutine or asynchronous generator that contains `frame`.
    fn generator_state(&self, frame: usize) -> Option<i8> {
        let (within, state) = self.layout.generator;
        let mut copy = [0_u8; 96];
        if !sys::copy_checked(frame.checked_sub(within)?, &mut copy[..within]) {
            return None;
        }
        let kind =
            copy[self.layout.object_type..][..8].try_into().expect("the slice has this length");
        let is_generator =
            self.interpreter.api.generator_types.contains(&usize::from_ne_bytes(kind));
        is_generator.then_some(copy[state] as i8)
    }

    /// Returns whether the interpreter's native evaluation function was called for this frame.
    fn is_entry(&self, raw: &RawFrame) -> Option<bool> {
        match self.layout.chain {
            Chain::Objects => Some(true),
            Chain::Marked => Some(raw.is_entry),
            Chain::Shims | Chain::Direct if raw.previous == 0 => Some(true),
            Chain::Shims | Chain::Direct => Some(self.raw(raw.previous)?.owner >= OWNED_BY_NATIVE),
        }
    }

    /// Returns whether a frame at `address` may be on the data stack.
    #[inline]
    fn is_on_stack(&self, address: usize) -> bool {
        self.stack.contains(address, self.layout.frame.bytes)
    }

    /// Returns the offset of the instruction that a frame executes, or `u32::MAX`.
    fn instruction(&self, raw: &RawFrame) -> u32 {
        let offset = match (self.layout.chain, self.owner.version >> 16) {
            (Chain::Objects, 0x030a) => i64::from(raw.instruction as u32 as i32) * 2,
            (Chain::Objects, _) => i64::from(raw.instruction as u32 as i32),
            _ => raw.instruction.wrapping_sub(raw.code + self.layout.code.instructions) as i64,
        };
        // Before the first instruction it is -1 or -2.
        u32::try_from(offset).unwrap_or(u32::MAX)
    }

    /// Reads a frame's fields.
    #[inline(always)]
    fn raw(&self, address: usize) -> Option<RawFrame> {
        let frame = &self.layout.frame;
        let mut copy = MaybeUninit::<[u8; 112]>::uninit();
        let base = if self.trusted || self.is_on_stack(address) {
            address
        } else {
            address.is_multiple_of(8).then_some(())?;
            checked(address, frame.bytes, &mut copy)?
        };
        // SAFETY: `base` is the address of `copy`, or of a frame that is live or within the data stack, as
        // the module documentation explains. All fields lie within `frame.bytes`.
        let (word, half, byte) =
            unsafe { (reader::<usize>(base), reader::<u32>(base), reader::<u8>(base)) };
        Some(RawFrame {
            address,
            previous: word(frame.previous),
            // From 3.14 on the interpreter uses the lowest bits as tags. Objects are aligned.
            code: word(frame.code) & !7,
            instruction: match self.layout.chain {
                Chain::Objects => half(frame.instruction) as usize,
                _ => word(frame.instruction),
            },
            owner: if frame.owner == 0 { 0 } else { byte(frame.owner) },
            is_entry: frame.entry != 0 && byte(frame.entry) != 0,
        })
    }

    /// Reads the identity of the code object at `address`, and the size of its frames, bytes.
    fn head(&self, address: usize) -> Option<(CodeIdentity, usize)> {
        self.head_with(address, self.trusted)
    }

    /// Like [`Walk::head`], with checks unless `trusted`.
    pub(super) fn head_with(&self, address: usize, trusted: bool) -> Option<(CodeIdentity, usize)> {
        let code = &self.layout.code;
        let mut copy = MaybeUninit::<[u8; 160]>::uninit();
        if address == 0 {
            return None;
        }
        let base = if trusted { address } else { checked(address, code.table + 8, &mut copy)? };
        // SAFETY: `base` is the address of `copy`, or of a code object that a live frame references.
        let (word, half) = unsafe { (reader::<usize>(base), reader::<u32>(base)) };
        if word(self.layout.object_type) != self.interpreter.api.code_type {
            return None;
        }
        let identity = [word(code.name), word(code.file), word(code.table)];
        let head = CodeIdentity { address, identity, first_line: half(code.first_line) };
        Some((head, self.frame_size(half(code.frame_size.0), half(code.frame_size.1))))
    }

    /// Computes the size of a code object's frames, bytes, from its two fields.
    fn frame_size(&self, first: u32, second: u32) -> usize {
        match self.layout.chain {
            Chain::Objects => 0,
            Chain::Marked => self.layout.frame.specials + 8 * (first as usize + second as usize),
            Chain::Shims | Chain::Direct => 8 * first as usize,
        }
    }

    pub(super) fn word(&self, address: usize, trusted: bool) -> Option<usize> {
        let mut copy = [0_u8; 8];
        if trusted {
            // SAFETY: see the module documentation.
            return Some(unsafe {
                core::ptr::with_exposed_provenance::<usize>(address).read_volatile()
            });
        }
        sys::copy_checked(address, &mut copy).then(|| usize::from_ne_bytes(copy))
    }
}

/// Copies bytes that may be unmapped, and returns the address of the copy. A function of its own, so that it
/// costs nothing when no check is needed.
#[cold]
#[inline(never)]
fn checked<const N: usize>(
    address: usize,
    bytes: usize,
    copy: &mut MaybeUninit<[u8; N]>,
) -> Option<usize> {
    let copy = copy.write([0; N]);
    sys::copy_checked(address, &mut copy[..bytes]).then(|| copy.as_ptr().expose_provenance())
}

/// Returns a function that reads values at offsets from `base`.
///
/// # Safety
///
/// As long as the result is used, values must be readable at the offsets it is called with.
unsafe fn reader<T: Copy>(base: usize) -> impl Fn(usize) -> T {
    // SAFETY: the caller's promise. Another thread may change memory that is not this thread's; the value is
    // then the old or the new one.
    move |offset| unsafe { core::ptr::with_exposed_provenance::<T>(base + offset).read_volatile() }
}

/// Ends a stack with a frame that could not be read.
fn unreadable(frames: &mut scratch::Frames, count: usize) -> (usize, u32) {
    let Some(frame) = frames.get_mut(count) else { return (count, flag::UNREADABLE) };
    *frame = Frame { code: 0, instruction: u32::MAX, flags: 0 };
    (count + 1, flag::UNREADABLE)
}
