//! Inspects an ELF file for everything that a profiler needs: symbols, line tables, unwind tables.

use std::collections::BTreeSet;
use std::path::Path;

use object::{Object, ObjectSection, ObjectSymbol, SymbolKind};

use crate::program::is_static;
use crate::sample;

/// What an ELF file contains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binary {
    /// Whether it has debug information.
    pub has_debug_info: bool,
    /// Whether it has line tables.
    pub has_lines: bool,
    /// Whether its debug information is installed as a separate file.
    pub has_debug_file: bool,
    /// Files with debug information that it refers to but that are not found.
    pub missing_files: BTreeSet<String>,
    /// Which function symbols it has.
    pub symbols: Symbols,
    /// Whether it has unwind tables.
    pub has_unwind_tables: bool,
    /// Whether it is linked statically.
    pub is_static: bool,
}

/// The function symbols of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Symbols {
    /// The full symbol table.
    All,
    /// Only exported symbols: the file is stripped.
    Exported,
    /// No symbols.
    None,
}

/// Inspects a file; `None` if it is not an ELF file.
pub fn inspect(data: &[u8], path: &Path) -> Option<Binary> {
    let file = object::File::parse(data).ok()?;
    if file.format() != object::BinaryFormat::Elf {
        return None;
    }
    let filled = |name: &str| file.section_by_name(name).is_some_and(|section| section.size() > 0);
    Some(Binary {
        has_debug_info: filled(".debug_info") || filled(".zdebug_info"),
        has_lines: filled(".debug_line") || filled(".zdebug_line"),
        has_debug_file: sample::has_debug_file(data, path),
        missing_files: sample::missing_files(data.to_vec(), path),
        symbols: symbols(&file),
        has_unwind_tables: filled(".eh_frame") || filled(".debug_frame"),
        is_static: is_static(data),
    })
}

fn symbols(file: &object::File<'_>) -> Symbols {
    let function = |symbol: &object::Symbol<'_, '_>| {
        symbol.kind() == SymbolKind::Text && symbol.is_definition()
    };
    if file.symbols().any(|symbol| function(&symbol)) {
        Symbols::All
    } else if file.dynamic_symbols().any(|symbol| function(&symbol)) {
        Symbols::Exported
    } else {
        Symbols::None
    }
}
