//! Unwinds a stack from the registers and the stack bytes that the kernel copied.

use framehop::{Error, FrameAddress, UnwindRegsNative, Unwinder, UnwinderNative};
use linux_perf_event_reader::{RawData, Regs};

use super::module::SectionBytes;

/// Maximum number of frames of a walk. A walk that finds more has probably followed wrong data.
const MAX_FRAMES: usize = 4096;
/// Number of caches of unwind rules. Each holds about 500 addresses, too few for a large program.
const CACHES: usize = 16;

type RuleCache = framehop::CacheNative<framehop::MayAllocateDuringUnwind>;

/// The unwind information of the modules of one address space.
pub(super) type ModuleUnwinder = UnwinderNative<SectionBytes, framehop::MayAllocateDuringUnwind>;

/// Registers that the kernel copies, as bits by its numbers for this architecture (asm/perf_regs.h).
#[cfg(target_arch = "x86_64")]
pub(super) const REGISTER_MASK: u64 = 0x00ff_01ff;
/// Registers that the kernel copies: frame pointer, link register, stack pointer, program counter.
#[cfg(target_arch = "aarch64")]
pub(super) const REGISTER_MASK: u64 = 0b1111 << 29;

/// How a walk ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WalkEnd {
    /// At the function that the thread started in.
    Root,
    /// Before that: the copied bytes or the unwind information ended.
    Truncated,
}

/// The registers of a thread in user code.
#[derive(Debug)]
pub(super) struct Registers {
    ip: u64,
    sp: u64,
    rest: UnwindRegsNative,
}

impl Registers {
    /// Reads the registers of a sample; `None` if one is missing.
    #[cfg(target_arch = "x86_64")]
    pub fn from_sample(regs: &Regs<'_>) -> Option<Self> {
        use framehop::x86_64::Reg;
        // The kernel's numbers (asm/perf_regs.h).
        const GENERAL: [(u64, Reg); 13] = [
            (0, Reg::RAX),
            (1, Reg::RBX),
            (2, Reg::RCX),
            (3, Reg::RDX),
            (4, Reg::RSI),
            (5, Reg::RDI),
            (16, Reg::R8),
            (17, Reg::R9),
            (18, Reg::R10),
            (19, Reg::R11),
            (20, Reg::R12),
            (21, Reg::R13),
            (22, Reg::R14),
        ];
        let (ip, sp) = (regs.get(8)?, regs.get(7)?);
        let mut rest = UnwindRegsNative::new(ip, sp, regs.get(6)?);
        for (number, register) in GENERAL {
            rest.set(register, regs.get(number)?);
        }
        rest.set(Reg::R15, regs.get(23)?);
        Some(Self { ip, sp, rest })
    }

    /// Reads the registers of a sample; `None` if one is missing.
    #[cfg(target_arch = "aarch64")]
    pub fn from_sample(regs: &Regs<'_>) -> Option<Self> {
        use framehop::aarch64::PtrAuthMask;
        let (fp, lr, sp, ip) = (regs.get(29)?, regs.get(30)?, regs.get(31)?, regs.get(32)?);
        let mask = PtrAuthMask::new_24_40();
        Some(Self { ip, sp, rest: UnwindRegsNative::new_with_ptr_auth_mask(mask, lr, sp, fp) })
    }

    /// Returns the instruction pointer.
    pub fn ip(&self) -> u64 {
        self.ip
    }

    /// Returns whether a chain of frame pointers has ended.
    fn frame_pointer_is_null(&self) -> bool {
        #[cfg(target_arch = "x86_64")]
        return self.rest.bp() == 0;
        #[cfg(target_arch = "aarch64")]
        return self.rest.fp() == 0;
    }
}

/// The part of a stack that was copied with a sample: the bytes from the stack pointer on.
#[derive(Debug, Clone, Copy)]
pub(super) struct StackBytes<'a> {
    start: u64,
    bytes: RawData<'a>,
}

impl<'a> StackBytes<'a> {
    /// Takes the bytes of a stack from the address `start` on.
    pub fn new(start: u64, bytes: RawData<'a>) -> Self {
        Self { start, bytes }
    }

    /// Returns whether a word at `address` is beyond the copied bytes, towards the root.
    fn ends_before(&self, address: u64) -> bool {
        let length = match self.bytes {
            RawData::Single(bytes) => bytes.len(),
            RawData::Split(first, second) => first.len() + second.len(),
        };
        address.saturating_add(8) > self.start.saturating_add(length as u64)
    }

    fn read(&self, address: u64) -> Result<u64, ()> {
        let offset = address.checked_sub(self.start).ok_or(())?;
        let offset = usize::try_from(offset).map_err(|_| ())?;
        let end = offset.checked_add(8).ok_or(())?;
        let mut word = [0; 8];
        match self.bytes {
            RawData::Single(bytes) => word.copy_from_slice(bytes.get(offset..end).ok_or(())?),
            RawData::Split(..) => {
                let mut rest = self.bytes;
                rest.skip(offset).map_err(|_| ())?;
                rest.read_exact(&mut word).map_err(|_| ())?;
            }
        }
        Ok(u64::from_ne_bytes(word))
    }
}

/// Unwinds stacks and caches unwind rules.
pub(super) struct Walker {
    caches: Vec<RuleCache>,
}

impl Walker {
    pub fn new() -> Self {
        Self { caches: std::iter::repeat_with(RuleCache::new).take(CACHES).collect() }
    }

    /// Appends the code addresses of a stack to `frames`, leaf first.
    ///
    /// Return addresses are reduced by one, so that they lie within the call instruction.
    pub fn walk(
        &mut self,
        unwinder: &ModuleUnwinder,
        mut registers: Registers,
        stack: RawData<'_>,
        frames: &mut Vec<u64>,
    ) -> WalkEnd {
        let stack = StackBytes::new(registers.sp, stack);
        let mut address = FrameAddress::from_instruction_pointer(registers.ip);
        for _ in 0..MAX_FRAMES {
            let lookup = address.address_for_lookup();
            frames.push(lookup);
            let cache = &mut self.caches[(lookup >> 4) as usize % CACHES];
            let mut is_beyond = false;
            let caller =
                unwinder.unwind_frame(address, &mut registers.rest, cache, &mut |address| {
                    is_beyond |= stack.ends_before(address);
                    stack.read(address)
                });
            match caller {
                Ok(None) | Err(Error::ReturnAddressIsNull) => return WalkEnd::Root,
                Ok(Some(caller)) => match FrameAddress::from_return_address(caller) {
                    Some(caller) => address = caller,
                    None => return WalkEnd::Root,
                },
                // Checked before the frame pointer: most code uses that register for other values, which are often 0.
                Err(_) if is_beyond => return WalkEnd::Truncated,
                Err(_) if registers.frame_pointer_is_null() && frames.len() > 1 => {
                    return WalkEnd::Root;
                }
                Err(_) => return WalkEnd::Truncated,
            }
        }
        WalkEnd::Truncated
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrapped_stack_bytes_are_read_like_contiguous_ones() {
        let bytes: Vec<u8> = (0..24).collect();
        let word = |at: usize| u64::from_ne_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
        let whole = StackBytes::new(0x1000, RawData::Single(&bytes));
        for cut in 0..=24 {
            let split = StackBytes::new(0x1000, RawData::Split(&bytes[..cut], &bytes[cut..]));
            for at in 0..=16 {
                assert_eq!(whole.read(0x1000 + at as u64), Ok(word(at)));
                assert_eq!(split.read(0x1000 + at as u64), Ok(word(at)), "cut at {cut}");
            }
            for (outside, is_beyond) in [(0x0fff, false), (0x1011, true), (u64::MAX, true)] {
                assert_eq!(whole.read(outside), Err(()));
                assert_eq!(split.read(outside), Err(()));
                assert_eq!(split.ends_before(outside), is_beyond);
            }
            assert!(!split.ends_before(0x1010));
        }
    }
}
