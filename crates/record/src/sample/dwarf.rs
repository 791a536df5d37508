//! Functions, inlined calls, lines and declarations from the debug information of an ELF file.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::rc::Rc;

use addr2line::{Context, LookupContinuation, LookupResult};
use gimli::{Dwarf, DwarfFileType, UnitOffset, UnitRef};
use object::Object;

use super::debug_storage::{Elf, Reader, Storage, main_section};
use super::partial_units;
use super::split_files::SplitFiles;
use super::symbol_table::{Symbol, demangle};

/// Longest chain of references between entries that is followed.
const MAX_REFERENCES: usize = 8;

/// A function, shared by all its locations.
#[derive(Debug, Default)]
pub(super) struct FunctionInfo {
    /// Demangled name.
    pub name: String,
    /// Source file of the declaration if known, otherwise of the first executing line that was looked up.
    pub file: Option<Rc<str>>,
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

/// Returns whether a file has debug information.
pub(super) fn is_in(file: &Elf<'_>) -> bool {
    file.section_by_name(".debug_info").is_some()
}

/// The debug information of one program.
pub(super) struct DebugInfo<'a> {
    context: Context<Reader<'a>>,
    split: SplitFiles<'a>,
    functions: Functions,
    /// All units with their line tables.
    units: Units<'a>,
}

/// The functions found so far.
#[derive(Default)]
struct Functions {
    /// By the address of the unit in memory and the offset of the function's entry.
    by_entry: HashMap<(usize, usize), Rc<FunctionInfo>>,
    /// Functions without an entry, by their start.
    by_start: HashMap<u64, Rc<FunctionInfo>>,
    files: HashMap<String, Rc<str>>,
}

/// Units that other units may refer to.
struct Units<'a> {
    dwarf: Dwarf<Reader<'a>>,
    main: Vec<OtherUnit<'a>>,
    supplementary: Vec<OtherUnit<'a>>,
}

/// A unit that other units may refer to, as happens after link-time optimisation and with `dwz`. It is parsed at first use.
struct OtherUnit<'a> {
    range: std::ops::Range<usize>,
    header: gimli::UnitHeader<Reader<'a>>,
    unit: OnceCell<Option<gimli::Unit<Reader<'a>>>>,
}

impl<'a> DebugInfo<'a> {
    /// Reads the tables of contents. Units are parsed when an address in them is looked up.
    pub fn new(
        storage: &'a Storage,
        debug: &Elf<'a>,
        supplementary: Option<&Elf<'a>>,
        split: SplitFiles<'a>,
    ) -> Option<Self> {
        let load = || {
            let mut dwarf = storage.dwarf(debug, main_section);
            if let Some(file) = supplementary {
                dwarf.set_sup(storage.dwarf(file, main_section));
            }
            dwarf.populate_abbreviations_cache(gimli::AbbreviationsCacheStrategy::Duplicates);
            dwarf
        };
        let mut dwarf = load();
        let units = Units::new(load());
        if let Some(abbreviations) = partial_units::without_line_tables(&dwarf) {
            dwarf.debug_abbrev = storage.bytes(abbreviations).into();
            dwarf.populate_abbreviations_cache(gimli::AbbreviationsCacheStrategy::Duplicates);
        }
        let context = Context::from_dwarf(dwarf).ok()?;
        Some(Self { context, split, functions: Functions::default(), units })
    }

    /// Returns the function at an address and the functions that it is inlined into, innermost first; empty if unknown.
    ///
    /// `symbol` is the function of the symbol table, for one without an entry.
    pub fn locations(&mut self, address: u64, symbol: Option<&Symbol<'_>>) -> Vec<CodeLocation> {
        let Self { context, split, functions, units } = self;
        let unit = resolve(context.find_dwarf_and_unit(address), split);
        let Ok(mut found) = resolve(context.find_frames(address), split) else { return Vec::new() };
        let frames: Vec<_> = std::iter::from_fn(|| found.next().ok().flatten()).collect();
        let is_split = unit.is_some_and(|unit| unit.dwo_id.is_some());
        let mut locations = Vec::new();
        // The line of an inlined function without a name belongs to the function that it is inlined into.
        let mut innermost = None;
        for (depth, frame) in frames.iter().enumerate() {
            let location = innermost.take().or(frame.location.as_ref());
            let file = location.and_then(|location| location.file);
            let file = file.map(|file| functions.intern(file));
            let entry = unit.and_then(|unit| Some((unit, frame.dw_die_offset?)));
            let name = frame.function.as_ref().map(|name| name.name.slice());
            let function = match (entry, name) {
                (Some(entry), Some(name)) => {
                    Some(functions.of_entry(name, entry, units, file.as_ref()))
                }
                _ if depth + 1 < frames.len() => None,
                _ => symbol.map(|symbol| functions.of_symbol(symbol, is_split, context)),
            };
            let Some(function) = function else {
                innermost = location;
                continue;
            };
            locations.push(CodeLocation { function, file, line: location.and_then(|l| l.line) });
        }
        locations
    }

    /// Returns the files with split debug information that were needed but not found.
    pub fn missing(&self) -> impl Iterator<Item = &str> {
        self.split.missing().iter().map(String::as_str)
    }
}

impl Functions {
    /// Returns the function with this name and entry. `executing` is the file of its executing line.
    fn of_entry<'a>(
        &mut self,
        name: &[u8],
        (unit, offset): (UnitRef<'_, Reader<'a>>, UnitOffset),
        units: &Units<'a>,
        executing: Option<&Rc<str>>,
    ) -> Rc<FunctionInfo> {
        // The units of split debug information all start at offset 0, so their offsets do not identify them.
        let key = (std::ptr::from_ref(unit.unit).addr(), offset.0);
        if let Some(known) = self.by_entry.get(&key) {
            return Rc::clone(known);
        }
        let Declaration { file, line } = declaration(unit, offset, units);
        let file = file.map(|file| self.intern(&file)).or(executing.cloned());
        let function = Rc::new(FunctionInfo { name: demangle(name), file, line });
        self.by_entry.insert(key, Rc::clone(&function));
        function
    }

    /// Returns the function of a symbol. It has the file and line of its first instruction, unless its debug information is split:
    /// then that instruction may be of code that is inlined there.
    fn of_symbol(
        &mut self,
        symbol: &Symbol<'_>,
        is_split: bool,
        context: &Context<Reader<'_>>,
    ) -> Rc<FunctionInfo> {
        if let Some(known) = self.by_start.get(&symbol.start) {
            return Rc::clone(known);
        }
        let first = context.find_location(symbol.start).ok().flatten().filter(|_| !is_split);
        let file = first.as_ref().and_then(|first| first.file).map(|file| self.intern(file));
        let (name, line) = (symbol.demangled(), first.and_then(|first| first.line));
        let function = Rc::new(FunctionInfo { name, file, line });
        self.by_start.insert(symbol.start, Rc::clone(&function));
        function
    }

    fn intern(&mut self, file: &str) -> Rc<str> {
        if let Some(known) = self.files.get(file) {
            return Rc::clone(known);
        }
        let shared: Rc<str> = Rc::from(file);
        self.files.insert(file.to_owned(), Rc::clone(&shared));
        shared
    }
}

/// Completes a lookup. Loads split debug information if it needs that.
fn resolve<'a, L: LookupContinuation<Buf = Reader<'a>>>(
    mut result: LookupResult<L>,
    split: &mut SplitFiles<'a>,
) -> L::Output {
    loop {
        result = match result {
            LookupResult::Output(output) => return output,
            LookupResult::Load { load, continuation } => continuation.resume(split.load(&load)),
        };
    }
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
    units: &'u Units<'a>,
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
        match origin.and_then(|origin| referenced(unit, &origin, units)) {
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
    units: &'u Units<'a>,
) -> Option<(UnitRef<'u, Reader<'a>>, UnitOffset)> {
    match *reference {
        gimli::AttributeValue::UnitRef(offset) => Some((unit, offset)),
        gimli::AttributeValue::DebugInfoRef(offset) => match unit.dwarf.file_type {
            DwarfFileType::Dwo => None,
            DwarfFileType::Main => match units.dwarf.sup() {
                Some(sup) if std::ptr::eq(unit.dwarf, sup) => units.supplementary_at(offset.0),
                _ => units.main_at(offset.0),
            },
        },
        gimli::AttributeValue::DebugInfoRefSup(offset) => units.supplementary_at(offset.0),
        _ => None,
    }
}

impl<'a> Units<'a> {
    fn new(dwarf: Dwarf<Reader<'a>>) -> Self {
        let main = units(&dwarf);
        let supplementary = dwarf.sup().map(units).unwrap_or_default();
        Self { dwarf, main, supplementary }
    }

    fn main_at(&self, offset: usize) -> Option<(UnitRef<'_, Reader<'a>>, UnitOffset)> {
        entry_at(&self.main, &self.dwarf, offset)
    }

    fn supplementary_at(&self, offset: usize) -> Option<(UnitRef<'_, Reader<'a>>, UnitOffset)> {
        entry_at(&self.supplementary, self.dwarf.sup()?, offset)
    }
}

/// Returns the entry at an offset in `.debug_info`.
fn entry_at<'u, 'a>(
    units: &'u [OtherUnit<'a>],
    dwarf: &'u Dwarf<Reader<'a>>,
    offset: usize,
) -> Option<(UnitRef<'u, Reader<'a>>, UnitOffset)> {
    let after = units.partition_point(|other| other.range.start <= offset);
    let other = units.get(after.checked_sub(1)?)?;
    let found = other.unit.get_or_init(|| dwarf.unit(other.header).ok()).as_ref()?;
    let within = gimli::DebugInfoOffset(offset).to_unit_offset(&other.header)?;
    Some((found.unit_ref(dwarf), within))
}

fn units<'a>(dwarf: &Dwarf<Reader<'a>>) -> Vec<OtherUnit<'a>> {
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
