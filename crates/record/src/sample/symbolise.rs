//! Finds functions and lines for the addresses of a module: from debug information, otherwise from symbols, otherwise from
//! function bounds.
//!
//! Three libraries were compared on 20,000 addresses of a Rust release binary. They returned the same names (19,719 named
//! addresses, 81,000 frames): `addr2line` in 165 to 230 ms, `blazesym` in 170 to 180 ms, `wholesym` in 210 ms. `addr2line`
//! was chosen for three reasons:
//!
//! - It is the only one that gives access to a function's entry, and so to its declaration.
//! - It reads bytes, so that files can be opened while the target runs, instead of paths.
//! - Most of its 19 crates are needed for unwinding anyway. `blazesym` adds 15, among them a second version of `gimli`;
//!   `wholesym` about 200, among them an asynchronous runtime and a network client.

use std::path::Path;
use std::rc::Rc;

use gimli::{BaseAddresses, EhFrame, EhFrameHdr, NativeEndian, UnwindSection};
use object::read::elf::ElfFile64;
use object::{Endianness, Object, ObjectSection};

use super::debug_file;
use super::dwarf::{self, CodeLocation, DebugInfo, FunctionInfo};
use super::module::ModuleFile;
use super::symbol_table::SymbolTable;

/// The functions at an address.
#[derive(Debug, Clone)]
pub(super) struct Symbolised {
    /// Innermost first, never empty.
    pub locations: Vec<CodeLocation>,
    /// False if the name is only `module+0xoffset`.
    pub named: bool,
}

/// Symbolises addresses of a module, as its file states them. Returns the results in the order of the addresses.
pub(super) fn addresses(module: &ModuleFile, addresses: &[u64]) -> Vec<Symbolised> {
    let unnamed = |&address: &u64| offset_in(module, address);
    let Some(image) = &module.image else { return addresses.iter().map(unnamed).collect() };
    let Ok(file) = ElfFile64::<Endianness>::parse(&**image.bytes()) else {
        return addresses.iter().map(unnamed).collect();
    };
    let path = Path::new(&module.path);
    let separate = if dwarf::is_in(&file) { None } else { debug_file::find(&file, path) };
    let separate = separate.as_deref().and_then(|bytes| ElfFile64::parse(bytes).ok());
    let debug = separate.as_ref().unwrap_or(&file);
    let supplementary = debug_file::find_supplementary(debug, path);
    let supplementary = supplementary.as_deref().and_then(|bytes| ElfFile64::parse(bytes).ok());

    let sections = dwarf::load(debug);
    let shared = supplementary.as_ref().map(dwarf::load);
    let mut info = DebugInfo::new(&sections, shared.as_ref());
    let files: Vec<_> = std::iter::once(&file).chain(&separate).collect();
    let symbols = SymbolTable::read(&files);
    let bounds = FunctionBounds::read(&file);
    addresses
        .iter()
        .map(|&address| {
            let symbol = || symbols.name_at(address);
            let locations =
                info.as_mut().map(|info| info.locations(address, symbol)).unwrap_or_default();
            if !locations.is_empty() {
                return Symbolised { locations, named: true };
            }
            match symbol() {
                Some(name) => Symbolised { locations: vec![name_only(name)], named: true },
                None => offset_in(module, bounds.start_of(address).unwrap_or(address)),
            }
        })
        .collect()
}

/// Returns the name of an address without a symbol: `module+0xoffset`.
fn offset_in(module: &ModuleFile, address: u64) -> Symbolised {
    let name = module.path.rsplit('/').next().unwrap_or(&module.path);
    Symbolised { locations: vec![name_only(format!("{name}+{address:#x}"))], named: false }
}

/// Returns a location of which only the function's name is known.
pub(super) fn name_only(name: String) -> CodeLocation {
    let function = FunctionInfo { name, ..Default::default() };
    CodeLocation { function: Rc::new(function), file: None, line: None }
}

/// Start addresses of functions, from the unwind table, which stripped files keep.
struct FunctionBounds<'a> {
    sections: Option<BoundsSections<'a>>,
}

struct BoundsSections<'a> {
    frame: EhFrame<Reader<'a>>,
    header: gimli::ParsedEhFrameHdr<Reader<'a>>,
    bases: BaseAddresses,
}

type Reader<'a> = gimli::EndianSlice<'a, NativeEndian>;

impl<'a> FunctionBounds<'a> {
    fn read(file: &ElfFile64<'a, Endianness>) -> Self {
        Self { sections: bounds_sections(file) }
    }

    /// Returns the start of the function that contains an address.
    fn start_of(&self, address: u64) -> Option<u64> {
        let BoundsSections { frame, header, bases } = self.sections.as_ref()?;
        let entry = header
            .table()?
            .fde_for_address(frame, bases, address, EhFrame::cie_from_offset)
            .ok()?;
        entry.contains(address).then(|| entry.initial_address())
    }
}

fn bounds_sections<'a>(file: &ElfFile64<'a, Endianness>) -> Option<BoundsSections<'a>> {
    let section = |name| file.section_by_name(name);
    let (header, frame) = (section(".eh_frame_hdr")?, section(".eh_frame")?);
    let mut bases =
        BaseAddresses::default().set_eh_frame_hdr(header.address()).set_eh_frame(frame.address());
    for (name, set) in [
        (".text", BaseAddresses::set_text as fn(BaseAddresses, u64) -> BaseAddresses),
        (".got", BaseAddresses::set_got),
    ] {
        if let Some(section) = section(name) {
            bases = set(bases, section.address());
        }
    }
    let parsed = EhFrameHdr::new(header.data().ok()?, NativeEndian).parse(&bases, 8).ok()?;
    Some(BoundsSections {
        frame: EhFrame::new(frame.data().ok()?, NativeEndian),
        header: parsed,
        bases,
    })
}
