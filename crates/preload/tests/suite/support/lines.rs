//! Decodes the line tables of each version of CPython as its documentation describes them.

/// Returns the line of the instruction at `offset`: the first line if the frame has not started, 0 if there is no line.
pub fn line(version: u32, first_line: u32, table: &[u8], offset: u32) -> u32 {
    if offset == u32::MAX {
        return first_line;
    }
    match version >> 16 {
        ..=0x0309 => pairs(first_line, table, offset),
        0x030a => ranges(first_line, table, offset),
        _ => locations(first_line, table, offset),
    }
}

/// Up to 3.9: pairs of a number of bytes of instructions and the change of the line after these.
fn pairs(first_line: u32, table: &[u8], offset: u32) -> u32 {
    let (mut at, mut line) = (0_u32, i64::from(first_line));
    for pair in table.chunks_exact(2) {
        at += u32::from(pair[0]);
        if at > offset {
            break;
        }
        line += i64::from(pair[1] as i8);
    }
    line as u32
}

/// 3.10: pairs of a number of bytes of instructions and the change of the line before these. -128 means that they have no line.
fn ranges(first_line: u32, table: &[u8], offset: u32) -> u32 {
    let (mut at, mut line) = (0_u32, i64::from(first_line));
    for pair in table.chunks_exact(2) {
        let change = pair[1] as i8;
        if change != -128 {
            line += i64::from(change);
        }
        at += u32::from(pair[0]);
        if at > offset {
            return if change == -128 { 0 } else { line as u32 };
        }
    }
    0
}

/// From 3.11 on: entries with a kind, a number of code units and a change of the line.
fn locations(first_line: u32, table: &[u8], offset: u32) -> u32 {
    let (mut at, mut line) = (0_u32, i64::from(first_line));
    let mut bytes = table.iter().copied().peekable();
    while let Some(first) = bytes.next() {
        let kind = first >> 3 & 15;
        let mut rest = Vec::new();
        while let Some(byte) = bytes.next_if(|byte| byte & 128 == 0) {
            rest.push(byte);
        }
        line += match kind {
            10..=12 => i64::from(kind - 10),
            13 | 14 => signed(&rest),
            _ => 0,
        };
        at += 2 * (u32::from(first & 7) + 1);
        if at > offset {
            return if kind == 15 { 0 } else { line as u32 };
        }
    }
    0
}

/// Decodes the first number of `bytes`: six bits per byte, the lowest first. The lowest bit of the number is its sign.
fn signed(bytes: &[u8]) -> i64 {
    let mut value = 0_i64;
    for (at, byte) in bytes.iter().enumerate() {
        value |= i64::from(byte & 63) << (6 * at);
        if byte & 64 == 0 {
            break;
        }
    }
    if value & 1 == 1 { -(value >> 1) } else { value >> 1 }
}
