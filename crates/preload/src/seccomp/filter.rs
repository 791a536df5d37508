//! Evaluates a seccomp filter, which is a program of the classic Berkeley packet filter (BPF).

/// An instruction: `struct sock_filter`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Instruction {
    pub code: u16,
    /// Instructions to skip if a condition is true, or false.
    pub if_true: u8,
    pub if_false: u8,
    pub operand: u32,
}

/// A filter: `struct sock_fprog`.
#[repr(C)]
pub struct Filter {
    pub length: u16,
    pub instructions: *const Instruction,
}

/// The architecture that the kernel passes to filters.
const ARCHITECTURE: u32 = 0xc000_003e;

/// Maximum number of branches that wait to be followed, and of evaluated instructions. A filter that needs
/// more counts as one that forbids the call.
const BRANCHES: usize = 64;
const STEPS: usize = 10_000;

/// A state of the evaluation: the next instruction, and the accumulator if it is known.
type State = (usize, Option<u32>);

/// Returns whether a filter allows a system call for all arguments: whether every path that the call may take
/// through the filter ends by allowing it.
pub fn allows(filter: &[Instruction], number: u32) -> bool {
    let mut branches: [State; BRANCHES] = [(0, None); BRANCHES];
    let (mut count, mut steps) = (1, 0);
    while count > 0 {
        count -= 1;
        let (mut at, mut accumulator) = branches[count];
        loop {
            steps += 1;
            let Some(instruction) = filter.get(at).filter(|_| steps <= STEPS) else {
                return false;
            };
            let operand = instruction.operand;
            at += 1;
            if let Some(is_true) = condition(instruction, accumulator) {
                let [if_true, if_false] =
                    [instruction.if_true, instruction.if_false].map(|skip| at + usize::from(skip));
                at = if is_true == Some(false) { if_false } else { if_true };
                if is_true.is_none() {
                    if count == BRANCHES {
                        return false;
                    }
                    branches[count] = (if_false, accumulator);
                    count += 1;
                }
                continue;
            }
            match instruction.code {
                code::RETURN if is_allowing(operand) => break,
                code::RETURN_ACCUMULATOR if accumulator.is_some_and(is_allowing) => break,
                code::RETURN | code::RETURN_ACCUMULATOR => return false,
                code::JUMP => at = at.saturating_add(operand as usize),
                _ => accumulator = loaded(instruction, accumulator, number),
            }
        }
    }
    true
}

/// Codes of instructions.
mod code {
    pub const LOAD_IMMEDIATE: u16 = 0x00;
    pub const LOAD_INDEX: [u16; 4] = [0x01, 0x61, 0x81, 0x07];
    pub const STORE: [u16; 2] = [0x02, 0x03];
    pub const JUMP: u16 = 0x05;
    pub const RETURN: u16 = 0x06;
    pub const RETURN_ACCUMULATOR: u16 = 0x16;
    pub const LOAD: u16 = 0x20;
    pub const AND: u16 = 0x54;
    /// Class of jumps, in the lowest bits.
    pub const JUMPS: u16 = 0x05;
}

/// Returns the result of a conditional jump: unknown if its operands are. `None` for another instruction.
fn condition(instruction: &Instruction, accumulator: Option<u32>) -> Option<Option<bool>> {
    let operand = instruction.operand;
    let is_true = |value: u32| match instruction.code {
        0x15 => Some(value == operand),
        0x25 => Some(value > operand),
        0x35 => Some(value >= operand),
        0x45 => Some(value & operand != 0),
        // It compares with the index register.
        _ => None,
    };
    let is_conditional = instruction.code & 7 == code::JUMPS && instruction.code != code::JUMP;
    is_conditional.then(|| accumulator.and_then(is_true))
}

/// Returns the accumulator after an instruction that is no jump. Arguments, and what the filter stored, are unknown.
fn loaded(instruction: &Instruction, accumulator: Option<u32>, number: u32) -> Option<u32> {
    match (instruction.code, instruction.operand) {
        (code::LOAD, 0) => Some(number),
        (code::LOAD, 4) => Some(ARCHITECTURE),
        (code::LOAD_IMMEDIATE, value) => Some(value),
        (code::AND, mask) => accumulator.map(|value| value & mask),
        (code, _) if code::LOAD_INDEX.contains(&code) || code::STORE.contains(&code) => accumulator,
        _ => None,
    }
}

/// Returns whether a filter's result is to allow the call, with or without a log message.
fn is_allowing(result: u32) -> bool {
    matches!(result & 0xffff_0000, 0x7fff_0000 | 0x7ffc_0000)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALLOW: u32 = 0x7fff_0000;
    const KILL: u32 = 0x8000_0000;
    const ERRNO: u32 = 0x0005_0001;
    const LOG: u32 = 0x7ffc_0000;

    fn instruction(code: u16, operand: u32, if_true: u8, if_false: u8) -> Instruction {
        Instruction { code, if_true, if_false, operand }
    }

    fn load(offset: u32) -> Instruction {
        instruction(code::LOAD, offset, 0, 0)
    }

    fn end(result: u32) -> Instruction {
        instruction(code::RETURN, result, 0, 0)
    }

    fn equal(value: u32, if_true: u8, if_false: u8) -> Instruction {
        instruction(0x15, value, if_true, if_false)
    }

    #[test]
    fn lists_of_allowed_and_of_forbidden_calls_are_evaluated() {
        let allowed = [load(0), equal(3, 0, 1), end(ALLOW), equal(7, 0, 1), end(LOG), end(KILL)];
        let expected = |number| matches!(number, 3 | 7);
        (0..20).for_each(|number| assert_eq!(allows(&allowed, number), expected(number)));
        let forbidden = [load(0), equal(3, 0, 1), end(ERRNO), end(ALLOW)];
        (0..20).for_each(|number| assert_eq!(allows(&forbidden, number), number != 3));
    }

    /// libseccomp checks the architecture first, and compares in a binary tree.
    #[test]
    fn the_architecture_is_known_and_ranges_are_compared() {
        let filter = [
            load(4),
            equal(ARCHITECTURE, 0, 4),
            load(0),
            instruction(0x35, 0x4000_0000, 2, 0),
            instruction(0x25, 10, 0, 1),
            end(ALLOW),
            end(KILL),
        ];
        assert!(allows(&filter, 11) && !allows(&filter, 10) && !allows(&filter, 0x4000_0001));
    }

    #[test]
    fn a_call_that_depends_on_its_arguments_is_forbidden() {
        let second_is_zero = [load(24), equal(0, 0, 1), end(ALLOW), end(KILL)];
        assert!(!allows(&second_is_zero, 1));
        let allowed_anyhow = [load(24), equal(0, 0, 1), end(ALLOW), end(ALLOW)];
        assert!(allows(&allowed_anyhow, 1));
        let masked =
            [load(16), instruction(code::AND, 0, 0, 0), equal(0, 0, 1), end(ALLOW), end(KILL)];
        assert!(!allows(&masked, 1), "the mask of an unknown value is unknown");
    }

    #[test]
    fn invalid_or_too_complex_filters_forbid() {
        assert!(!allows(&[], 0), "no result");
        assert!(!allows(&[instruction(code::JUMP, u32::MAX, 0, 0)], 0), "a jump to nowhere");
        // Each of these has two successors, and so the number of paths doubles.
        let mut doubling = vec![load(16)];
        doubling.extend((0..60).map(|value| equal(value, 0, 0)));
        doubling.push(end(ALLOW));
        assert!(!allows(&doubling, 0));
    }
}
