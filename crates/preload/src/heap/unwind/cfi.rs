//! Call frame information: the table that maps code addresses to descriptions, and the programs that describe
//! a function's frame.
//!
//! The formats are defined by the DWARF standard (version 5, 6.4) and the Linux Standard Base (5.0, 10.6,
//! `.eh_frame` and `.eh_frame_hdr`). The bytes are read in place, in memory that the loader mapped for its
//! own unwinding. They are trusted as far as the loader trusts them, except that no loop here runs forever.

use super::row::{Base, Row, Saved};

/// DWARF's register numbers.
const BX: u64 = 3;
const BP: u64 = 6;
const SP: u64 = 7;
const RETURN: u64 = 16;

/// A position in bytes that are read in order.
#[derive(Clone, Copy)]
struct Cursor {
    at: *const u8,
    end: *const u8,
}

impl Cursor {
    /// # Safety
    ///
    /// The bytes must be mapped and stay mapped.
    unsafe fn new(at: *const u8, length: usize) -> Cursor {
        Cursor { at, end: at.wrapping_add(length) }
    }

    fn is_empty(&self) -> bool {
        self.at >= self.end
    }

    /// Reads a number; 0 past the end.
    fn take<T: Copy + Default>(&mut self) -> T {
        let next = self.at.wrapping_add(size_of::<T>());
        if next > self.end {
            self.at = self.end;
            return T::default();
        }
        // SAFETY: within the bytes; `T` is an integer.
        let value = unsafe { self.at.cast::<T>().read_unaligned() };
        self.at = next;
        value
    }

    fn byte(&mut self) -> u8 {
        self.take()
    }

    fn unsigned(&mut self) -> u64 {
        let (mut value, mut shift) = (0, 0);
        loop {
            let byte = self.byte();
            if shift < 64 {
                value |= u64::from(byte & 0x7f) << shift;
            }
            shift += 7;
            if byte & 0x80 == 0 {
                return value;
            }
        }
    }

    fn signed(&mut self) -> i64 {
        let (mut value, mut shift) = (0, 0);
        loop {
            let byte = self.byte();
            if shift < 64 {
                value |= i64::from(byte & 0x7f) << shift;
            }
            shift += 7;
            if byte & 0x80 == 0 {
                let sign = byte & 0x40 != 0 && shift < 64;
                return if sign { value | -1 << shift } else { value };
            }
        }
    }

    fn skip(&mut self, bytes: u64) {
        self.at = self.at.wrapping_add(bytes as usize).min(self.end);
    }

    fn part(&mut self, bytes: u64) -> Cursor {
        let at = self.at;
        self.skip(bytes);
        Cursor { at, end: self.at }
    }

    /// Reads an encoded pointer (Linux Standard Base, 10.5). `None` if it is absent or indirect.
    fn pointer(&mut self, encoding: u8, data: usize) -> Option<usize> {
        let base = match encoding & 0x70 {
            0x00 => 0,
            0x10 => self.at.addr(),
            0x30 => data,
            _ => return None,
        };
        let value = match encoding & 0x0f {
            0x00 | 0x04 => self.take::<u64>() as usize,
            0x01 => self.unsigned() as usize,
            0x02 => self.take::<u16>().into(),
            0x03 => self.take::<u32>() as usize,
            0x09 => self.signed() as usize,
            0x0a => self.take::<i16>() as usize,
            0x0b => self.take::<i32>() as usize,
            0x0c => self.take::<i64>() as usize,
            _ => return None,
        };
        (encoding & 0x80 == 0).then_some(base.wrapping_add(value))
    }
}

/// Returns the rule at `pc` by means of an `.eh_frame_hdr`; [`Row::UNKNOWN`] if there is none.
///
/// # Safety
///
/// `header` must be the mapped `.eh_frame_hdr` of the module that contains `pc`.
pub unsafe fn row_at(header: *const u8, pc: usize) -> Row {
    // SAFETY: the caller's promise.
    unsafe { entry_for(header, pc) }.and_then(|entry| entry.row(pc)).unwrap_or(Row::UNKNOWN)
}

/// The description of a function's frame (FDE).
struct Entry {
    common: Common,
    first: usize,
    end: usize,
    program: Cursor,
}

/// The common part of several descriptions (CIE).
struct Common {
    code_factor: u64,
    data_factor: i64,
    pointers: u8,
    augmented: bool,
    signal: bool,
    program: Cursor,
}

/// Encoding of the sorted table: offsets of 4 bytes from the header.
const TABLE: u8 = 0x3b;

/// Returns the last entry of the sorted table that begins at or before `pc`, if it contains `pc`.
unsafe fn entry_for(header: *const u8, pc: usize) -> Option<Entry> {
    // SAFETY: the caller's promise; the fixed part of a header is at most 20 bytes long.
    let mut cursor = unsafe { Cursor::new(header, 20) };
    let (version, frame, count, table) =
        (cursor.byte(), cursor.byte(), cursor.byte(), cursor.byte());
    if version != 1 || table != TABLE {
        return None;
    }
    cursor.pointer(frame, header.addr())?;
    let count = cursor.pointer(count, header.addr())?;
    let rows = cursor.at.cast::<[i32; 2]>();
    let wanted = pc.wrapping_sub(header.addr()).cast_signed();
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = low.midpoint(high);
        // SAFETY: the table has `count` rows.
        let [first, _] = unsafe { rows.add(middle).read_unaligned() };
        if first as isize <= wanted { low = middle + 1 } else { high = middle }
    }
    let last = low.checked_sub(1)?;
    // SAFETY: as above.
    let [_, entry] = unsafe { rows.add(last).read_unaligned() };
    // SAFETY: the table refers to descriptions in the same module.
    let entry = unsafe { Entry::parse(header.wrapping_offset(entry as isize)) }?;
    (entry.first..entry.end).contains(&pc).then_some(entry)
}

/// Returns the bytes of an entry after its length.
unsafe fn contents(at: *const u8) -> Option<Cursor> {
    // SAFETY: the caller's promise: an entry begins with its length.
    let mut cursor = unsafe { Cursor::new(at, 12) };
    let length = match cursor.take::<u32>() {
        0 => return None,
        u32::MAX => cursor.take::<u64>() as usize,
        length => length as usize,
    };
    // SAFETY: the entry has this length.
    Some(unsafe { Cursor::new(cursor.at, length) })
}

impl Entry {
    unsafe fn parse(at: *const u8) -> Option<Entry> {
        // SAFETY: the caller's promise.
        let mut cursor = unsafe { contents(at) }?;
        let here = cursor.at;
        let common = here.wrapping_sub(cursor.take::<u32>() as usize);
        // SAFETY: an entry refers to its common part.
        let common = unsafe { Common::parse(common) }?;
        let first = cursor.pointer(common.pointers, 0)?;
        let length = cursor.pointer(common.pointers & 0x0f, 0)?;
        if common.augmented {
            let bytes = cursor.unsigned();
            cursor.skip(bytes);
        }
        Some(Entry { common, first, end: first.wrapping_add(length), program: cursor })
    }

    fn row(&self, pc: usize) -> Option<Row> {
        if self.common.signal {
            return Some(Row::SIGNAL);
        }
        let mut machine = Machine::default();
        machine.run(self.common.program, &self.common, self.first, usize::MAX)?;
        machine.initial = machine.rules;
        machine.run(self.program, &self.common, self.first, pc)?;
        machine.rules.row()
    }
}

impl Common {
    unsafe fn parse(at: *const u8) -> Option<Common> {
        // SAFETY: the caller's promise.
        let mut cursor = unsafe { contents(at) }?;
        if cursor.take::<u32>() != 0 {
            return None;
        }
        let version = cursor.byte();
        let mut augmentation = cursor;
        while cursor.byte() != 0 {}
        let mut common = Common {
            code_factor: cursor.unsigned(),
            data_factor: cursor.signed(),
            pointers: 0,
            augmented: false,
            signal: false,
            program: cursor,
        };
        let register = if version == 1 { cursor.byte().into() } else { cursor.unsigned() };
        let mut data = cursor;
        if augmentation.byte() == b'z' {
            common.augmented = true;
            let bytes = cursor.unsigned();
            data = cursor.part(bytes);
        } else {
            augmentation.at = augmentation.at.wrapping_sub(1);
        }
        common.program = cursor;
        loop {
            match augmentation.byte() {
                0 => break,
                b'R' => common.pointers = data.byte(),
                b'L' => _ = data.byte(),
                b'P' => {
                    let encoding = data.byte();
                    // Only its length is needed.
                    data.pointer(encoding & 0x0f, 0)?;
                }
                b'S' => common.signal = true,
                b'B' => {}
                _ => return None,
            }
        }
        (register == RETURN).then_some(common)
    }
}

/// Location of the caller's value of a register.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Rule {
    #[default]
    Same,
    Undefined,
    /// At the canonical frame address plus an offset, bytes.
    Frame(i64),
    /// At `rbp` plus an offset, bytes.
    Bp(i64),
    Other,
}

/// The rules at one code address.
#[derive(Clone, Copy)]
struct Rules {
    base: Base,
    offset: i64,
    bp: Rule,
    bx: Rule,
    /// Rule of the return address.
    pc: Rule,
    /// Rule of the stack pointer. Only [`Rule::Same`] is supported, which stands for the canonical frame
    /// address.
    sp: Rule,
}

impl Default for Rules {
    fn default() -> Rules {
        let (bp, bx, sp) = (Rule::Same, Rule::Same, Rule::Same);
        Rules { base: Base::Unknown, offset: 0, bp, bx, pc: Rule::Other, sp }
    }
}

impl Rules {
    fn row(&self) -> Option<Row> {
        match self.pc {
            Rule::Undefined => return Some(Row::END),
            Rule::Frame(-8) => {}
            _ => return None,
        }
        let saved = |rule| match rule {
            Rule::Same | Rule::Undefined => Some(Saved::Same),
            Rule::Frame(offset) if offset % 8 == 0 => Some(Saved::Frame((offset / 8) as i32)),
            Rule::Bp(offset) if offset % 8 == 0 => Some(Saved::Bp((offset / 8) as i32)),
            _ => None,
        };
        if self.sp != Rule::Same || self.base == Base::Unknown {
            return None;
        }
        Row::new(self.base, self.offset, saved(self.bp)?, saved(self.bx)?)
    }

    fn set(&mut self, register: u64, rule: Rule) {
        match register {
            BP => self.bp = rule,
            BX => self.bx = rule,
            SP => self.sp = rule,
            RETURN => self.pc = rule,
            _ => {}
        }
    }

    fn rule_for(&self, register: u64) -> Rule {
        match register {
            BP => self.bp,
            BX => self.bx,
            SP => self.sp,
            RETURN => self.pc,
            _ => Rule::Same,
        }
    }

    fn set_base(&mut self, register: u64) {
        self.base = match register {
            SP => Base::Sp,
            BP => Base::Bp,
            BX => Base::Bx,
            _ => Base::Unknown,
        };
    }
}

/// Runs the programs of descriptions. Compilers remember one set of rules, rarely two.
#[derive(Default)]
struct Machine {
    rules: Rules,
    initial: Rules,
    remembered: [Rules; 4],
    depth: usize,
}

impl Machine {
    /// Runs a program up to the rules for `pc`. `None` at an unknown instruction.
    fn run(&mut self, mut program: Cursor, common: &Common, first: usize, pc: usize) -> Option<()> {
        let mut address = first;
        while !program.is_empty() {
            let instruction = program.byte();
            let low = u64::from(instruction & 0x3f);
            let advance = match (instruction >> 6, instruction) {
                (1, _) => Some(low),
                (0, 0x01) => {
                    address = program.pointer(common.pointers, 0)?;
                    Some(0)
                }
                (0, 0x02) => Some(program.byte().into()),
                (0, 0x03) => Some(program.take::<u16>().into()),
                (0, 0x04) => Some(program.take::<u32>().into()),
                _ => None,
            };
            match advance {
                Some(steps) => {
                    address = address.wrapping_add((steps * common.code_factor) as usize);
                    if address > pc {
                        return Some(());
                    }
                }
                None if instruction >> 6 == 2 => {
                    let offset = program.unsigned().cast_signed() * common.data_factor;
                    self.rules.set(low, Rule::Frame(offset));
                }
                None if instruction >> 6 == 3 => self.rules.set(low, self.initial.rule_for(low)),
                None => self.extended(instruction, &mut program, common.data_factor)?,
            }
        }
        Some(())
    }

    fn extended(&mut self, instruction: u8, program: &mut Cursor, factor: i64) -> Option<()> {
        match instruction {
            // A no-op, and the size of arguments.
            0x00 => {}
            0x2e => _ = program.unsigned(),
            0x0a => {
                *self.remembered.get_mut(self.depth)? = self.rules;
                self.depth += 1;
            }
            0x0b => {
                self.depth = self.depth.checked_sub(1)?;
                self.rules = *self.remembered.get(self.depth)?;
            }
            0x0c..=0x0f | 0x12 | 0x13 => self.frame_address(instruction, program, factor),
            _ => {
                let register = program.unsigned();
                let rule = self.register_rule(instruction, register, program, factor)?;
                self.rules.set(register, rule);
            }
        }
        Some(())
    }

    /// Runs an instruction about the canonical frame address.
    fn frame_address(&mut self, instruction: u8, program: &mut Cursor, factor: i64) {
        let rules = &mut self.rules;
        if matches!(instruction, 0x0c | 0x0d | 0x12) {
            rules.set_base(program.unsigned());
        }
        match instruction {
            0x0c | 0x0e => rules.offset = program.unsigned().cast_signed(),
            0x12 | 0x13 => rules.offset = program.signed() * factor,
            0x0f => {
                let bytes = program.unsigned();
                (rules.base, rules.offset) = base_of_expression(program.part(bytes));
            }
            _ => {}
        }
    }

    /// Returns the rule that an instruction gives to a register.
    fn register_rule(
        &self,
        instruction: u8,
        register: u64,
        program: &mut Cursor,
        factor: i64,
    ) -> Option<Rule> {
        Some(match instruction {
            0x05 => Rule::Frame(program.unsigned().cast_signed() * factor),
            0x11 => Rule::Frame(program.signed() * factor),
            0x06 => self.initial.rule_for(register),
            0x07 => Rule::Undefined,
            0x08 => Rule::Same,
            0x10 => {
                let bytes = program.unsigned();
                rule_of_expression(program.part(bytes))
            }
            // The value is in another register, or is computed.
            0x09 | 0x14 => {
                program.unsigned();
                Rule::Other
            }
            0x15 => {
                program.signed();
                Rule::Other
            }
            0x16 => {
                let bytes = program.unsigned();
                program.skip(bytes);
                Rule::Other
            }
            _ => return None,
        })
    }
}

const DEREFERENCE: u8 = 0x06;
const REGISTER_BP: u8 = 0x70 + BP as u8;
const REGISTER_SP: u8 = 0x70 + SP as u8;

/// Parses the two expressions that compilers and linkers use for the canonical frame address.
fn base_of_expression(mut expression: Cursor) -> (Base, i64) {
    let register = expression.byte();
    let offset = expression.signed();
    match register {
        REGISTER_BP if expression.byte() == DEREFERENCE && expression.is_empty() => {
            (Base::AtBp, offset)
        }
        // rsp + 8 + ((rip & 15) >= 11) * 8, as linkers write it.
        REGISTER_SP if offset == 8 => {
            let stub = [0x80, 0x00, 0x3f, 0x1a, 0x3b, 0x2a, 0x33, 0x24, 0x22];
            let same = stub.iter().all(|&byte| expression.byte() == byte);
            (if same && expression.is_empty() { Base::Stub } else { Base::Unknown }, 8)
        }
        _ => (Base::Unknown, 0),
    }
}

/// Parses the one expression that compilers use for the location of a saved register.
fn rule_of_expression(mut expression: Cursor) -> Rule {
    let register = expression.byte();
    let offset = expression.signed();
    if register == REGISTER_BP && expression.is_empty() { Rule::Bp(offset) } else { Rule::Other }
}
