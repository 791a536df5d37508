//! Unwinds native stacks in the thread itself, without allocating or locking.
//!
//! Most allocations share their outer frames with the thread's previous stack. If a frame has the same
//! registers as one of the previous stack, and the memory that links it to the root is unchanged, then the
//! rest of the stack is the same.

mod cfi;
mod row;
mod rule_cache;
mod stack_memory;

use super::format::{MAX_FRAMES, flag};
use super::nodes;
use super::system::is_readable;
pub use row::Registers;
use row::{Base, Row, Saved, needed};
use rule_cache::CodeLocation;
#[cfg(simprof_heap)]
pub use rule_cache::clear;
use stack_memory::StackMemory;
#[cfg(simprof_heap)]
pub use stack_memory::{STACK_END, learn as learn_stack};

/// Offsets from the stack pointer of a signal frame to the interrupted registers (`ucontext_t`), bytes.
const SIGNAL_BP: usize = 120;
const SIGNAL_BX: usize = 128;
const SIGNAL_SP: usize = 160;
const SIGNAL_PC: usize = 168;

/// A frame, and the locations of its caller's registers.
#[derive(Clone, Copy)]
struct Frame {
    registers: Registers,
    /// Address of the caller's return address.
    pc_at: usize,
    /// Addresses of the caller's `rbp` and `rbx`; 0: they are still in the registers.
    bp_at: usize,
    bx_at: usize,
    /// Which of `rbp` and `rbx` the unwinding from here to the root needs, see [`needed`]. A register that it
    /// does not need may hold any value of the program, which differs between calls.
    needs: u8,
    /// The node of the stack that ends with this frame.
    node: u32,
    module: u32,
    address: u64,
}

/// Working memory for unwinding, with the previous stack.
pub struct Trace {
    /// The previous stack, from the root.
    frames: [Frame; MAX_FRAMES],
    count: usize,
    /// The thread pointer, the stack's end and the code generation. All must be the same for a frame to be
    /// the same.
    owner: (usize, usize, u64),
    /// Flags of the previous stack.
    flags: u64,
    /// New frames, from the leaf.
    fresh: [Frame; MAX_FRAMES],
    recent: nodes::Recent,
    /// Buffer for reading files.
    scratch: [u8; 4096],
}

/// A recorded stack.
#[derive(Clone, Copy)]
pub struct Recorded {
    /// Node of the leaf frame.
    pub node: u32,
    /// [`flag::PARTIAL`] and [`flag::CUT`].
    pub flags: u64,
    /// Whether frames were dropped because a table was full.
    pub lost: bool,
    /// Whether the stack is complete and consists of calls only: no frame was interrupted by a signal.
    pub is_of_calls: bool,
}

/// The caller of a frame.
enum Step {
    Caller(Registers),
    /// The caller was interrupted by a signal: the registers are those of the interrupted instruction.
    Interrupted(Registers),
    End,
    Unknown,
}

impl Trace {
    /// Records the stack from the frame with these registers to the root. `generation` changes when code is
    /// unloaded.
    pub fn record(&mut self, registers: Registers, generation: u64) -> Recorded {
        let stack = StackMemory::at(registers.sp);
        let owner = (super::thread::pointer(), stack.top(), generation);
        if !stack.own || owner != self.owner {
            self.count = 0;
        }
        self.owner = owner;
        let mut reusable = stack.own;
        let (mut fresh, mut flags) = self.unwind(registers, stack, &mut reusable);
        if self.count + fresh > MAX_FRAMES {
            self.count = 0;
            (fresh, flags) = self.unwind(registers, StackMemory::at(registers.sp), &mut reusable);
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

    /// Collects frames until the first one that the previous stack contains too, and cuts the previous stack
    /// there. Returns the number of new frames, and flags.
    fn unwind(
        &mut self,
        mut registers: Registers,
        mut stack: StackMemory,
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
            let location = rule_cache::find(pc, &mut self.scratch);
            if !exact
                && fresh > 0
                && location.row.base() == Base::Unknown
                && let Some(flags) = self.not_called(registers.pc, location)
            {
                return self.ended(fresh - 1, flags);
            }
            let frame = &mut self.fresh[fresh];
            *frame = Frame::new(registers, location, exact);
            match frame.step(location.row, &mut stack) {
                Step::Caller(caller) => (registers, exact) = (caller, false),
                Step::Interrupted(caller) => {
                    (registers, exact) = (caller, true);
                    stack = StackMemory::at(caller.sp);
                    *reusable = false;
                    self.count = 0;
                }
                Step::End => return self.ended(fresh, 0),
                Step::Unknown => return self.ended(fresh, flag::PARTIAL),
            }
        }
        self.ended(MAX_FRAMES - 1, flag::CUT)
    }

    /// Returns flags for the end of the stack if nothing calls the code at a return address. Programs that make stacks of their
    /// own put the address of a function there, where no call returns to, or anything else.
    #[cold]
    fn not_called(&mut self, pc: usize, location: CodeLocation) -> Option<u64> {
        // A function starts here: unwind tables cover this address, but not the byte before.
        if rule_cache::find(pc, &mut self.scratch).row.base() != Base::Unknown {
            return Some(0);
        }
        let is_code = location.module != 0 || is_readable(pc);
        (!is_code).then_some(flag::PARTIAL)
    }

    /// Ends a stack that has no frame in common with the previous one.
    fn ended(&mut self, last: usize, flags: u64) -> (usize, u64) {
        self.count = 0;
        (last + 1, flags)
    }

    /// Returns whether the innermost remaining frame of the previous stack has these registers, and the
    /// memory from it to the root is unchanged.
    #[inline]
    fn is_same(&self, registers: Registers) -> bool {
        let Some(frames) = self.frames.get(..self.count) else { return false };
        let Some(innermost) = frames.last() else { return false };
        innermost.has(registers)
            && frames.windows(2).rev().all(|pair| pair[1].is_reached_from(&pair[0]))
    }

    /// Interns the new frames and appends them to the remaining previous stack. Returns the leaf node, and
    /// whether a table was full.
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
    fn new(registers: Registers, location: CodeLocation, exact: bool) -> Frame {
        let (module, address) = match exact {
            true => (location.module | super::format::EXACT, location.address),
            false => (location.module, location.address + 1),
        };
        Frame { registers, pc_at: 0, bp_at: 0, bx_at: 0, needs: 0, node: 0, module, address }
    }

    /// Returns whether the frame has these registers. Ignores `rbp` and `rbx` if unwinding does not need them.
    #[inline]
    fn has(&self, registers: Registers) -> bool {
        let Registers { pc, sp, bp, bx } = self.registers;
        (pc, sp) == (registers.pc, registers.sp)
            && (self.needs & needed::BP == 0 || bp == registers.bp)
            && (self.needs & needed::BX == 0 || bx == registers.bx)
    }

    /// Returns the registers that the caller has with the same values as this frame.
    fn passes_on(&self) -> u8 {
        let bit = |at, bit| if at == 0 { bit } else { 0 };
        bit(self.bp_at, needed::BP) | bit(self.bx_at, needed::BX)
    }

    /// Returns whether the memory that links this frame to its caller is unchanged.
    #[inline]
    fn is_reached_from(&self, caller: &Frame) -> bool {
        // SAFETY: these addresses were read when the frame was recorded. They are above the current stack
        // pointer in the same thread's stack, which stays mapped up to its upper end.
        let word = |at| unsafe { core::ptr::with_exposed_provenance::<usize>(at).read_volatile() };
        let same = |bit: u8, at: usize, value: usize| {
            caller.needs & bit == 0 || at == 0 || word(at) == value
        };
        word(self.pc_at) == caller.registers.pc
            && same(needed::BP, self.bp_at, caller.registers.bp)
            && same(needed::BX, self.bx_at, caller.registers.bx)
    }

    /// Finds the caller.
    fn step(&mut self, row: Row, stack: &mut StackMemory) -> Step {
        match row.base() {
            Base::End => Step::End,
            Base::Unknown => Step::Unknown,
            Base::Signal => self.interrupted(stack).map_or(Step::Unknown, Step::Interrupted),
            _ => match self.caller(row, stack) {
                Some(caller) if caller.pc == 0 => Step::End,
                // The stack pointer must grow from frame to frame, or unwinding might never end.
                Some(caller) if caller.sp > self.registers.sp => Step::Caller(caller),
                _ => Step::Unknown,
            },
        }
    }

    fn caller(&mut self, row: Row, stack: &mut StackMemory) -> Option<Registers> {
        let Registers { pc, sp, bp, bx } = self.registers;
        let frame = match row.base() {
            Base::Sp => sp.wrapping_add_signed(row.offset()),
            Base::Bp => bp.wrapping_add_signed(row.offset()),
            Base::Bx => bx.wrapping_add_signed(row.offset()),
            Base::AtBp => stack.word(bp.wrapping_add_signed(row.offset()))?,
            Base::Stub => sp + 8 + usize::from(pc & 15 >= 11) * 8,
            Base::Unknown | Base::Signal | Base::End => return None,
        };
        let saved_at = |saved| match saved {
            Saved::Same => 0,
            Saved::Frame(words) => frame.wrapping_add_signed(words as isize * 8),
            Saved::Bp(words) => bp.wrapping_add_signed(words as isize * 8),
        };
        self.needs = row.needs();
        self.pc_at = frame.wrapping_sub(8);
        (self.bp_at, self.bx_at) = (saved_at(row.bp()), saved_at(row.bx()));
        let pc = stack.word(self.pc_at)?;
        let bp = if self.bp_at == 0 { bp } else { stack.word(self.bp_at)? };
        let bx = if self.bx_at == 0 { bx } else { stack.word(self.bx_at)? };
        Some(Registers { pc, sp: frame, bp, bx })
    }

    fn interrupted(&mut self, stack: &mut StackMemory) -> Option<Registers> {
        let sp = self.registers.sp;
        Some(Registers {
            pc: stack.word(sp + SIGNAL_PC)?,
            sp: stack.word(sp + SIGNAL_SP)?,
            bp: stack.word(sp + SIGNAL_BP)?,
            bx: stack.word(sp + SIGNAL_BX)?,
        })
    }
}
