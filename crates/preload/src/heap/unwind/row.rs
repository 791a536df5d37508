//! The rule by which a frame's caller is found: call frame information for one code address, in 16 bytes.

/// The registers that unwinding follows. Compilers compute frame addresses from no others than the stack
/// pointer, `rbp` and `rbx`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Registers {
    /// The return address, where the frame continues.
    pub pc: usize,
    /// The stack pointer at that point.
    pub sp: usize,
    pub bp: usize,
    pub bx: usize,
}

/// Bits of [`Row::needs`].
pub mod needed {
    pub const BP: u8 = 1;
    pub const BX: u8 = 2;
}

/// How to compute the canonical frame address (the caller's stack pointer).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Base {
    /// A rule that the library does not support: unwinding stops.
    Unknown = 0,
    /// A register plus the offset.
    Sp = 1,
    Bp = 2,
    Bx = 3,
    /// The word in memory at `rbp` plus the offset: functions that align their stack.
    AtBp = 4,
    /// Stubs of the procedure linkage table: one word more from byte 11 of each stub on.
    Stub = 5,
    /// A signal frame made by the kernel: the interrupted registers are above it.
    Signal = 6,
    /// The thread's first function, which has no caller.
    End = 7,
}

impl Base {
    fn from_bits(bits: u64) -> Base {
        match bits & 7 {
            1 => Base::Sp,
            2 => Base::Bp,
            3 => Base::Bx,
            4 => Base::AtBp,
            5 => Base::Stub,
            6 => Base::Signal,
            7 => Base::End,
            _ => Base::Unknown,
        }
    }
}

/// Location of the caller's value of a register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Saved {
    /// In the register.
    Same,
    /// In memory at the canonical frame address plus an offset, words.
    Frame(i32),
    /// In memory at `rbp` plus an offset, words.
    Bp(i32),
}

/// Range of offsets of saved registers, words.
const SAVED_REACH: i32 = 1 << 10;
/// Largest offset of the canonical frame address from its register, words.
const BASE_REACH: i64 = 1 << 27;

impl Saved {
    /// Packs it into 12 bits. `None` if the offset is out of range.
    fn packed(self) -> Option<u64> {
        let (words, bp) = match self {
            Saved::Same => return Some(1 << 11),
            Saved::Frame(words) => (words, false),
            Saved::Bp(words) => (words, true),
        };
        let reaches = (-SAVED_REACH / 2..SAVED_REACH / 2).contains(&words);
        reaches.then_some((words as u64 & 0x3ff) | u64::from(bp) << 10)
    }

    fn unpacked(bits: u64) -> Saved {
        let words = ((bits as u32) << 22).cast_signed() >> 22;
        match (bits >> 11 & 1, bits >> 10 & 1) {
            (1, _) => Saved::Same,
            (_, 1) => Saved::Bp(words),
            _ => Saved::Frame(words),
        }
    }
}

/// A packed rule: base 3 bits, offset 28 bits (in words), `rbp` 12 bits, `rbx` 12 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row(pub u64);

impl Row {
    pub const UNKNOWN: Row = Row(0);
    pub const SIGNAL: Row = Row(Base::Signal as u64);
    pub const END: Row = Row(Base::End as u64);

    /// Packs a rule. `None` if an offset is out of range or not a multiple of a word.
    pub fn new(base: Base, offset: i64, bp: Saved, bx: Saved) -> Option<Row> {
        let words = offset / 8;
        if offset % 8 != 0 || !(-BASE_REACH..BASE_REACH).contains(&words) {
            return None;
        }
        let offset = words as u64 & 0xfff_ffff;
        Some(Row(base as u64 | offset << 3 | bp.packed()? << 31 | bx.packed()? << 43))
    }

    #[inline]
    pub fn base(self) -> Base {
        Base::from_bits(self.0)
    }

    /// Returns the offset, bytes.
    #[inline]
    pub fn offset(self) -> isize {
        ((self.0 << 33).cast_signed() >> 36 << 3) as isize
    }

    /// Returns the registers that are needed to find the caller, see [`needed`].
    #[inline]
    pub fn needs(self) -> u8 {
        let base = match self.base() {
            Base::Bp | Base::AtBp => needed::BP,
            Base::Bx => needed::BX,
            _ => 0,
        };
        let saved = |saved| if matches!(saved, Saved::Bp(_)) { needed::BP } else { 0 };
        base | saved(self.bp()) | saved(self.bx())
    }

    #[inline]
    pub fn bp(self) -> Saved {
        Saved::unpacked(self.0 >> 31)
    }

    #[inline]
    pub fn bx(self) -> Saved {
        Saved::unpacked(self.0 >> 43)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_can_be_unpacked() {
        let saved = [Saved::Same, Saved::Frame(-2), Saved::Frame(7), Saved::Bp(0), Saved::Bp(-512)];
        let bases = [Base::Sp, Base::Bp, Base::Bx, Base::AtBp, Base::Stub, Base::Unknown];
        for base in bases {
            for offset in [0, 8, -8, 4096, 8 * (BASE_REACH - 1), -8 * BASE_REACH] {
                for bp in saved {
                    for bx in saved {
                        let row = Row::new(base, offset, bp, bx).expect("all are in range");
                        assert_eq!(
                            (row.base(), row.offset() as i64, row.bp(), row.bx()),
                            (base, offset, bp, bx)
                        );
                    }
                }
            }
        }
        assert_eq!(Row::new(Base::Sp, 8 * BASE_REACH, Saved::Same, Saved::Same), None);
        assert_eq!(Row::new(Base::Sp, 12, Saved::Same, Saved::Same), None);
        assert_eq!(Row::new(Base::Sp, 8, Saved::Frame(512), Saved::Same), None);
        assert_eq!((Row::SIGNAL.base(), Row::END.base()), (Base::Signal, Base::End));
    }
}
