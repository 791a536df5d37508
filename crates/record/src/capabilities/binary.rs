//! What an ELF file tells a profiler about itself.

use std::path::Path;

use object::{Object, ObjectSection, ObjectSymbol, SymbolKind};

use crate::program::loader;
use crate::sample;

/// What is in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Binary {
    /// Functions, with names and types.
    pub has_debug_info: bool,
    /// Lines of machine code.
    pub has_lines: bool,
    /// Its debug information is installed as a file of its own.
    pub has_debug_file: bool,
    /// Names of functions: the full symbol table, or only that of what is exported.
    pub symbols: Symbols,
    /// How to walk the stack.
    pub has_unwind_tables: bool,
    /// Needs no loader.
    pub is_static: bool,
}

/// Which names of functions there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Symbols {
    /// The full table.
    All,
    /// Those that are exported only: it is stripped.
    Exported,
    /// None.
    None,
}

/// Looks into a file; none where it is no ELF file.
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
        symbols: symbols(&file),
        has_unwind_tables: filled(".eh_frame") || filled(".debug_frame"),
        is_static: loader(data).is_none(),
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
