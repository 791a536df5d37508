//! Native stacks, unwound in the thread itself, without allocating or locking.
//!
//! Most allocations come from stacks whose outer frames are those of the stack before: when a frame has the same
//! registers as one of the last stack, and the memory that led from there to the root is unchanged, so is the rest.

mod cfi;
mod memory;
mod row;
mod rows;

use super::format::{MAX_FRAMES, flag};
use super::nodes;
#[cfg(simprof_heap)]
pub use memory::STACK_END;
use memory::Stack;
pub use row::Registers;
use row::{Base, Row, Saved};
use rows::Place;
#[cfg(simprof_heap)]
pub use rows::clear;

/// Words from the stack pointer of a signal's frame to the registers that were interrupted (`ucontext_t`).
const SIGNAL_BP: usize = 120;
const SIGNAL_BX: usize = 128;
const SIGNAL_SP: usize = 160;
const SIGNAL_PC: usize = 168;

/// A frame, and where its caller's registers were found.
#[derive(Clone, Copy)]
struct Frame {
    registers: Registers,
    /// Where the caller's return address is.
    pc_at: usize,
    /// Where the caller's `rbp` and `rbx` are; 0: in the registers.
    bp_at: usize,
    bx_at: usize,
    /// Which of `rbp` and `rbx` the way from here to the root goes by, see [`needed`]. The others hold what the program
    /// computes, and differ from one call to the next.
    needs: u8,
    /// The node of the stack that ends with this frame.
    node: u32,
    module: u32,
    address: u64,
}

/// Bits of [`Frame::needs`].
mod needed {
    pub const BP: u8 = 1;
    pub const BX: u8 = 2;
}

/// Where the frames of a stack are collected, with the stack before.
pub struct Trace {
    /// The last stack, from the root.
    frames: [Frame; MAX_FRAMES],
    count: usize,
    /// Whose stack it is: what must be the same for a frame to be the same.
    owner: (usize, usize, u64),
    /// Its flags.
    flags: u64,
    /// Frames of the new stack, from the innermost.
    fresh: [Frame; MAX_FRAMES],
    recent: nodes::Recent,
    /// For reading files.
    scratch: [u8; 4096],
}

/// A stack as it is recorded.
#[derive(Clone, Copy)]
pub struct Recorded {
    /// Innermost node.
    pub node: u32,
    /// [`flag::PARTIAL`] and [`flag::CUT`].
    pub flags: u64,
    /// Whether tables had no room for some of it.
    pub lost: bool,
    /// Whether it is known to the root, and each frame called the next: none was interrupted by a signal.
    pub is_of_calls: bool,
}

/// What comes after a frame.
enum Step {
    Caller(Registers),
    /// As a caller, with the interrupted instruction.
    Interrupted(Registers),
    End,
    Unknown,
}

impl Trace {
    /// The stack from the frame with these registers to the root. `generation` changes when code is unloaded.
    pub fn record(&mut self, registers: Registers, generation: u64) -> Recorded {
        let stack = Stack::at(registers.sp);
        let owner = (super::thread::pointer(), stack.top(), generation);
        if !stack.own || owner != self.owner {
            self.count = 0;
        }
        self.owner = owner;
        let mut reusable = stack.own;
        let (mut fresh, mut flags) = self.unwind(registers, stack, &mut reusable);
        if self.count + fresh > MAX_FRAMES {
            self.count = 0;
            (fresh, flags) = self.unwind(registers, Stack::at(registers.sp), &mut reusable);
        }
        let (node, lost) = self.intern(fresh);
        if lost {
            flags |= flag::CUT;
        }
        self.flags = flags;
        if !reusable {
            self.count = 0;
        }
        Recorded { node, flags, lost, is_of_calls: reusable && flags == 0 }
    }

    /// Fills `fresh` up to the first frame that the last stack has too, and cuts the last stack there.
    fn unwind(
        &mut self,
        mut registers: Registers,
        mut stack: Stack,
        reusable: &mut bool,
    ) -> (usize, u64) {
        let mut exact = false;
        for fresh in 0..MAX_FRAMES {
            while self.count > 0 && self.frames[self.count - 1].registers.sp < registers.sp {
                self.count -= 1;
            }
            if *reusable && self.is_same(registers) {
                return (fresh, self.flags);
            }
            let pc = if exact { registers.pc } else { registers.pc.wrapping_sub(1) };
            let place = rows::find(pc, &mut self.scratch);
            let frame = &mut self.fresh[fresh];
            *frame = Frame::new(registers, place, exact);
            match frame.step(place.row, &mut stack) {
                Step::Caller(caller) => (registers, exact) = (caller, false),
                Step::Interrupted(caller) => {
                    (registers, exact) = (caller, true);
                    stack = Stack::at(caller.sp);
                    *reusable = false;
                    self.count = 0;
                }
                Step::End => return self.ended(fresh, 0),
                Step::Unknown => return self.ended(fresh, flag::PARTIAL),
            }
        }
        self.ended(MAX_FRAMES - 1, flag::CUT)
    }

    /// The stack has nothing in common with the last one.
    fn ended(&mut self, last: usize, flags: u64) -> (usize, u64) {
        self.count = 0;
        (last + 1, flags)
    }

    /// Whether the last stack's frame that is now its innermost has these registers, and the memory from it to the root
    /// is as it was.
    #[inline]
    fn is_same(&self, registers: Registers) -> bool {
        let Some(frames) = self.frames.get(..self.count) else { return false };
        let Some(innermost) = frames.last() else { return false };
        innermost.has(registers)
            && frames.windows(2).rev().all(|pair| pair[1].is_reached_from(&pair[0]))
    }

    /// Gives the fresh frames nodes, and puts them on what is left of the last stack: the innermost node, and whether tables had no room.
    fn intern(&mut self, fresh: usize) -> (u32, bool) {
        let mut lost = false;
        let mut node = match self.count {
            0 => 0,
            count => self.frames[count - 1].node,
        };
        for frame in self.fresh[..fresh].iter().rev() {
            match nodes::intern(&mut self.recent, node, frame.module, frame.address) {
                Some(found) => node = found,
                None => lost = true,
            }
            let outer = self.count.checked_sub(1).map_or(0, |at| self.frames[at].needs);
            let needs = frame.needs | outer & frame.passes_on();
            self.frames[self.count] = Frame { node, needs, ..*frame };
            self.count += 1;
        }
        (node, lost)
    }
}

impl Frame {
    fn new(registers: Registers, place: Place, exact: bool) -> Frame {
        let (module, address) = match exact {
            true => (place.module | super::format::EXACT, place.address),
            false => (place.module, place.address + 1),
        };
        Frame { registers, pc_at: 0, bp_at: 0, bx_at: 0, needs: 0, node: 0, module, address }
    }

    /// Whether these registers are the frame's, as far as they matter.
    #[inline]
    fn has(&self, registers: Registers) -> bool {
        let Registers { pc, sp, bp, bx } = self.registers;
        (pc, sp) == (registers.pc, registers.sp)
            && (self.needs & needed::BP == 0 || bp == registers.bp)
            && (self.needs & needed::BX == 0 || bx == registers.bx)
    }

    /// Registers that the caller has as this frame has them.
    fn passes_on(&self) -> u8 {
        let bit = |at, bit| if at == 0 { bit } else { 0 };
        bit(self.bp_at, needed::BP) | bit(self.bx_at, needed::BX)
    }

    /// Whether the memory that led from this frame to its caller is as it was.
    #[inline]
    fn is_reached_from(&self, caller: &Frame) -> bool {
        // SAFETY: these places were read when the frame was met, and are above the present stack pointer in the stack of the same
        // thread, which stays mapped up to its upper end.
        let word = |at| unsafe { core::ptr::with_exposed_provenance::<usize>(at).read_volatile() };
        let same = |bit: u8, at: usize, value: usize| {
            caller.needs & bit == 0 || at == 0 || word(at) == value
        };
        word(self.pc_at) == caller.registers.pc
            && same(needed::BP, self.bp_at, caller.registers.bp)
            && same(needed::BX, self.bx_at, caller.registers.bx)
    }

    /// Finds the caller.
    fn step(&mut self, row: Row, stack: &mut Stack) -> Step {
        match row.base() {
            Base::End => Step::End,
            Base::Unknown => Step::Unknown,
            Base::Signal => self.interrupted(stack).map_or(Step::Unknown, Step::Interrupted),
            _ => match self.caller(row, stack) {
                Some(caller) if caller.pc == 0 => Step::End,
                // A stack that does not shrink would never end.
                Some(caller) if caller.sp > self.registers.sp => Step::Caller(caller),
                _ => Step::Unknown,
            },
        }
    }

    fn caller(&mut self, row: Row, stack: &mut Stack) -> Option<Registers> {
        let Registers { pc, sp, bp, bx } = self.registers;
        let frame = match row.base() {
            Base::Sp => sp.wrapping_add_signed(row.offset()),
            Base::Bp => bp.wrapping_add_signed(row.offset()),
            Base::Bx => bx.wrapping_add_signed(row.offset()),
            Base::AtBp => stack.word(bp.wrapping_add_signed(row.offset()))?,
            Base::Stub => sp + 8 + usize::from(pc & 15 >= 11) * 8,
            Base::Unknown | Base::Signal | Base::End => return None,
        };
        let place = |saved| match saved {
            Saved::Same => 0,
            Saved::Frame(words) => frame.wrapping_add_signed(words as isize * 8),
            Saved::Bp(words) => bp.wrapping_add_signed(words as isize * 8),
        };
        self.needs = row.needs();
        self.pc_at = frame.wrapping_sub(8);
        (self.bp_at, self.bx_at) = (place(row.bp()), place(row.bx()));
        let pc = stack.word(self.pc_at)?;
        let bp = if self.bp_at == 0 { bp } else { stack.word(self.bp_at)? };
        let bx = if self.bx_at == 0 { bx } else { stack.word(self.bx_at)? };
        Some(Registers { pc, sp: frame, bp, bx })
    }

    fn interrupted(&mut self, stack: &mut Stack) -> Option<Registers> {
        let sp = self.registers.sp;
        Some(Registers {
            pc: stack.word(sp + SIGNAL_PC)?,
            sp: stack.word(sp + SIGNAL_SP)?,
            bp: stack.word(sp + SIGNAL_BP)?,
            bx: stack.word(sp + SIGNAL_BX)?,
        })
    }
}
