//! Function names from the symbol tables of an ELF file.

use object::elf;
use object::read::elf::{ElfFile64, Sym};
use object::{Endianness, Object, ObjectSection, ObjectSymbol, SymbolFlags};

use super::debug_storage::Elf;
use super::dynamic_symbols::{self, DynamicSymbol};

/// A function in a symbol table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Symbol<'a> {
    pub start: u64,
    /// Bytes; zero if unknown.
    size: u64,
    /// End of the section that contains it, [`u64::MAX`] if unknown.
    limit: u64,
    /// Orders the names of one address: the smallest is used.
    rank: (bool, u8, usize),
    name: &'a [u8],
}

impl<'a> Symbol<'a> {
    /// Returns the symbol if it names code.
    fn new(name: &'a [u8], info: elf::SymbolInfo, start: u64, size: u64) -> Option<Self> {
        let kind = info.st_type();
        if !matches!(kind, elf::STT_FUNC | elf::STT_GNU_IFUNC | elf::STT_NOTYPE) {
            return None;
        }
        // Names such as `$x` mark ranges of code and data.
        if name.is_empty() || name[0] == b'$' {
            return None;
        }
        let binding = match info.st_bind() {
            elf::STB_GLOBAL => 0,
            elf::STB_WEAK => 1,
            _ => 2,
        };
        let underscores = name.iter().take_while(|&&byte| byte == b'_').count();
        let rank = (kind == elf::STT_NOTYPE, binding, underscores);
        Some(Self { start, size, limit: u64::MAX, rank, name })
    }

    /// Returns its addresses; `None` if its size is unknown.
    pub fn range(&self) -> Option<std::ops::Range<u64>> {
        (self.size > 0).then(|| self.start..self.start.saturating_add(self.size))
    }

    /// Returns the demangled name.
    pub fn demangled(&self) -> String {
        demangle(self.name)
    }
}

/// The functions of an ELF file, by address.
#[derive(Debug, Default)]
pub(super) struct SymbolTable<'a> {
    symbols: Vec<Symbol<'a>>,
}

impl<'a> SymbolTable<'a> {
    /// Reads the symbols of `files`, which must belong to one program (a stripped file and its debug file).
    pub fn read(files: &[&Elf<'a>]) -> Self {
        let mut symbols: Vec<_> = files.iter().flat_map(|file| functions(file)).collect();
        symbols.sort_by(|a, b| (a.start, a.rank, a.name).cmp(&(b.start, b.rank, b.name)));
        symbols.dedup_by_key(|symbol| symbol.start);
        Self { symbols }
    }

    /// Returns the function at an address.
    pub fn at(&self, address: u64) -> Option<&Symbol<'a>> {
        let after = self.symbols.partition_point(|symbol| symbol.start <= address);
        let symbol = &self.symbols[after.checked_sub(1)?];
        let is_within = symbol.size == 0 || address - symbol.start < symbol.size;
        (is_within && address < symbol.limit).then_some(symbol)
    }
}

#[cfg(test)]
impl SymbolTable<'_> {
    /// Returns the addresses of the function whose name ends like this; none if there is none.
    pub fn range_of(&self, name: &str) -> std::ops::Range<u64> {
        let found = self.symbols.iter().find(|symbol| symbol.demangled().ends_with(name));
        found.map_or(0..0, |symbol| symbol.start..symbol.start + symbol.size)
    }
}

/// Returns whether an ELF file defines a function whose name satisfies `matches`.
pub(super) fn defines(bytes: &[u8], matches: impl Fn(&str) -> bool) -> bool {
    let Ok(file) = ElfFile64::<Endianness>::parse(bytes) else { return false };
    let matches = |name: &[u8]| std::str::from_utf8(name).is_ok_and(&matches);
    functions(&file).iter().any(|symbol| matches(symbol.name))
}

/// Returns the functions in the symbol tables of a file.
fn functions<'a>(file: &Elf<'a>) -> Vec<Symbol<'a>> {
    if file.elf_section_table().is_empty() {
        let symbols = dynamic_symbols::read(file);
        return symbols.iter().filter_map(|symbol| of_segment(symbol, file.endian())).collect();
    }
    let symbols = file.dynamic_symbols().chain(file.symbols());
    symbols.filter_map(|symbol| of_section(file, &symbol)).collect()
}

fn of_section<'a>(
    file: &Elf<'a>,
    symbol: &object::read::elf::ElfSymbol64<'a, '_, Endianness>,
) -> Option<Symbol<'a>> {
    let SymbolFlags::Elf { st_info, .. } = symbol.flags() else { return None };
    let section = file.section_by_index(symbol.section_index()?).ok();
    let found = Symbol::new(symbol.name_bytes().ok()?, st_info, symbol.address(), symbol.size())?;
    let limit =
        section.map_or(u64::MAX, |section| section.address().saturating_add(section.size()));
    Some(Symbol { limit, ..found })
}

fn of_segment<'a>(symbol: &DynamicSymbol<'a>, endian: Endianness) -> Option<Symbol<'a>> {
    let entry = symbol.entry;
    if entry.st_shndx(endian) == elf::SHN_UNDEF {
        return None;
    }
    Symbol::new(symbol.name, entry.st_info(), entry.st_value(endian), entry.st_size(endian))
}

/// Suffixes that compilers append to the names of function variants.
const VARIANTS: [&str; 6] = [".cold", ".constprop.", ".isra.", ".llvm.", ".lto_priv.", ".part."];

/// Demangles a symbol's name, without its version (`@@GLIBC_2.34`) and variant (`.cold`).
///
/// Only names with a mangling prefix are demangled: otherwise the C function `f` would become `float`.
pub(super) fn demangle(name: &[u8]) -> String {
    let name = String::from_utf8_lossy(name);
    let suffixes = VARIANTS.iter().chain(&["@"]).filter_map(|suffix| name.find(suffix));
    let bare = match suffixes.min() {
        Some(at) if at > 0 => &name[..at],
        _ => &name,
    };
    let readable = if bare.starts_with("_R") {
        addr2line::demangle(bare, gimli::DW_LANG_Rust)
    } else if bare.starts_with("_Z") {
        addr2line::demangle(bare, gimli::DW_LANG_Rust)
            .or_else(|| addr2line::demangle(bare, gimli::DW_LANG_C_plus_plus))
    } else {
        None
    };
    readable.unwrap_or_else(|| bare.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_demangled_and_stripped_of_versions() {
        let table = [
            ("main", "main"),
            ("f", "f"),
            ("work.isra.0.cold", "work"),
            ("main.main", "main.main"),
            ("_ZN5world4GridImE4spinEm.isra.0", "world::Grid<unsigned long>::spin(unsigned long)"),
            ("St", "St"),
            ("memcpy@@GLIBC_2.14", "memcpy"),
            ("_ZN4core3fmt5Write9write_fmt17h0123456789abcdefE", "core::fmt::Write::write_fmt"),
            ("_RNvC6_123foo3bar", "123foo::bar"),
            (
                "_ZNSt6vectorIiSaIiEE9push_backERKi",
                "std::vector<int, std::allocator<int> >::push_back(int const&)",
            ),
            ("_Znonsense", "_Znonsense"),
        ];
        for (mangled, plain) in table {
            assert_eq!(demangle(mangled.as_bytes()), plain);
        }
        assert_eq!(demangle(b"bad\xff"), "bad\u{fffd}");
    }

    #[test]
    fn a_symbol_ends_after_its_size() {
        let symbol = |start, size, name: &'static str| Symbol {
            start,
            size,
            limit: 0x70,
            rank: (false, 0, 0),
            name: name.as_bytes(),
        };
        let symbols = vec![
            symbol(0x10, 0x10, "a"),
            symbol(0x30, 0, "b"),
            symbol(0x50, 8, "c"),
            symbol(0x60, 0, "d"),
        ];
        let table = SymbolTable { symbols };
        let cases = [
            (0x0f, None),
            (0x10, Some("a")),
            (0x1f, Some("a")),
            (0x20, None),
            (0x30, Some("b")),
            (0x4f, Some("b")),
            (0x57, Some("c")),
            (0x58, None),
            (0x6f, Some("d")),
            (0x70, None),
        ];
        for (address, name) in cases {
            assert_eq!(table.at(address).map(Symbol::demangled).as_deref(), name, "{address:#x}");
        }
    }
}
