//! Walks a stack from the registers and the bytes that the kernel copied.

use framehop::{Error, FrameAddress, UnwindRegsNative, Unwinder, UnwinderNative};
use linux_perf_event_reader::{RawData, Regs};

use super::module::SectionBytes;

/// More frames than this are taken for a walk gone astray.
const MAX_FRAMES: usize = 4096;
/// Caches of unwind rules; each holds about 500 addresses, which is little for a large program.
const CACHES: usize = 16;

type RuleCache = framehop::CacheNative<framehop::MayAllocateDuringUnwind>;

/// Knows the modules of one address space.
pub(super) type ModuleUnwinder = UnwinderNative<SectionBytes, framehop::MayAllocateDuringUnwind>;

/// Which registers the kernel copies, as bits of its numbering for this architecture.
#[cfg(target_arch = "x86_64")]
pub(super) const REGISTER_MASK: u64 = 0x00ff_01ff;
/// Which registers the kernel copies: frame pointer, link register, stack pointer, program counter.
#[cfg(target_arch = "aarch64")]
pub(super) const REGISTER_MASK: u64 = 0b1111 << 29;

/// How a walk ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WalkEnd {
    /// At the function that the thread started in.
    Root,
    /// Where the copied bytes, or the unwind information, came to an end.
    Cut,
}

/// Where a thread was in user code.
#[derive(Debug)]
pub(super) struct Registers {
    ip: u64,
    sp: u64,
    rest: UnwindRegsNative,
}

impl Registers {
    /// Takes what is needed from a sample's registers.
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

    /// Takes what is needed from a sample's registers.
    #[cfg(target_arch = "aarch64")]
    pub fn from_sample(regs: &Regs<'_>) -> Option<Self> {
        use framehop::aarch64::PtrAuthMask;
        let (fp, lr, sp, ip) = (regs.get(29)?, regs.get(30)?, regs.get(31)?, regs.get(32)?);
        let mask = PtrAuthMask::new_24_40();
        Some(Self { ip, sp, rest: UnwindRegsNative::new_with_ptr_auth_mask(mask, lr, sp, fp) })
    }

    /// The address of the instruction that comes next in user code.
    pub fn ip(&self) -> u64 {
        self.ip
    }

    /// True where a chain of frame pointers has come to its end.
    fn frame_pointer_is_null(&self) -> bool {
        #[cfg(target_arch = "x86_64")]
        return self.rest.bp() == 0;
        #[cfg(target_arch = "aarch64")]
        return self.rest.fp() == 0;
    }
}

/// The bytes above the stack pointer that came with a sample.
#[derive(Debug, Clone, Copy)]
pub(super) struct StackBytes<'a> {
    start: u64,
    bytes: RawData<'a>,
}

impl<'a> StackBytes<'a> {
    /// The bytes of a stack from the address `start` on.
    pub fn new(start: u64, bytes: RawData<'a>) -> Self {
        Self { start, bytes }
    }

    /// Whether a word at `address` is not among the bytes but further towards the root.
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

/// Walks stacks, remembering the rules that it found.
pub(super) struct Walker {
    caches: Vec<RuleCache>,
}

impl Walker {
    pub fn new() -> Self {
        Self { caches: std::iter::repeat_with(RuleCache::new).take(CACHES).collect() }
    }

    /// Appends the stack's code addresses to `frames`, the leaf first.
    ///
    /// Return addresses are given less one, so that they lie within the call that they return to.
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
                // Most code keeps other things than frame pointers in that register, and many of them are 0.
                Err(_) if is_beyond => return WalkEnd::Cut,
                Err(_) if registers.frame_pointer_is_null() && frames.len() > 1 => {
                    return WalkEnd::Root;
                }
                Err(_) => return WalkEnd::Cut,
            }
        }
        WalkEnd::Cut
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stack_bytes_are_read_whether_they_wrap_or_not() {
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
