//! The registers of a thread, by their numbers in DWARF (System V ABI for AMD64, figure 3.36).

use linux_perf_event_reader::Regs;

/// Registers that the kernel copies, as bits by its numbers (asm/perf_regs.h).
pub(super) const REGISTER_MASK: u64 = 0x00ff_01ff;
/// The kernel's number of each register.
const KERNEL_NUMBERS: [u64; REGISTERS] =
    [0, 3, 2, 1, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23, 8];
/// Number of registers.
pub(super) const REGISTERS: usize = 17;
/// The frame pointer, `rbp`.
pub(super) const FRAME_POINTER: u8 = 6;
/// The stack pointer, `rsp`.
pub(super) const STACK_POINTER: u8 = 7;
/// The instruction pointer. For a caller, the return address.
pub(super) const INSTRUCTION_POINTER: u8 = 16;
/// Registers that a function restores before it returns: `rbx`, `rbp`, `r12` to `r15`.
pub(super) const RESTORED: [u8; 6] = [3, 6, 12, 13, 14, 15];

/// The registers of a thread in user code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Registers([u64; REGISTERS]);

impl Registers {
    /// Reads the registers of a sample; `None` if one is missing.
    pub fn from_sample(regs: &Regs<'_>) -> Option<Self> {
        let mut values = [0; REGISTERS];
        for (value, number) in values.iter_mut().zip(KERNEL_NUMBERS) {
            *value = regs.get(number)?;
        }
        Some(Self(values))
    }

    /// Returns a register; `None` if there is none with this number.
    pub fn get(&self, number: u8) -> Option<u64> {
        self.0.get(usize::from(number)).copied()
    }

    /// Sets a register. Numbers of other registers are ignored.
    pub fn set(&mut self, number: u8, value: u64) {
        if let Some(register) = self.0.get_mut(usize::from(number)) {
            *register = value;
        }
    }

    /// Returns the instruction pointer.
    pub fn ip(&self) -> u64 {
        self.0[usize::from(INSTRUCTION_POINTER)]
    }

    /// Returns the stack pointer.
    pub fn sp(&self) -> u64 {
        self.0[usize::from(STACK_POINTER)]
    }

    /// Returns the frame pointer.
    pub fn fp(&self) -> u64 {
        self.0[usize::from(FRAME_POINTER)]
    }
}
