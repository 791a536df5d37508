//! Decodes the line tables of Python code objects.
//!
//! There are three formats:
//!
//! - Up to 3.9, `co_lnotab` has pairs of an instruction difference and a line difference. Each pair starts a line
//!   (Objects/lnotab_notes.txt).
//! - In 3.10, `co_linetable` has pairs of a length and a line difference. Each pair is a range (PEP 626).
//! - From 3.11 on, `co_linetable` has entries of several forms, with columns (PEP 657, Objects/locations.md).

/// `PY_VERSION_HEX` of the first version with ranges.
const RANGES: u32 = 0x030a_0000;
/// `PY_VERSION_HEX` of the first version with columns.
const COLUMNS: u32 = 0x030b_0000;
/// Bytes of a code unit.
const UNIT: u32 = 2;

/// Returns the line of the instruction at `offset` (bytes). `None` if it has no line, such as an instruction that the compiler
/// added, or if the table ends before it.
pub fn line(version: u32, table: &[u8], first_line: u32, offset: u32) -> Option<u32> {
    let line = match version {
        COLUMNS.. => line_in_entries(table, first_line.into(), offset),
        RANGES.. => line_in_ranges(table, first_line.into(), offset),
        _ => Some(line_in_pairs(table, first_line.into(), offset)),
    };
    line.and_then(|line| u32::try_from(line).ok())
}

fn line_in_pairs(table: &[u8], first_line: i64, offset: u32) -> i64 {
    let (mut start, mut line) = (0_u32, first_line);
    for pair in table.chunks_exact(2) {
        start = start.saturating_add(pair[0].into());
        if start > offset {
            break;
        }
        line += i64::from(pair[1].cast_signed());
    }
    line
}

fn line_in_ranges(table: &[u8], first_line: i64, offset: u32) -> Option<i64> {
    const NO_LINE: i8 = -128;
    let (mut end, mut line) = (0_u32, first_line);
    for pair in table.chunks_exact(2) {
        let difference = pair[1].cast_signed();
        if difference != NO_LINE {
            line += i64::from(difference);
        }
        end = end.saturating_add(pair[0].into());
        if offset < end {
            return (difference != NO_LINE).then_some(line);
        }
    }
    None
}

fn line_in_entries(table: &[u8], first_line: i64, offset: u32) -> Option<i64> {
    let (mut end, mut line) = (0_u32, first_line);
    let mut rest = table;
    while let Some((&head, tail)) = rest.split_first() {
        let length = u32::from(head & 7) + 1;
        let form = (head >> 3) & 15;
        let difference = difference(form, tail);
        line = line.saturating_add(difference.unwrap_or(0));
        end = end.saturating_add(length * UNIT);
        if offset < end {
            return difference.map(|_| line);
        }
        // Only the first byte of an entry has its highest bit set.
        let next = tail.iter().position(|byte| byte & 0x80 != 0).unwrap_or(tail.len());
        rest = &tail[next..];
    }
    None
}

/// Returns the line of an entry minus the line of the entry before it; `None` if the entry has no line. `tail` follows the
/// entry's first byte.
fn difference(form: u8, tail: &[u8]) -> Option<i64> {
    match form {
        0..=9 => Some(0),
        10..=12 => Some(i64::from(form) - 10),
        13 | 14 => Some(signed(tail)),
        _ => None,
    }
}

/// Decodes a number from groups of six bits, lowest first. The lowest bit of the number is its sign.
fn signed(bytes: &[u8]) -> i64 {
    let mut number = 0_u64;
    for (index, byte) in bytes.iter().take(10).enumerate() {
        number |= u64::from(byte & 0x3f) << (6 * index);
        if byte & 0x40 == 0 {
            break;
        }
    }
    let magnitude = (number >> 1).cast_signed();
    if number & 1 == 0 { magnitude } else { -magnitude }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::python::testing;
    use proptest::prelude::*;

    /// Prints the version and, for many functions, the first line, the table and the line of each instruction.
    const SCRIPT: &str = r#"
import sys, types, dis, argparse, json.decoder, inspect, tempfile, typing, textwrap, asyncio.base_events, decimal, dataclasses
print(sys.hexversion)
codes, seen = [], set()
def add(code):
    if id(code) not in seen:
        seen.add(id(code))
        codes.append(code)
        for constant in code.co_consts:
            if isinstance(constant, types.CodeType):
                add(constant)
for module in (argparse, json.decoder, inspect, tempfile, typing, textwrap, asyncio.base_events, dataclasses, dis):
    source = open(module.__file__).read()
    add(compile(source, module.__file__, 'exec'))
add(compile("\n" * 3000 + "x = [\n" + "1,\n" * 300 + "f(2)]\nfor y in x:\n  try:\n    pass\n  finally:\n    z = y\n", "far", "exec"))
for code in codes:
    length = len(code.co_code)
    lines = [None] * (length // 2)
    if hasattr(code, "co_lines"):
        for start, end, line in code.co_lines():
            for at in range(start, end, 2):
                lines[at // 2] = line
    else:
        starts = list(dis.findlinestarts(code)) + [(length, None)]
        for (start, line), (end, _) in zip(starts, starts[1:]):
            for at in range(start, end, 2):
                lines[at // 2] = line
    table = code.co_linetable if hasattr(code, "co_linetable") else code.co_lnotab
    print(code.co_firstlineno, table.hex() or "-", ",".join("-" if l is None else str(l) for l in lines))
"#;

    #[test]
    fn lines_match_the_interpreter() {
        for interpreter in testing::interpreters() {
            let text = testing::run(&interpreter, SCRIPT);
            let mut rows = text.lines();
            let version: u32 = rows.next().expect("a version").parse().expect("a number");
            let mut compared = 0;
            for row in rows {
                let mut fields = row.split(' ');
                let mut field = || fields.next().expect("three fields");
                let first_line: u32 = field().parse().expect("a line");
                let table = unhex(field());
                for (at, expected) in (0..).zip(field().split(',').filter(|line| !line.is_empty()))
                {
                    let expected = expected.parse().ok();
                    let found = line(version, &table, first_line, at * UNIT);
                    assert_eq!(found, expected, "{version:#x}, line {first_line}, {at}: {row}");
                    compared += 1;
                }
            }
            assert!(compared > 10_000, "{interpreter:?}: {compared}");
        }
    }

    fn unhex(text: &str) -> Vec<u8> {
        let digits = text.trim_matches('-').as_bytes();
        let byte = |pair: &[u8]| {
            let pair = std::str::from_utf8(pair).expect("digits");
            u8::from_str_radix(pair, 16).expect("hexadecimal")
        };
        digits.chunks(2).map(byte).collect()
    }

    proptest! {
        #[test]
        fn arbitrary_tables_do_not_panic(
            table in proptest::collection::vec(any::<u8>(), 0..200),
            first_line in any::<u32>(),
            offset in any::<u32>(),
        ) {
            for version in [0x0309_0000, RANGES, COLUMNS, 0x030e_0000] {
                line(version, &table, first_line, offset % 1000);
                line(version, &table, first_line, offset);
            }
        }
    }
}
