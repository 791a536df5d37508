//! Rules by which a frame's caller is found.

use gimli::{
    CfaRule, Evaluation, EvaluationResult, Location, Register, RegisterRule, UnwindContext,
    UnwindTableRow, Value,
};

use super::debug_storage::Reader;
use super::registers::{INSTRUCTION_POINTER, REGISTERS, RESTORED, Registers, STACK_POINTER};
use super::unwind_table::Entry;

/// Bytes of a word.
pub(super) const WORD: u64 = 8;
/// Marks a register that keeps its value.
const SAME: i16 = i16::MIN;

/// How to find the caller of code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule {
    /// A thread starts in this function: it has no caller.
    End,
    /// The caller's registers are at fixed distances from a register.
    Fixed(FixedRule),
    /// Expressions of the unwind table compute the caller's registers.
    Computed,
    /// As [`Rule::Computed`], in a frame that the kernel makes when it delivers a signal: the "caller" was interrupted.
    Signal,
    /// No unwind table covers the code.
    None,
}

/// The caller's registers at fixed distances from a register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FixedRule {
    /// The caller's stack pointer is this register plus an offset. The return address is one word below.
    pub base: u8,
    pub offset: i32,
    /// Where the registers of [`RESTORED`] are, in words from the caller's stack pointer.
    saved: [i16; RESTORED.len()],
}

impl FixedRule {
    /// Returns a rule for a function that has saved no register.
    pub fn new(base: u8, offset: i32) -> Self {
        Self { base, offset, saved: [SAME; RESTORED.len()] }
    }

    /// States that a register is saved at an offset in bytes from the caller's stack pointer. Returns `None` if such an offset
    /// cannot be represented. Registers that functions need not restore are ignored.
    pub fn save(&mut self, register: u8, offset: i64) -> Option<()> {
        let Some(at) = RESTORED.iter().position(|&restored| restored == register) else {
            return Some(());
        };
        let words = i16::try_from(offset / WORD as i64).ok().filter(|&words| words != SAME)?;
        (offset % WORD as i64 == 0).then(|| self.saved[at] = words)
    }

    /// Returns the caller's registers. `read` reads a word of the stack.
    pub fn caller(
        &self,
        registers: &Registers,
        read: impl Fn(u64) -> Option<u64>,
    ) -> Option<Registers> {
        let frame = registers.get(self.base)?.checked_add_signed(self.offset.into())?;
        let mut caller = *registers;
        caller.set(INSTRUCTION_POINTER, read(frame.checked_sub(WORD)?)?);
        caller.set(STACK_POINTER, frame);
        for (&register, &words) in RESTORED.iter().zip(&self.saved) {
            if words == SAME {
                continue;
            }
            let at = frame.checked_add_signed(i64::from(words) * WORD as i64)?;
            // Below the stack pointer, the register has been restored already.
            if at >= registers.sp() {
                caller.set(register, read(at)?);
            }
        }
        Some(caller)
    }
}

impl Rule {
    /// Returns the rule of an unwind table for an address in the function of `entry`.
    pub fn of_table(entry: &Entry<'_>, address: u64, context: &mut UnwindContext<usize>) -> Self {
        if entry.is_signal() {
            return Self::Signal;
        }
        let rule = entry.row(address, context, |row| {
            let return_address = row.register(register(INSTRUCTION_POINTER));
            match return_address {
                None | Some(RegisterRule::Undefined) => Self::End,
                Some(RegisterRule::Offset(offset)) if offset == -(WORD as i64) => {
                    fixed(row).map_or(Self::Computed, Self::Fixed)
                }
                Some(_) => Self::Computed,
            }
        });
        rule.unwrap_or(Self::None)
    }
}

fn register(number: u8) -> Register {
    Register(number.into())
}

fn fixed(row: &UnwindTableRow<usize>) -> Option<FixedRule> {
    let CfaRule::RegisterAndOffset { register: base, offset } = *row.cfa() else { return None };
    let base = u8::try_from(base.0).ok().filter(|&base| usize::from(base) < REGISTERS)?;
    let mut rule = FixedRule::new(base, i32::try_from(offset).ok()?);
    for number in RESTORED {
        match row.register(register(number)) {
            None | Some(RegisterRule::Undefined | RegisterRule::SameValue) => {}
            Some(RegisterRule::Offset(offset)) => rule.save(number, offset)?,
            Some(_) => return None,
        }
    }
    Some(rule)
}

/// Returns the caller's registers by the row of an unwind table, whatever it contains. `read` reads a word of the stack.
pub(super) fn computed_caller(
    entry: &Entry<'_>,
    address: u64,
    registers: &Registers,
    context: &mut UnwindContext<usize>,
    read: impl Fn(u64) -> Option<u64>,
) -> Option<Registers> {
    entry.row(address, context, |row| {
        let evaluate = |expression: &gimli::UnwindExpression<usize>, initial: Option<u64>| {
            evaluate(entry, expression, initial, registers, &read)
        };
        let frame = match row.cfa() {
            CfaRule::RegisterAndOffset { register, offset } => {
                registers.get(u8::try_from(register.0).ok()?)?.checked_add_signed(*offset)?
            }
            CfaRule::Expression(expression) => evaluate(expression, None)?,
        };
        let mut caller = *registers;
        caller.set(STACK_POINTER, frame);
        for number in 0..REGISTERS as u8 {
            let Some(rule) = row.register(register(number)) else { continue };
            let value = match rule {
                RegisterRule::Offset(offset) => At::Memory(frame.checked_add_signed(offset)?),
                RegisterRule::ValOffset(offset) => At::Value(frame.checked_add_signed(offset)?),
                RegisterRule::Register(other) => {
                    At::Value(registers.get(u8::try_from(other.0).ok()?)?)
                }
                RegisterRule::Expression(expression) => {
                    At::Memory(evaluate(&expression, Some(frame))?)
                }
                RegisterRule::ValExpression(expression) => {
                    At::Value(evaluate(&expression, Some(frame))?)
                }
                RegisterRule::Constant(value) => At::Value(value),
                _ => continue,
            };
            match value {
                At::Value(value) => caller.set(number, value),
                At::Memory(at) if at < registers.sp() => {}
                At::Memory(at) => caller.set(number, read(at)?),
            }
        }
        Some(caller)
    })?
}

/// Where a register's value is.
enum At {
    Value(u64),
    Memory(u64),
}

/// Evaluates an expression that gives an address or a value.
fn evaluate(
    entry: &Entry<'_>,
    expression: &gimli::UnwindExpression<usize>,
    initial: Option<u64>,
    registers: &Registers,
    read: &impl Fn(u64) -> Option<u64>,
) -> Option<u64> {
    let mut evaluation: Evaluation<Reader<'_>> =
        entry.expression(expression)?.evaluation(entry.encoding());
    evaluation.set_max_iterations(1000);
    if let Some(initial) = initial {
        evaluation.set_initial_value(initial);
    }
    let mut state = evaluation.evaluate().ok()?;
    loop {
        state = match state {
            EvaluationResult::Complete => break,
            EvaluationResult::RequiresRegister { register, .. } => {
                let value = registers.get(u8::try_from(register.0).ok()?)?;
                evaluation.resume_with_register(Value::Generic(value)).ok()?
            }
            EvaluationResult::RequiresMemory { address, size: 8, .. } => {
                evaluation.resume_with_memory(Value::Generic(read(address)?)).ok()?
            }
            _ => return None,
        };
    }
    match evaluation.as_result().last()?.location {
        Location::Address { address } => Some(address),
        Location::Value { value: Value::Generic(value) } => Some(value),
        _ => None,
    }
}
