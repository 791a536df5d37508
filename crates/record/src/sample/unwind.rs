//! Unwinds a stack from the registers and the stack bytes that the kernel copied.
//!
//! A caller is accepted only if its return address lies in mapped code and follows a call instruction. A stack is complete only
//! if it ends where a thread or a coroutine begins.

use gimli::UnwindContext;
use linux_perf_event_reader::RawData;

use super::address_space::{AddressSpace, Code};
use super::code_exit::Exit;
use super::process_memory::ProcessMemory;
use super::registers::{FRAME_POINTER, Registers, STACK_POINTER};
use super::unwind_rule::{FixedRule, Rule, WORD};

/// Maximum number of frames of a walk. A walk that finds more has probably followed wrong data.
const MAX_FRAMES: usize = 4096;
/// Bytes beyond the first frame of a stack that are searched for return addresses. If there are none, the stack begins there.
const SEARCHED_BYTES: u64 = 4096;

/// How a walk ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WalkEnd {
    /// At the function that the thread, or the coroutine, started in.
    Root,
    /// Before that: the copied bytes or the unwind information ended.
    Truncated,
}

/// The part of a stack that was copied with a sample: the bytes from the stack pointer on.
#[derive(Debug, Clone, Copy)]
pub(super) struct StackBytes<'a> {
    pub start: u64,
    pub bytes: RawData<'a>,
    /// Whether more bytes of the stack may follow, which were not copied.
    pub continues: bool,
}

impl StackBytes<'_> {
    fn end(&self) -> u64 {
        let length = match self.bytes {
            RawData::Single(bytes) => bytes.len(),
            RawData::Split(first, second) => first.len() + second.len(),
        };
        self.start.saturating_add(length as u64)
    }

    fn read(&self, address: u64) -> Option<u64> {
        let offset = usize::try_from(address.checked_sub(self.start)?).ok()?;
        let end = offset.checked_add(WORD as usize)?;
        let mut word = [0; WORD as usize];
        match self.bytes {
            RawData::Single(bytes) => word.copy_from_slice(bytes.get(offset..end)?),
            RawData::Split(..) => {
                let mut rest = self.bytes;
                rest.skip(offset).ok()?;
                rest.read_exact(&mut word).ok()?;
            }
        }
        Some(u64::from_ne_bytes(word))
    }
}

/// Unwinds stacks.
pub(super) struct Walker {
    context: UnwindContext<usize>,
}

/// A step from a frame to its caller.
enum Step {
    /// The caller, and whether its instruction pointer is exact rather than a return address.
    Caller(Registers, bool),
    End(WalkEnd),
}

/// One walk.
struct Walk<'w, 'a> {
    space: &'w mut AddressSpace,
    memory: ProcessMemory,
    stack: StackBytes<'a>,
    context: &'w mut UnwindContext<usize>,
}

impl Walker {
    pub fn new() -> Self {
        Self { context: UnwindContext::new() }
    }

    /// Appends the code addresses of a stack to `frames`, leaf first.
    ///
    /// Return addresses are reduced by one, so that they lie within the call instruction.
    pub fn walk(
        &mut self,
        space: &mut AddressSpace,
        memory: ProcessMemory,
        mut registers: Registers,
        stack: StackBytes<'_>,
        frames: &mut Vec<u64>,
    ) -> WalkEnd {
        let mut walk = Walk { space, memory, stack, context: &mut self.context };
        // Whether the instruction pointer is exact, rather than a return address.
        let mut is_exact = true;
        for _ in 0..MAX_FRAMES {
            let address = registers.ip() - u64::from(!is_exact);
            frames.push(address);
            let step = walk.step(address, &registers, is_exact, frames.len() == 1);
            match step {
                Step::Caller(caller, exact) => (registers, is_exact) = (caller, exact),
                Step::End(end) => return end,
            }
        }
        WalkEnd::Truncated
    }
}

impl Walk<'_, '_> {
    fn step(&mut self, address: u64, registers: &Registers, is_exact: bool, is_leaf: bool) -> Step {
        let code = self.space.code_at(address, self.memory, self.context);
        let stack = self.stack;
        let caller = match code.rule {
            Rule::End => return Step::End(WalkEnd::Root),
            Rule::Fixed(rule) => rule.caller(registers, |at| stack.read(at)),
            Rule::Computed | Rule::Signal => {
                let read = |at| stack.read(at);
                self.space.computed_caller(address, registers, self.context, read)
            }
            Rule::None => return self.without_table(&code, registers, is_exact, is_leaf),
        };
        match caller {
            // The stack may have been switched to another one.
            Some(caller) if code.rule == Rule::Signal => self.interrupted(caller),
            Some(caller) if caller.ip() == 0 => Step::End(WalkEnd::Root),
            Some(caller) if caller.sp() <= registers.sp() => Step::End(WalkEnd::Truncated),
            Some(caller) => match self.linked(caller) {
                Some(step) => step,
                None => Step::End(self.unlinked(&caller)),
            },
            None => Step::End(WalkEnd::Truncated),
        }
    }

    fn interrupted(&self, caller: Registers) -> Step {
        match self.space.contains(caller.ip()) {
            true => Step::Caller(caller, true),
            false => Step::End(WalkEnd::Truncated),
        }
    }

    /// Finds the caller of code that no unwind table covers.
    fn without_table(
        &mut self,
        code: &Code,
        registers: &Registers,
        is_exact: bool,
        is_leaf: bool,
    ) -> Step {
        let stack = self.stack;
        let read = |at| stack.read(at);
        if self.space.is_signal_return(registers.ip(), self.memory) {
            return match interrupted_by_signal(registers, read) {
                Some(caller) => self.interrupted(caller),
                None => Step::End(WalkEnd::Truncated),
            };
        }
        let has_no_frames = registers.fp() == 0;
        let by_code = self.space.exit_at(registers.ip(), self.memory);
        let never_returns = matches!(by_code, Some(Exit::Never));
        if has_no_frames && (never_returns && !is_exact || code.is_entry) {
            return Step::End(WalkEnd::Root);
        }
        let found = match by_code {
            Some(Exit::Return(rule)) => rule.caller(registers, read),
            _ => None,
        };
        let in_leaf = || is_leaf.then(|| FixedRule::new(STACK_POINTER, 8).caller(registers, read));
        let by_frame_pointer = || {
            let mut rule = FixedRule::new(FRAME_POINTER, 16);
            rule.save(FRAME_POINTER, -16)?;
            rule.caller(registers, read)
        };
        let candidates = [found, in_leaf().flatten(), by_frame_pointer()];
        let outer = |caller: &Registers| caller.sp() > registers.sp();
        for caller in candidates.into_iter().flatten().filter(outer) {
            if let Some(step) = self.linked(caller) {
                return step;
            }
            if caller.ip() == 0 && caller.fp() == 0 {
                return Step::End(WalkEnd::Root);
            }
        }
        Step::End(WalkEnd::Truncated)
    }

    /// Returns how a stack ends whose outermost function has a word above its frame that is no return address.
    ///
    /// Programs that make stacks of their own put there what they like. But a function may also have a wrong unwind table, or
    /// may have changed the stack pointer unnoticed. Then its caller's return address is further above.
    fn unlinked(&mut self, caller: &Registers) -> WalkEnd {
        if self.space.is_function_start(caller.ip()) {
            return WalkEnd::Root;
        }
        let end = caller.sp().saturating_add(SEARCHED_BYTES);
        if end > self.stack.end() && self.stack.continues {
            return WalkEnd::Truncated;
        }
        let words = (caller.sp()..end.min(self.stack.end())).step_by(WORD as usize);
        let mut words = words.map_while(|at| self.stack.read(at));
        match words.any(|word| self.space.is_return_address(word, self.memory)) {
            true => WalkEnd::Truncated,
            false => WalkEnd::Root,
        }
    }

    /// Returns the step to a caller if a function can return to it.
    fn linked(&mut self, caller: Registers) -> Option<Step> {
        if self.space.is_return_address(caller.ip(), self.memory) {
            return Some(Step::Caller(caller, false));
        }
        // The kernel makes a signal handler return to code that nothing calls.
        let is_signal = self.space.is_signal_return(caller.ip(), self.memory);
        is_signal.then_some(Step::Caller(caller, true))
    }
}

/// Returns the registers of the code that a signal interrupted. The stack pointer points to the kernel's `ucontext_t` (Linux,
/// arch/x86/include/uapi/asm/sigcontext.h).
fn interrupted_by_signal(
    registers: &Registers,
    read: impl Fn(u64) -> Option<u64>,
) -> Option<Registers> {
    /// Offset of the first register, and the numbers of all in DWARF.
    const FIRST: u64 = 40;
    const ORDER: [u8; 17] = [8, 9, 10, 11, 12, 13, 14, 15, 5, 4, 6, 3, 1, 0, 2, 7, 16];
    let mut caller = *registers;
    for (at, number) in (registers.sp() + FIRST..).step_by(WORD as usize).zip(ORDER) {
        caller.set(number, read(at)?);
    }
    Some(caller)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrapped_stack_bytes_are_read_like_contiguous_ones() {
        let bytes: Vec<u8> = (0..24).collect();
        let word = |at: usize| u64::from_ne_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
        let stack = |bytes| StackBytes { start: 0x1000, bytes, continues: false };
        let whole = stack(RawData::Single(&bytes));
        for cut in 0..=24 {
            let split = stack(RawData::Split(&bytes[..cut], &bytes[cut..]));
            assert_eq!((whole.end(), split.end()), (0x1018, 0x1018));
            for at in 0..=16 {
                assert_eq!(whole.read(0x1000 + at as u64), Some(word(at)));
                assert_eq!(split.read(0x1000 + at as u64), Some(word(at)), "cut at {cut}");
            }
            for outside in [0x0fff, 0x1011, u64::MAX] {
                assert_eq!((whole.read(outside), split.read(outside)), (None, None));
            }
        }
    }
}
