//! Partial units: parts of the debug information that several units share, as `dwz` makes them.
//!
//! Before DWARF 5, a unit's header does not state that it is partial, and `addr2line` takes a partial unit with a line table for
//! the unit that contains the table's addresses. So the addresses of the proper unit lose their functions. This module hides
//! the reference to the line table from `addr2line`.

use std::collections::BTreeSet;

use gimli::{Dwarf, EndianSlice, NativeEndian};

use super::debug_storage::Reader;

/// An attribute number that is reserved, so readers skip it.
const RESERVED_ATTRIBUTE: u8 = 0x04;

/// Returns `.debug_abbrev` without the line tables of partial units; `None` if none has to be hidden.
pub(super) fn without_line_tables(dwarf: &Dwarf<Reader<'_>>) -> Option<Vec<u8>> {
    let mut tables = BTreeSet::new();
    let mut headers = dwarf.units();
    while let Ok(Some(header)) = headers.next() {
        if header.version() < 5 && is_partial(dwarf, &header) {
            tables.insert(header.debug_abbrev_offset().0);
        }
    }
    let mut bytes = gimli::Section::reader(&dwarf.debug_abbrev).slice().to_vec();
    let hidden = tables.into_iter().filter(|&table| hide(&mut bytes, table).is_some()).count();
    (hidden > 0).then_some(bytes)
}

fn is_partial(dwarf: &Dwarf<Reader<'_>>, header: &gimli::UnitHeader<Reader<'_>>) -> bool {
    let Ok(abbreviations) = dwarf.abbreviations(header) else { return false };
    let Ok(mut entries) = header.entries_raw(&abbreviations, None) else { return false };
    let root = entries.read_abbreviation();
    root.is_ok_and(|root| root.is_some_and(|root| root.tag() == gimli::DW_TAG_partial_unit))
}

/// Renames the attribute in the abbreviations of partial units in the table at this offset (DWARF 4, section 7.5.3).
fn hide(bytes: &mut [u8], table: usize) -> Option<()> {
    let mut at = table;
    while leb128(bytes, &mut at)? != 0 {
        let tag = leb128(bytes, &mut at)?;
        at += 1; // Whether the entry has children.
        loop {
            let name_at = at;
            let (name, form) = (leb128(bytes, &mut at)?, leb128(bytes, &mut at)?);
            if (name, form) == (0, 0) {
                break;
            }
            if form == u64::from(gimli::DW_FORM_implicit_const.0) {
                skip_leb128(bytes, &mut at)?;
            }
            let is_line_table = name == u64::from(gimli::DW_AT_stmt_list.0);
            if is_line_table && tag == u64::from(gimli::DW_TAG_partial_unit.0) {
                bytes[name_at] = RESERVED_ATTRIBUTE;
            }
        }
    }
    Some(())
}

/// Reads an unsigned number. `None` at the end of the bytes.
fn leb128(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let mut rest = EndianSlice::new(bytes.get(*at..)?, NativeEndian);
    let value = gimli::leb128::read::unsigned(&mut rest);
    *at = bytes.len() - rest.len();
    value.ok()
}

/// Skips a number with or without a sign.
fn skip_leb128(bytes: &[u8], at: &mut usize) -> Option<()> {
    let mut rest = EndianSlice::new(bytes.get(*at..)?, NativeEndian);
    gimli::leb128::read::skip(&mut rest).ok()?;
    *at = bytes.len() - rest.len();
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_line_tables_of_partial_units_are_hidden() {
        // Code, tag, children, then pairs of attribute and form. 0x10 is DW_AT_stmt_list, 0x17 DW_FORM_sec_offset.
        let compile_unit = [1, 0x11, 1, 0x10, 0x17, 0x03, 0x08, 0, 0];
        let partial_unit = [2, 0x3c, 1, 0x81, 0x42, 0x0f, 0x10, 0x17, 0, 0];
        let constant = [3, 0x34, 0, 0x02, 0x21, 0x10, 0, 0];
        let mut bytes = [&compile_unit[..], &partial_unit, &constant, &[0]].concat();
        let mut expected = bytes.clone();
        expected[compile_unit.len() + 6] = RESERVED_ATTRIBUTE;
        assert_eq!(hide(&mut bytes, 0), Some(()));
        assert_eq!(bytes, expected);
        assert_eq!(hide(&mut bytes[..12], 0), None, "a truncated table is left alone");
    }
}
