//! Recognises call instructions. A return address always follows one.

/// Bytes before a return address that are needed to recognise any call instruction.
pub(super) const LONGEST_CALL: usize = 8;

/// Returns whether the last instruction in `before`, the bytes before an address, may be a call.
pub(super) fn ends_with_call(before: &[u8]) -> bool {
    let direct = before.len() >= 5 && before[before.len() - 5] == 0xe8;
    direct
        || (2..=7.min(before.len()))
            .any(|length| is_indirect_call(&before[before.len() - length..]))
}

/// Returns whether these bytes are exactly the instruction `call r/m64`: opcode FF, the digit 2 and an operand. Prefixes are
/// before it.
fn is_indirect_call(bytes: &[u8]) -> bool {
    let [0xff, operand, rest @ ..] = bytes else { return false };
    if operand >> 3 & 7 != 2 {
        return false;
    }
    let (mode, base) = (operand >> 6, operand & 7);
    let has_index = mode != 3 && base == 4;
    let without_base =
        mode == 0 && (base == 5 || has_index && rest.first().is_some_and(|sib| sib & 7 == 5));
    let displacement = match mode {
        1 => 1,
        2 => 4,
        _ if without_base => 4,
        _ => 0,
    };
    rest.len() == usize::from(has_index) + displacement
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_calls_precede_return_addresses() {
        let calls: [&[u8]; 12] = [
            &[0xe8, 1, 2, 3, 4],                   // call rel32
            &[0xff, 0xd0],                         // call rax
            &[0x41, 0xff, 0xd3],                   // call r11
            &[0xff, 0x10],                         // call [rax]
            &[0xff, 0x50, 8],                      // call [rax+8]
            &[0xff, 0x90, 0, 1, 0, 0],             // call [rax+256]
            &[0xff, 0x15, 0, 1, 0, 0],             // call [rip+256]
            &[0xff, 0x14, 0xc2],                   // call [rdx+rax*8]
            &[0xff, 0x14, 0xc5, 0, 1, 0, 0],       // call [rax*8+256]
            &[0xff, 0x54, 0x24, 8],                // call [rsp+8]
            &[0x41, 0xff, 0x94, 0xc4, 0, 1, 0, 0], // call [r12+rax*8+256]
            &[0x3e, 0xff, 0xd0],                   // notrack call rax
        ];
        for call in calls {
            assert!(ends_with_call(call), "{call:02x?}");
            assert!(ends_with_call(&[&[0x90; 8], call].concat()), "{call:02x?}");
            assert!(!ends_with_call(&[call, &[0x90]].concat()), "{call:02x?} and a nop");
        }
        let others: [&[u8]; 6] = [
            &[],
            &[0xe9, 1, 2, 3, 4], // jmp rel32
            &[0xff, 0xe0],       // jmp rax
            &[0xff, 0x30],       // push [rax]
            &[0x0f, 0x05],       // syscall
            &[0x90; 8],
        ];
        for other in others {
            assert!(!ends_with_call(other), "{other:02x?}");
        }
    }
}
