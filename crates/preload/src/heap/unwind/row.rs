//! How one frame's caller is found from the frame: what call frame information says at one place of the code, in 16 bytes.

use super::needed;

/// The registers that unwinding follows: the frame pointer's and `rbx`, upon which no other frame's address is built by compilers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Registers {
    /// The return address: where the frame goes on.
    pub pc: usize,
    /// The stack pointer there.
    pub sp: usize,
    pub bp: usize,
    pub bx: usize,
}

/// How the canonical frame address (the caller's stack pointer) is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Base {
    /// Nothing that this library follows: the stack ends here for it.
    Unknown = 0,
    /// A register plus the offset.
    Sp = 1,
    Bp = 2,
    Bx = 3,
    /// What is in memory at `rbp` plus the offset: functions that align their stack.
    AtBp = 4,
    /// Stubs of the linkage table: one word more from the 11th byte of each stub on.
    Stub = 5,
    /// A frame that the kernel made for a signal: the interrupted registers are above it.
    Signal = 6,
    /// The thread's first function: it has no caller.
    End = 7,
}

impl Base {
    fn of(bits: u64) -> Base {
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

/// Where the caller's value of a register is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Saved {
    /// In the register.
    Same,
    /// In memory at the canonical frame address plus so many words.
    Frame(i32),
    /// In memory at `rbp` plus so many words.
    Bp(i32),
}

/// Farthest a saved register may be from what it is found by, words.
const SAVED_REACH: i32 = 1 << 10;
/// Farthest the canonical frame address may be from its register, words.
const BASE_REACH: i64 = 1 << 27;

impl Saved {
    /// 12 bits.
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

/// One place's rule, packed: base 3 bits, offset 28 bits (in words), `rbp` 12 bits, `rbx` 12 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row(pub u64);

impl Row {
    pub const UNKNOWN: Row = Row(0);
    pub const SIGNAL: Row = Row(Base::Signal as u64);
    pub const END: Row = Row(Base::End as u64);

    /// None where a distance is too far, or no multiple of a word.
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
        Base::of(self.0)
    }

    /// Bytes.
    #[inline]
    pub fn offset(self) -> isize {
        ((self.0 << 33).cast_signed() >> 36 << 3) as isize
    }

    /// Registers by which the caller is found, as [`super::needed`].
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
    fn a_row_gives_back_what_it_was_made_of() {
        let saved = [Saved::Same, Saved::Frame(-2), Saved::Frame(7), Saved::Bp(0), Saved::Bp(-512)];
        let bases = [Base::Sp, Base::Bp, Base::Bx, Base::AtBp, Base::Stub, Base::Unknown];
        for base in bases {
            for offset in [0, 8, -8, 4096, 8 * (BASE_REACH - 1), -8 * BASE_REACH] {
                for bp in saved {
                    for bx in saved {
                        let row = Row::new(base, offset, bp, bx).expect("all reach");
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
