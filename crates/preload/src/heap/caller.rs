//! The registers of the code that called a hook.

use super::unwind::Registers;

/// The end of a hook's stack frame: the caller's registers, as the assembly of [`super::hooks`] saves them.
#[repr(C)]
pub struct Caller {
    bx: usize,
    bp: usize,
    pc: usize,
}

impl Caller {
    /// Returns the registers at the point to which the hook returns.
    pub fn registers(&self) -> Registers {
        let sp = (&raw const *self).addr() + size_of::<Caller>();
        Registers { pc: self.pc, sp, bp: self.bp, bx: self.bx }
    }
}
