//! Finds the return address of code that no unwind table covers, from its instructions: it follows the function to where it
//! returns, and adds up how the stack pointer changes until there.

use std::collections::HashSet;

use iced_x86::{
    Code, Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, OpKind,
    Register,
};

use super::registers::{FRAME_POINTER, RESTORED, STACK_POINTER};
use super::unwind_rule::FixedRule;

/// Most instructions that are followed.
const MAX_INSTRUCTIONS: usize = 20_000;
/// Bytes of code that are read at once.
const CHUNK: usize = 4096;
/// Longest instruction, bytes.
const LONGEST: usize = 15;

/// How a function ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exit {
    /// It returns to the caller that the rule finds.
    Return(FixedRule),
    /// Its instructions end without a return, as in the function that a thread starts in.
    Never,
}

/// A value relative to a register at the start of the scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Relative {
    base: u8,
    offset: i64,
}

/// What the followed instructions did to the stack.
#[derive(Debug, Clone)]
struct State {
    at: u64,
    /// The stack pointer; `None` if unknown.
    sp: Option<Relative>,
    /// Whether the frame pointer still has its first value.
    has_frame_pointer: bool,
    /// From where registers were restored.
    restored: Vec<(u8, Relative)>,
}

/// Follows the code at an address. `read` fills a buffer with the code at an address and returns how many bytes it has.
///
/// Returns `None` if the code cannot be followed. The result is an assumption: the code after a call that never returns, for
/// example, may belong to another function. So a return address that is found by it has to be checked.
pub(super) fn find(start: u64, read: impl FnMut(u64, &mut [u8]) -> usize) -> Option<Exit> {
    let mut code = CodeReader { read, start: 0, bytes: Vec::new() };
    let mut info = InstructionInfoFactory::new();
    let sp = Some(Relative { base: STACK_POINTER, offset: 0 });
    let first = State { at: start, sp, has_frame_pointer: true, restored: Vec::new() };
    // Branches that were not followed yet, and the instructions that were.
    let (mut open, mut seen) = (vec![first], HashSet::new());
    let mut ends = false;
    while let Some(mut state) = open.pop() {
        while seen.len() < MAX_INSTRUCTIONS && seen.insert(state.at) {
            let Some(instruction) = code.decode(state.at) else { break };
            match instruction.flow_control() {
                FlowControl::Return => match state.exit() {
                    Some(exit) => return Some(exit),
                    None => break,
                },
                FlowControl::ConditionalBranch => {
                    open.push(State { at: instruction.near_branch_target(), ..state.clone() });
                    state.at = instruction.next_ip();
                }
                FlowControl::UnconditionalBranch => state.at = instruction.near_branch_target(),
                FlowControl::IndirectBranch => break,
                FlowControl::Exception | FlowControl::Interrupt => {
                    ends = true;
                    break;
                }
                _ if instruction.mnemonic() == iced_x86::Mnemonic::Hlt => {
                    ends = true;
                    break;
                }
                _ => {
                    state.follow(&instruction, &mut info);
                    state.at = instruction.next_ip();
                }
            }
        }
    }
    ends.then_some(Exit::Never)
}

impl State {
    /// Applies an instruction that continues with the next one.
    fn follow(&mut self, instruction: &Instruction, info: &mut InstructionInfoFactory) {
        if instruction.flow_control() != FlowControl::Next {
            // A call restores the stack pointer.
            return;
        }
        let popped = matches!(instruction.code(), Code::Pop_r64 | Code::Pop_rm64);
        if popped && instruction.op0_kind() == OpKind::Register {
            let register = number(instruction.op0_register());
            if let (Some(at), Some(register)) = (self.sp, register.filter(|n| RESTORED.contains(n)))
            {
                self.restored.push((register, at));
            }
            self.has_frame_pointer &= register != Some(FRAME_POINTER);
        } else if instruction.code() == Code::Leaveq {
            let frame = self.frame_pointer();
            self.restored.extend(frame.map(|frame| (FRAME_POINTER, frame)));
            self.sp = frame.map(|frame| frame.plus(8));
            self.has_frame_pointer = false;
            return;
        } else if info
            .info(instruction)
            .used_registers()
            .iter()
            .any(|used| is_write(used.access()) && used.register().full_register() == Register::RBP)
        {
            self.has_frame_pointer = false;
        }
        self.sp = self.stack_pointer_after(instruction, info);
    }

    fn stack_pointer_after(
        &self,
        instruction: &Instruction,
        info: &mut InstructionInfoFactory,
    ) -> Option<Relative> {
        if instruction.is_stack_instruction() {
            let change = instruction.stack_pointer_increment();
            return self.sp.map(|sp| sp.plus(change.into()));
        }
        let writes = info.info(instruction).used_registers().iter().any(|used| {
            is_write(used.access()) && used.register().full_register() == Register::RSP
        });
        if !writes {
            return self.sp;
        }
        let immediate = || instruction.try_immediate(1).ok().map(u64::cast_signed);
        match instruction.mnemonic() {
            iced_x86::Mnemonic::Add => Some(self.sp?.plus(immediate()?)),
            iced_x86::Mnemonic::Sub => Some(self.sp?.plus(immediate()?.checked_neg()?)),
            iced_x86::Mnemonic::Mov if instruction.op1_register() == Register::RBP => {
                self.frame_pointer()
            }
            iced_x86::Mnemonic::Lea if instruction.memory_index() == Register::None => {
                let base = match instruction.memory_base() {
                    Register::RSP => self.sp?,
                    Register::RBP => self.frame_pointer()?,
                    _ => return None,
                };
                Some(base.plus(instruction.memory_displacement64().cast_signed()))
            }
            _ => None,
        }
    }

    fn frame_pointer(&self) -> Option<Relative> {
        self.has_frame_pointer.then_some(Relative { base: FRAME_POINTER, offset: 0 })
    }

    /// Returns the rule at a return instruction, where the stack pointer points to the return address.
    fn exit(&self) -> Option<Exit> {
        let sp = self.sp?.plus(8);
        let mut rule = FixedRule::new(sp.base, i32::try_from(sp.offset).ok()?);
        for (register, at) in &self.restored {
            if at.base == sp.base {
                rule.save(*register, at.offset - sp.offset)?;
            }
        }
        Some(Exit::Return(rule))
    }
}

impl Relative {
    fn plus(self, change: i64) -> Self {
        Self { offset: self.offset.wrapping_add(change), ..self }
    }
}

fn is_write(access: iced_x86::OpAccess) -> bool {
    use iced_x86::OpAccess;
    matches!(
        access,
        OpAccess::Write | OpAccess::CondWrite | OpAccess::ReadWrite | OpAccess::ReadCondWrite
    )
}

/// Returns the number of a register in DWARF.
fn number(register: Register) -> Option<u8> {
    const IN_ORDER: [Register; 16] = [
        Register::RAX,
        Register::RDX,
        Register::RCX,
        Register::RBX,
        Register::RSI,
        Register::RDI,
        Register::RBP,
        Register::RSP,
        Register::R8,
        Register::R9,
        Register::R10,
        Register::R11,
        Register::R12,
        Register::R13,
        Register::R14,
        Register::R15,
    ];
    let at = IN_ORDER.iter().position(|&known| known == register.full_register())?;
    u8::try_from(at).ok()
}

/// Reads code in chunks.
struct CodeReader<R> {
    read: R,
    start: u64,
    bytes: Vec<u8>,
}

impl<R: FnMut(u64, &mut [u8]) -> usize> CodeReader<R> {
    /// Returns the instruction at an address; `None` if it cannot be read or is invalid.
    fn decode(&mut self, at: u64) -> Option<Instruction> {
        let end = self.start + self.bytes.len() as u64;
        if at < self.start || at + LONGEST as u64 > end {
            self.bytes.resize(CHUNK, 0);
            let length = (self.read)(at, &mut self.bytes);
            self.bytes.truncate(length);
            self.start = at;
        }
        let bytes = &self.bytes[usize::try_from(at - self.start).ok()?..];
        let instruction = Decoder::with_ip(64, bytes, at, DecoderOptions::NONE).decode();
        (!instruction.is_invalid()).then_some(instruction)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Follows this code, which lies at 0x1000.
    fn exit(code: &[u8]) -> Option<Exit> {
        find(0x1000, |at, bytes| {
            let rest = at.checked_sub(0x1000).and_then(|skip| code.get(skip as usize..));
            let rest = rest.unwrap_or(&[]);
            let length = rest.len().min(bytes.len());
            bytes[..length].copy_from_slice(&rest[..length]);
            length
        })
    }

    /// Returns a rule with saved registers, at offsets from the caller's stack pointer.
    fn rule(base: u8, offset: i32, saved: &[(u8, i64)]) -> Option<Exit> {
        let mut rule = FixedRule::new(base, offset);
        for &(register, at) in saved {
            rule.save(register, at).expect("it is near");
        }
        Some(Exit::Return(rule))
    }

    #[test]
    fn the_return_address_is_where_the_function_ends() {
        const SP: u8 = STACK_POINTER;
        const FP: u8 = FRAME_POINTER;
        let table: [(&[u8], Option<Exit>); 12] = [
            (&[0xc3], rule(SP, 8, &[])),
            // imul rax,rax,7; dec rcx; jnz -9; pop rbp; ret
            (
                &[0x48, 0x6b, 0xc0, 7, 0x48, 0xff, 0xc9, 0x75, 0xf7, 0x5d, 0xc3],
                rule(SP, 16, &[(FP, -16)]),
            ),
            // add rsp,8; ret
            (&[0x48, 0x83, 0xc4, 8, 0xc3], rule(SP, 16, &[])),
            // sub rsp,8; call; add rsp,16; pop rbx; pop r12; ret
            (
                &[
                    0x48, 0x83, 0xec, 8, 0xe8, 0, 0, 0, 0, 0x48, 0x83, 0xc4, 16, 0x5b, 0x41, 0x5c,
                    0xc3,
                ],
                rule(SP, 32, &[(3, -24), (12, -16)]),
            ),
            // leave; ret
            (&[0xc9, 0xc3], rule(FP, 16, &[(FP, -16)])),
            // and rsp,-16; lea rsp,[rbp-8]; pop rbx; pop rbp; ret
            (
                &[0x48, 0x83, 0xe4, 0xf0, 0x48, 0x8d, 0x65, 0xf8, 0x5b, 0x5d, 0xc3],
                rule(FP, 16, &[(3, -24), (FP, -16)]),
            ),
            // mov rsp,rbp; pop rbp; ret
            (&[0x48, 0x89, 0xec, 0x5d, 0xc3], rule(FP, 16, &[(FP, -16)])),
            // A loop whose exit is a branch: jz +2; jmp -4; ret
            (&[0x74, 2, 0xeb, 0xfc, 0xc3], rule(SP, 8, &[])),
            // and rsp,-16; ret: the stack pointer is unknown.
            (&[0x48, 0x83, 0xe4, 0xf0, 0xc3], None),
            // call; hlt
            (&[0xe8, 0, 0, 0, 0, 0xf4], Some(Exit::Never)),
            // jmp rax
            (&[0xff, 0xe0], None),
            // The code ends.
            (&[0x90, 0x90], None),
        ];
        for (code, expected) in table {
            assert_eq!(exit(code), expected, "{code:02x?}");
        }
    }

    #[test]
    fn long_code_is_read_in_chunks_and_endless_code_is_given_up() {
        let mut code = [0x48, 0x6b, 0xc0, 7].repeat(3000);
        code.extend([0x5d, 0xc3]);
        assert_eq!(exit(&code), rule(STACK_POINTER, 16, &[(FRAME_POINTER, -16)]));
        assert_eq!(exit(&[0x90].repeat(2 * MAX_INSTRUCTIONS)), None);
    }
}
