//! Functions, inlined calls, lines and declarations from the debug information of an ELF file.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::collections::HashMap;
use std::rc::Rc;

use addr2line::{Context, LookupContinuation, LookupResult};
use gimli::{DwarfSections, EndianSlice, NativeEndian, UnitOffset, UnitRef};
use object::read::elf::ElfFile64;
use object::{Endianness, Object, ObjectSection};

use super::symbol_table::demangle;

type Reader<'a> = EndianSlice<'a, NativeEndian>;

/// Longest chain of references between entries that is followed.
const MAX_REFERENCES: usize = 8;

/// A function, shared by all its locations.
#[derive(Debug, Default)]
pub(super) struct FunctionInfo {
    /// Demangled name.
    pub name: String,
    /// Source file of the declaration if known, otherwise of the first executing line that was looked up.
    pub file: OnceCell<Rc<str>>,
    /// Line of the declaration.
    pub line: Option<u32>,
}

/// A function and the line that is executing in it.
#[derive(Debug, Clone)]
pub(super) struct CodeLocation {
    pub function: Rc<FunctionInfo>,
    /// File of the executing line.
    pub file: Option<Rc<str>>,
    /// Executing line.
    pub line: Option<u32>,
}

/// Debug sections, decompressed if necessary.
pub(super) type Sections<'a> = DwarfSections<Cow<'a, [u8]>>;

/// Loads the debug sections of a file. Missing sections are empty.
pub(super) fn load<'a>(file: &ElfFile64<'a, Endianness>) -> Sections<'a> {
    let section = |id: gimli::SectionId| -> Result<Cow<'a, [u8]>, std::convert::Infallible> {
        let data =
            file.section_by_name(id.name()).and_then(|section| section.uncompressed_data().ok());
        Ok(data.unwrap_or_default())
    };
    match DwarfSections::load(section) {
        Ok(sections) => sections,
        Err(never) => match never {},
    }
}

/// Returns whether a file has debug information.
pub(super) fn is_in(file: &ElfFile64<'_, Endianness>) -> bool {
    file.section_by_name(".debug_info").is_some()
}

/// The debug information of one program.
pub(super) struct DebugInfo<'a> {
    context: Context<Reader<'a>>,
    functions: HashMap<(usize, usize), Rc<FunctionInfo>>,
    files: HashMap<String, Rc<str>>,
    other_units: Vec<OtherUnit<'a>>,
}

/// A unit that other units may refer to, as happens after link-time optimisation. It is parsed at first use.
struct OtherUnit<'a> {
    range: std::ops::Range<usize>,
    header: gimli::UnitHeader<Reader<'a>>,
    unit: OnceCell<Option<gimli::Unit<Reader<'a>>>>,
}

impl<'a> DebugInfo<'a> {
    /// Reads the tables of contents. Units are parsed when an address in them is looked up.
    pub fn new(
        sections: &'a Sections<'a>,
        supplementary: Option<&'a Sections<'a>>,
    ) -> Option<Self> {
        let borrow = |section: &'a Cow<'a, [u8]>| EndianSlice::new(section, NativeEndian);
        let mut dwarf = sections.borrow_with_sup(supplementary, borrow);
        dwarf.populate_abbreviations_cache(gimli::AbbreviationsCacheStrategy::Duplicates);
        let other_units = units(&dwarf);
        let context = Context::from_dwarf(dwarf).ok()?;
        Some(Self { context, functions: HashMap::new(), files: HashMap::new(), other_units })
    }

    /// Returns the function at an address and the functions that it is inlined into, innermost first; empty if unknown.
    ///
    /// `symbol` returns the symbol table's name, for a function without an entry.
    pub fn locations(
        &mut self,
        address: u64,
        symbol: impl Fn() -> Option<String>,
    ) -> Vec<CodeLocation> {
        let mut locations = Vec::new();
        let Self { context, functions, files, other_units } = self;
        let unit = resolve(context.find_dwarf_and_unit(address));
        let Ok(mut frames) = resolve(context.find_frames(address)) else { return locations };
        while let Ok(Some(frame)) = frames.next() {
            let location = frame.location;
            let file = location.as_ref().and_then(|location| location.file);
            let file = file.map(|file| intern(files, file));
            let entry = unit.and_then(|unit| Some((unit, frame.dw_die_offset?)));
            let key = entry.map(|(unit, offset)| (unit_start(unit), offset.0));
            let known = key.and_then(|key| functions.get(&key).cloned());
            let function = known.or_else(|| {
                let name = frame.function.as_ref().map(|name| demangle(name.name.slice()));
                let name = name.or_else(&symbol)?;
                let declared = entry.map(|(unit, at)| declaration(unit, at, other_units));
                let function = Rc::new(function(name, declared.unwrap_or_default(), files));
                functions.extend(key.map(|key| (key, Rc::clone(&function))));
                Some(function)
            });
            let Some(function) = function else { continue };
            if let Some(file) = &file {
                function.file.get_or_init(|| Rc::clone(file));
            }
            locations.push(CodeLocation { function, file, line: location.and_then(|l| l.line) });
        }
        locations
    }
}

fn function(
    name: String,
    declared: Declaration,
    files: &mut HashMap<String, Rc<str>>,
) -> FunctionInfo {
    let file = declared.file.map(|file| intern(files, &file));
    let cell = OnceCell::new();
    if let Some(file) = file {
        cell.get_or_init(|| file);
    }
    FunctionInfo { name, file: cell, line: declared.line }
}

fn intern(files: &mut HashMap<String, Rc<str>>, file: &str) -> Rc<str> {
    if let Some(known) = files.get(file) {
        return Rc::clone(known);
    }
    let shared: Rc<str> = Rc::from(file);
    files.insert(file.to_owned(), Rc::clone(&shared));
    shared
}

/// Completes a lookup without split debug files, which are not supported.
fn resolve<L: LookupContinuation>(result: LookupResult<L>) -> L::Output {
    result.skip_all_loads()
}

fn unit_start(unit: UnitRef<'_, Reader<'_>>) -> usize {
    unit.header.debug_info_offset().map_or(usize::MAX, |offset| offset.0)
}

/// Where a function is declared.
#[derive(Debug, Default, PartialEq, Eq)]
struct Declaration {
    file: Option<String>,
    line: Option<u32>,
}

/// Reads where a function is declared. `offset` is the entry of the function, or of an inlined copy of it.
fn declaration<'u, 'a>(
    unit: UnitRef<'u, Reader<'a>>,
    offset: UnitOffset,
    others: &'u [OtherUnit<'a>],
) -> Declaration {
    let (mut unit, mut offset) = (unit, offset);
    let mut declared = Declaration::default();
    for _ in 0..MAX_REFERENCES {
        let Ok(entry) = unit.entry(offset) else { break };
        let number = |name| entry.attr_value(name).and_then(|value| value.udata_value());
        if declared.line.is_none() {
            declared.line =
                number(gimli::DW_AT_decl_line).and_then(|line| u32::try_from(line).ok());
        }
        if declared.file.is_none() {
            declared.file = entry
                .attr_value(gimli::DW_AT_decl_file)
                .and_then(|value| file_index(&value))
                .and_then(|index| file_name(unit, index));
        }
        if declared.line.is_some() && declared.file.is_some() {
            break;
        }
        let origin = entry
            .attr_value(gimli::DW_AT_abstract_origin)
            .or_else(|| entry.attr_value(gimli::DW_AT_specification));
        match origin.and_then(|origin| referenced(unit, &origin, others)) {
            Some(next) => (unit, offset) = next,
            None => break,
        }
    }
    declared
}

/// Returns the entry that a reference leads to.
fn referenced<'u, 'a>(
    unit: UnitRef<'u, Reader<'a>>,
    reference: &gimli::AttributeValue<Reader<'a>>,
    others: &'u [OtherUnit<'a>],
) -> Option<(UnitRef<'u, Reader<'a>>, UnitOffset)> {
    match *reference {
        gimli::AttributeValue::UnitRef(offset) => Some((unit, offset)),
        gimli::AttributeValue::DebugInfoRef(offset) => {
            let after = others.partition_point(|other| other.range.start <= offset.0);
            let other = others.get(after.checked_sub(1)?)?;
            let found = other.unit.get_or_init(|| unit.dwarf.unit(other.header).ok()).as_ref()?;
            let within = offset.to_unit_offset(&other.header)?;
            Some((found.unit_ref(unit.dwarf), within))
        }
        _ => None,
    }
}

fn units<'a>(dwarf: &gimli::Dwarf<Reader<'a>>) -> Vec<OtherUnit<'a>> {
    let mut units = Vec::new();
    let mut headers = dwarf.units();
    while let Ok(Some(header)) = headers.next() {
        let Some(start) = header.debug_info_offset() else { continue };
        let range = start.0..start.0 + header.length_including_self();
        units.push(OtherUnit { range, header, unit: OnceCell::new() });
    }
    units
}

fn file_index(value: &gimli::AttributeValue<Reader<'_>>) -> Option<u64> {
    match value {
        gimli::AttributeValue::FileIndex(index) => Some(*index),
        other => other.udata_value(),
    }
}

/// Returns the path of a file in a unit's line table.
fn file_name(unit: UnitRef<'_, Reader<'_>>, index: u64) -> Option<String> {
    let header = unit.line_program.as_ref()?.header();
    let file = header.file(index)?;
    let text = |value| Some(unit.attr_string(value).ok()?.to_string_lossy().into_owned());
    let mut path = unit.comp_dir.map(|dir| dir.to_string_lossy().into_owned()).unwrap_or_default();
    // Directory 0 is the compilation directory itself.
    if file.directory_index() != 0
        && let Some(directory) = file.directory(header).and_then(text)
    {
        push(&mut path, &directory);
    }
    push(&mut path, &text(file.path_name())?);
    Some(path)
}

/// Appends to a path. An absolute part replaces what was there.
fn push(path: &mut String, part: &str) {
    if part.starts_with('/') {
        path.clear();
    } else if !path.is_empty() && !path.ends_with('/') {
        path.push('/');
    }
    path.push_str(part);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absolute_parts_replace_the_path() {
        let table = [
            (&["/home/me", "src", "main.rs"][..], "/home/me/src/main.rs"),
            (&["/home/me", "/usr/include", "math.h"], "/usr/include/math.h"),
            (&["/", "a.c"], "/a.c"),
            (&["", "a.c"], "a.c"),
        ];
        for (parts, expected) in table {
            let mut path = String::new();
            for part in parts {
                push(&mut path, part);
            }
            assert_eq!(path, expected);
        }
    }
}
