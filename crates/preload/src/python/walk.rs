//! Reading the Python stack of the current thread, at any instant.
//!
//! The thread may have been interrupted in the middle of pushing or popping a frame, of starting or of ending.
//! What can be followed without a check, and why:
//!
//! - The thread state: it is the thread's own, and the interpreter clears its slot before it frees it. While
//!   the interpreter is being finalised it may free those of other threads, so then everything is checked.
//! - Up to 3.10, all frames: a frame object is complete before it is linked and unlinked before it is freed.
//! - From 3.11 on, frames in the data stack: its chunks are mapped as long as they are linked from the thread state.
//! - All that is called "outer": the callers of a frame that is proven to be live were complete before it was
//!   called, do not change while it runs, and hold references to their code objects.
//!
//! From 3.11 on the innermost frame is not known to be live: the slot that names it may be memory of the native
//! stack that is not yet written, and the fields of a frame are written in any order. So it is read with checks
//! that cannot fault (a system call that looks at memory), and proven: frames in the data stack lie end to end,
//! so a frame whose caller ends where it begins, both with a code object, is live; so is the frame of a
//! generator that says that it is running. As long as nothing is proven, each pointer is checked.
//!
//! All that is of interrupts. Where the interpreter called what runs now, such as an allocator, it has linked its innermost
//! frame and left nothing half written: then a frame on the data stack needs no proof ([`Moment::Call`]).

use core::mem::MaybeUninit;
use core::sync::atomic::Ordering;

use super::stack::DataStack;
use crate::codes::{self, Head, Owner};
use crate::format::{ENTRY, MAX_FRAMES, flag};
use crate::memory::{self, Memory};
use crate::python::layout::{Chain, Layout};
use crate::python::{Interpreter, interpreter, state};
use crate::recent;
use crate::scratch::Room;
use crate::tree::{self, Frame};
use crate::{process, scratch, sys};

/// A recorded stack.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stack {
    /// Node of the innermost frame; 0: none.
    pub node: u32,
    /// See [`crate::format::flag`].
    pub flags: u32,
}

/// Most frames that are read with a check each: at a few system calls each, the bound of the work.
const CHECKED_FRAMES: usize = 64;

/// `owner` of the frame of a generator, a coroutine or an asynchronous generator.
const OWNED_BY_GENERATOR: u8 = 1;
/// The first `owner` of frames that are not Python's: those before entries on the native stack, and sentinels.
const OWNED_BY_NATIVE: u8 = 3;

/// Where in the program a stack is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Anywhere: also in a signal handler that interrupted anything, with or without the GIL.
    Any,
    /// In a function that the interpreter called, by others or itself, so that no frame is half written.
    #[cfg_attr(not(simprof_heap), allow(dead_code, reason = "of allocations alone"))]
    Call,
}

/// Records the Python stack of this thread as nodes of the shared memory. It neither allocates nor locks, and keeps `errno`.
pub fn record_stack(moment: Moment) -> Stack {
    let _errno = sys::KeptErrno::new();
    let none = Stack { node: 0, flags: flag::NO_PYTHON };
    let (Some(memory), Some(interpreter)) = (memory::memory(), interpreter()) else { return none };
    let (Ok(layout), Some(process)) = (&interpreter.layout, process::current()) else {
        return none;
    };
    let Some(state) = state::own(interpreter, layout) else { return none };
    let owner = Owner { process, version: interpreter.version, layout };
    let full = Stack { node: 0, flags: flag::FULL };
    scratch::with(|Room { frames, recent }| {
        let recent = recent.of(process);
        let stack = DataStack::of(layout, state);
        let trusted = layout.chain == Chain::Objects && !state.checked;
        let mut walk =
            Walk { memory, interpreter, layout, owner, state, stack, inner: Inner::None, trusted };
        if moment == Moment::Call {
            walk.trust_call();
        }
        let (count, flags) = walk.collect(frames, recent);
        intern(memory, recent, &frames[..count], flags)
    })
    .unwrap_or(full)
}

/// Nodes for `frames`, which are innermost first.
fn intern(memory: Memory, recent: &mut recent::Python, frames: &[Frame], flags: u32) -> Stack {
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

/// A frame of the interpreter, as read.
#[derive(Debug, Clone, Copy)]
struct Raw {
    address: usize,
    previous: usize,
    code: usize,
    /// Address of the instruction; before 3.11 the offset.
    instruction: usize,
    owner: u8,
    is_entry: bool,
}

/// Why a walk ended before the root.
enum Stop {
    Unreadable,
    Full,
}

/// A frame inside the one that is read, while nothing is proven.
enum Inner {
    /// None.
    None,
    /// One on the data stack, at this address.
    Frame(usize),
    /// That of a generator that is just yielding.
    Yielding,
}

struct Walk<'a> {
    memory: Memory,
    interpreter: &'a Interpreter,
    layout: &'a Layout,
    owner: Owner<'a>,
    state: state::State,
    stack: DataStack,
    /// What was read before, as far as it matters.
    inner: Inner,
    /// Whether what is read next is known to be live.
    trusted: bool,
}

impl Walk<'_> {
    /// Reads the stack into `frames`; how many there are, and flags.
    fn collect(
        &mut self,
        frames: &mut scratch::Frames,
        recent: &mut recent::Python,
    ) -> (usize, u32) {
        let Some(mut address) = self.innermost() else { return unreadable(frames, 0) };
        let mut count = 0;
        // Frames on the native stack are not counted, but there are no more of them than of others.
        for step in 0..2 * MAX_FRAMES {
            if address == 0 {
                // Each frame is one, but not certainly all of them, and in this order.
                if !self.trusted && count > 1 && !self.state.checked {
                    return unreadable(frames, count);
                }
                return (count, 0);
            }
            if count == MAX_FRAMES {
                return (count, flag::CUT);
            }
            if !self.trusted && step >= CHECKED_FRAMES {
                return unreadable(frames, count);
            }
            match self.step(address, recent) {
                Ok((previous, frame)) => {
                    address = previous;
                    if let Some(frame) = frame {
                        frames[count] = frame;
                        count += 1;
                    }
                }
                Err(Stop::Unreadable) => return unreadable(frames, count),
                Err(Stop::Full) => {
                    self.memory.header().full.fetch_add(1, Ordering::Relaxed);
                    return (0, flag::FULL);
                }
            }
        }
        (count, flag::CUT)
    }

    /// At a call of the interpreter's: its innermost frame is whole, as its callers are. Only one on the data stack is taken for such; others
    /// are few, and checked, should something have put a frame there that the interpreter does not know.
    fn trust_call(&mut self) {
        let is_live = |&address: &usize| address != 0 && self.is_on_stack(address);
        self.trusted |= !self.state.checked && self.innermost().as_ref().is_some_and(is_live);
    }

    /// Address of the innermost frame, or 0.
    fn innermost(&self) -> Option<usize> {
        let slot = self.state.address + self.layout.thread.frame;
        let frame = self.word(slot, !self.state.checked)?;
        match self.layout.chain {
            Chain::Objects | Chain::Direct => Some(frame),
            // The structure is on the native stack of this thread, or within the thread state: mapped in any
            // case, but perhaps not yet written.
            Chain::Marked | Chain::Shims => {
                self.word(frame + self.layout.thread.current, !self.state.checked)
            }
        }
    }

    /// Reads the frame at `address`; the address of the next one outwards, and the frame, where it is Python's.
    fn step(
        &mut self,
        address: usize,
        recent: &mut recent::Python,
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

    /// Whether a frame whose fields are whole, of `size` bytes, proves that its callers are live. None where it
    /// cannot be live itself.
    fn proves(&mut self, raw: &Raw, size: usize) -> Option<bool> {
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

    /// As [`Walk::proves`], of the frame of a generator: it is live where the generator says that it runs. One
    /// that is just yielding says so no longer while it is the innermost still; then its caller is the one that
    /// runs.
    fn generator_proves(&mut self, raw: &Raw) -> Option<bool> {
        const RUNNING: i8 = 0;
        let state = self.generator_state(raw.address)?;
        if state < RUNNING && raw.previous != 0 && matches!(self.inner, Inner::None) {
            self.inner = Inner::Yielding;
            return Some(false);
        }
        (state == RUNNING).then_some(true)
    }

    /// The state of the generator, coroutine or asynchronous generator that `frame` is within.
    fn generator_state(&self, frame: usize) -> Option<i8> {
        let (within, state) = self.layout.generator;
        let mut copy = [0_u8; 96];
        if !sys::copy_checked(frame.checked_sub(within)?, &mut copy[..within]) {
            return None;
        }
        let kind =
            copy[self.layout.object_type..][..8].try_into().expect("it is cut to this length");
        let is_generator =
            self.interpreter.api.generator_types.contains(&usize::from_ne_bytes(kind));
        is_generator.then_some(copy[state] as i8)
    }

    /// Whether the interpreter's native function was called for a frame.
    fn is_entry(&self, raw: &Raw) -> Option<bool> {
        match self.layout.chain {
            Chain::Objects => Some(true),
            Chain::Marked => Some(raw.is_entry),
            Chain::Shims | Chain::Direct if raw.previous == 0 => Some(true),
            Chain::Shims | Chain::Direct => Some(self.raw(raw.previous)?.owner >= OWNED_BY_NATIVE),
        }
    }

    /// Whether a frame may be on the data stack at `address`.
    #[inline]
    fn is_on_stack(&self, address: usize) -> bool {
        self.stack.contains(address, self.layout.frame.bytes)
    }

    /// Offset of the instruction that a frame executes, or `u32::MAX`.
    fn instruction(&self, raw: &Raw) -> u32 {
        let offset = match (self.layout.chain, self.owner.version >> 16) {
            (Chain::Objects, 0x030a) => i64::from(raw.instruction as u32 as i32) * 2,
            (Chain::Objects, _) => i64::from(raw.instruction as u32 as i32),
            _ => raw.instruction.wrapping_sub(raw.code + self.layout.code.instructions) as i64,
        };
        // Before its first instruction it is at -1 or -2.
        u32::try_from(offset).unwrap_or(u32::MAX)
    }

    /// Reads a frame's fields.
    #[inline(always)]
    fn raw(&self, address: usize) -> Option<Raw> {
        let frame = &self.layout.frame;
        let mut copy = MaybeUninit::<[u8; 112]>::uninit();
        let base = if self.trusted || self.is_on_stack(address) {
            address
        } else {
            address.is_multiple_of(8).then_some(())?;
            checked(address, frame.bytes, &mut copy)?
        };
        // SAFETY: `base` is either of `copy`, or of a frame that is live or within the data stack, as the
        // opening of this module says; all fields lie within `frame.bytes`.
        let (word, half, byte) =
            unsafe { (reader::<usize>(base), reader::<u32>(base), reader::<u8>(base)) };
        Some(Raw {
            address,
            previous: word(frame.previous),
            // The lowest bits are marks of the interpreter from 3.14 on; objects are aligned.
            code: word(frame.code) & !7,
            instruction: match self.layout.chain {
                Chain::Objects => half(frame.instruction) as usize,
                _ => word(frame.instruction),
            },
            owner: if frame.owner == 0 { 0 } else { byte(frame.owner) },
            is_entry: frame.entry != 0 && byte(frame.entry) != 0,
        })
    }

    /// What identifies the code object at `address`, and the size of its frames, bytes.
    fn head(&self, address: usize) -> Option<(Head, usize)> {
        let code = &self.layout.code;
        let mut copy = MaybeUninit::<[u8; 160]>::uninit();
        if address == 0 {
            return None;
        }
        let base =
            if self.trusted { address } else { checked(address, code.table + 8, &mut copy)? };
        // SAFETY: `base` is either of `copy`, or of a code object to which a live frame holds a reference.
        let (word, half) = unsafe { (reader::<usize>(base), reader::<u32>(base)) };
        if word(self.layout.object_type) != self.interpreter.api.code_type {
            return None;
        }
        let identity = [word(code.name), word(code.file), word(code.table)];
        let head = Head { address, identity, first_line: half(code.first_line) };
        Some((head, self.frame_size(half(code.frame_size.0), half(code.frame_size.1))))
    }

    /// Size of the frames of a code object, bytes, from its two fields.
    fn frame_size(&self, first: u32, second: u32) -> usize {
        match self.layout.chain {
            Chain::Objects => 0,
            Chain::Marked => self.layout.frame.specials + 8 * (first as usize + second as usize),
            Chain::Shims | Chain::Direct => 8 * first as usize,
        }
    }

    fn word(&self, address: usize, trusted: bool) -> Option<usize> {
        let mut copy = [0_u8; 8];
        if trusted {
            // SAFETY: see the opening of this module.
            return Some(unsafe {
                core::ptr::with_exposed_provenance::<usize>(address).read_volatile()
            });
        }
        sys::copy_checked(address, &mut copy).then(|| usize::from_ne_bytes(copy))
    }
}

/// Copies bytes from where there may be none: the address of the copy. Apart, so that it takes no time where nothing is checked.
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

/// Reads values at offsets from `base`.
///
/// # Safety
///
/// As long as the result is used, values can be read at the offsets that it is used with.
unsafe fn reader<T: Copy>(base: usize) -> impl Fn(usize) -> T {
    // SAFETY: the caller's promise. Another thread may change what is not this thread's, which is then a value
    // of before or after.
    move |offset| unsafe { core::ptr::with_exposed_provenance::<T>(base + offset).read_volatile() }
}

/// Ends a stack with a frame that could not be read.
fn unreadable(frames: &mut scratch::Frames, count: usize) -> (usize, u32) {
    frames[count] = Frame { code: 0, instruction: u32::MAX, flags: 0 };
    (count + 1, flag::UNREADABLE)
}
