//! Decodes text files: UTF-8, or UTF-16 with a byte order mark.

use std::borrow::Cow;

const UTF8: &[u8] = b"\xef\xbb\xbf";
const UTF16_LITTLE: &[u8] = b"\xff\xfe";
const UTF16_BIG: &[u8] = b"\xfe\xff";

/// Returns the content of a file as UTF-8 without a byte order mark. Files without a mark are unchanged.
pub(super) fn decode(bytes: &[u8]) -> Cow<'_, [u8]> {
    if let Some(text) = bytes.strip_prefix(UTF8) {
        return Cow::Borrowed(text);
    }
    let utf16 = |text: &[u8], unit: fn([u8; 2]) -> u16| {
        let units = text.chunks_exact(2).map(|pair| unit([pair[0], pair[1]]));
        let characters = char::decode_utf16(units);
        let decoded: String =
            characters.map(|character| character.unwrap_or(char::REPLACEMENT_CHARACTER)).collect();
        Cow::Owned(decoded.into_bytes())
    };
    if let Some(text) = bytes.strip_prefix(UTF16_LITTLE) {
        utf16(text, u16::from_le_bytes)
    } else if let Some(text) = bytes.strip_prefix(UTF16_BIG) {
        utf16(text, u16::from_be_bytes)
    } else {
        Cow::Borrowed(bytes)
    }
}

/// Returns whether the bytes look like UTF-16 without a byte order mark: every other byte is zero.
pub(super) fn is_unmarked_utf16(bytes: &[u8]) -> bool {
    let beginning = &bytes[..bytes.len().min(64)];
    let (pairs, rest) = beginning.as_chunks::<2>();
    let is_pair = |odd: usize| pairs.iter().all(|pair| pair[odd] == 0 && pair[1 - odd] != 0);
    pairs.len() >= 2 && rest.is_empty() && (is_pair(0) || is_pair(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_order_marks_decide() {
        let utf16 = |big: bool| -> Vec<u8> {
            let bytes = |unit: u16| if big { unit.to_be_bytes() } else { unit.to_le_bytes() };
            "\u{feff}é;b 3".encode_utf16().flat_map(bytes).collect()
        };
        for bytes in [utf16(false), utf16(true), "\u{feff}é;b 3".into(), "é;b 3".into()] {
            assert_eq!(decode(&bytes), "é;b 3".as_bytes(), "{bytes:?}");
        }
        assert_eq!(decode(b"\xff\xfe\x00\xd8a"), "\u{fffd}".as_bytes());
    }

    #[test]
    fn utf16_without_a_mark_is_recognised() {
        let little: Vec<u8> = "main;a 3".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let big: Vec<u8> = "main;a 3".encode_utf16().flat_map(u16::to_be_bytes).collect();
        assert!(is_unmarked_utf16(&little) && is_unmarked_utf16(&big));
        for other in [&b""[..], b"main;a 3", b"a\0", b"\xe3\0\0\0\0", b"\0\0\0\0"] {
            assert!(!is_unmarked_utf16(other), "{other:?}");
        }
    }
}
