//! Names of the stubs in the procedure linkage table (PLT), through which a file calls functions of libraries.
//!
//! A stub has no symbol. It jumps to the address in a slot of the global offset table, and a relocation of that slot names the
//! function. A stub that only starts the lazy resolution pushes the position of that relocation (System V ABI, AMD64
//! supplement, 5.2.4). All layouts of linkers are covered because the instructions are decoded: `.plt`, `.plt.sec` and
//! `.plt.got`, with and without `endbr64`.

use std::collections::HashMap;

use iced_x86::{Decoder, DecoderOptions, FlowControl, Mnemonic};
use object::read::elf::SectionHeader;
use object::{Object, ObjectSection, ObjectSymbol, ObjectSymbolTable, RelocationTarget};

use super::debug_storage::Elf;
use super::symbol_table::demangle;

/// Sections that consist of stubs.
const SECTIONS: [&str; 4] = [".plt", ".plt.sec", ".plt.bnd", ".plt.got"];

/// Size of a stub if the section does not state it, bytes.
const STUB_SIZE: u64 = 16;

/// The stubs of a file.
#[derive(Debug, Default)]
pub(super) struct Plt<'a> {
    sections: Vec<Stubs<'a>>,
    /// Functions by the address of their slot.
    by_slot: HashMap<u64, String>,
    /// Functions in the order of the relocations of `.plt`.
    by_position: Vec<Option<String>>,
}

#[derive(Debug)]
struct Stubs<'a> {
    start: u64,
    bytes: &'a [u8],
    stub_size: u64,
}

/// What a stub uses to find its function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reference {
    Slot(u64),
    Position(u64),
}

impl<'a> Plt<'a> {
    /// Reads the stubs of a file; there are none without section headers.
    pub fn read(file: &Elf<'a>) -> Self {
        let stubs = |section: object::read::elf::ElfSection64<'a, '_, _>| {
            let is_plt = section.name().is_ok_and(|name| SECTIONS.contains(&name));
            let bytes = section.data().ok().filter(|bytes| is_plt && !bytes.is_empty())?;
            let size = section.elf_section_header().sh_entsize(file.endian());
            let stub_size = if matches!(size, 8 | 16) { size } else { STUB_SIZE };
            Some(Stubs { start: section.address(), bytes, stub_size })
        };
        let sections: Vec<_> = file.sections().filter_map(stubs).collect();
        if sections.is_empty() {
            return Self::default();
        }
        Self {
            sections,
            by_slot: functions_by_slot(file),
            by_position: functions_by_position(file),
        }
    }

    /// Returns the name of the stub at an address: `function@plt`, or `[plt of module]` if its function is not known. `None` if
    /// there is no stub.
    pub fn name_at(&self, address: u64, module: &str) -> Option<String> {
        let stub = self.sections.iter().find_map(|section| section.stub_at(address))?;
        let function = references(stub).find_map(|reference| match reference {
            Reference::Slot(slot) => self.by_slot.get(&slot),
            Reference::Position(at) => self.by_position.get(usize::try_from(at).ok()?)?.as_ref(),
        });
        Some(match function {
            Some(function) => format!("{function}@plt"),
            None => format!("[plt of {}]", module.rsplit('/').next().unwrap_or(module)),
        })
    }
}

impl<'a> Stubs<'a> {
    /// Returns the address and the bytes of the stub that contains an address.
    fn stub_at(&self, address: u64) -> Option<(u64, &'a [u8])> {
        let offset = address.checked_sub(self.start)?;
        let begin = offset - offset % self.stub_size;
        let stub =
            self.bytes.get(usize::try_from(begin).ok()?..).filter(|rest| !rest.is_empty())?;
        let length = stub.len().min(usize::try_from(self.stub_size).ok()?);
        Some((self.start + begin, &stub[..length]))
    }
}

/// Returns the references of a stub, up to its first jump.
fn references((start, bytes): (u64, &[u8])) -> impl Iterator<Item = Reference> + '_ {
    let mut decoder = Decoder::with_ip(64, bytes, start, DecoderOptions::NONE);
    let mut is_over = false;
    let instructions = std::iter::from_fn(move || {
        let next = (!is_over && decoder.can_decode()).then(|| decoder.decode())?;
        is_over = next.flow_control() != FlowControl::Next;
        Some(next)
    });
    instructions.filter_map(|instruction| match instruction.mnemonic() {
        Mnemonic::Jmp if instruction.is_ip_rel_memory_operand() => {
            Some(Reference::Slot(instruction.ip_rel_memory_address()))
        }
        Mnemonic::Push if instruction.op_count() == 1 => {
            instruction.try_immediate(0).ok().map(Reference::Position)
        }
        _ => None,
    })
}

fn functions_by_slot(file: &Elf<'_>) -> HashMap<u64, String> {
    let relocations = file.dynamic_relocations().into_iter().flatten();
    let named =
        relocations.filter_map(|(slot, relocation)| Some((slot, name_of(file, &relocation)?)));
    named.collect()
}

/// Returns the functions of the relocations that the loader may apply late, in their order.
fn functions_by_position(file: &Elf<'_>) -> Vec<Option<String>> {
    let Some(section) = file.section_by_name(".rela.plt") else { return Vec::new() };
    let Ok(Some((entries, _))) = section.elf_section_header().rela(file.endian(), file.data())
    else {
        return Vec::new();
    };
    let index = |entry: &object::elf::Rela64<_>| entry.r_sym(file.endian(), false) as usize;
    entries.iter().map(|entry| symbol_name(file, object::SymbolIndex(index(entry)))).collect()
}

fn name_of(file: &Elf<'_>, relocation: &object::Relocation) -> Option<String> {
    match relocation.target() {
        RelocationTarget::Symbol(index) => symbol_name(file, index),
        _ => None,
    }
}

fn symbol_name(file: &Elf<'_>, index: object::SymbolIndex) -> Option<String> {
    let symbol = file.dynamic_symbol_table()?.symbol_by_index(index).ok()?;
    let name = symbol.name_bytes().ok().filter(|name| !name.is_empty())?;
    Some(demangle(name))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::process::Command;

    use simprof_testkit::{TestFolder, run};

    use super::*;
    use crate::sample::debug_storage::Storage;
    use crate::sample::module::SharedBytes;
    use crate::sample::symbol_table::SymbolTable;

    /// Calls four functions of libraries; one of them also by its address.
    const SOURCE: &str = "#include <math.h>
#include <stdlib.h>
int main(int n, char **a) {
    double (*volatile f)(double) = cbrt;
    double x = strtod(a[0], 0);
    for (int i = 0; i < n; i++) { x += sin(x) + cos(x * i); x += f(x) + cbrt(x); }
    return (int)x;
}
";

    /// Compiles a program, and returns the names of all bytes of its stubs.
    fn names(options: &[&str]) -> BTreeSet<String> {
        let folder = TestFolder::new();
        let (source, program) = (folder.write("program.c", SOURCE), folder.text_path("program"));
        let compiler = ["-O2", "-fno-builtin", "-o", &program];
        run(Command::new("cc").args(compiler).args(options).arg(&source).arg("-lm"));
        let storage = Storage::default();
        let bytes = SharedBytes::from_vec(std::fs::read(&program).expect("built"));
        let file = storage.file(bytes).expect("an ELF file");
        let (plt, symbols) = (Plt::read(&file), SymbolTable::read(&[&file]));
        let addresses =
            plt.sections.iter().flat_map(|at| at.start..at.start + at.bytes.len() as u64);
        let name = |address| {
            assert_eq!(symbols.at(address), None, "no symbol contains stubs");
            plt.name_at(address, "/w/program").expect("it is in a stub")
        };
        let names = addresses.map(name).collect();
        let end = plt.sections.iter().map(|at| at.start + at.bytes.len() as u64).max();
        assert_eq!(plt.name_at(end.unwrap_or(0), "program"), None);
        names
    }

    #[test]
    fn stubs_have_the_names_of_their_functions() {
        let called = ["cbrt", "cos", "sin", "strtod"].map(|name| format!("{name}@plt"));
        for options in [
            &[][..],
            &["-Wl,-z,lazy"],
            &["-Wl,-z,now"],
            &["-fcf-protection=full", "-Wl,-z,ibtplt,-z,lazy"],
            &["-fcf-protection=none", "-Wl,-z,lazy"],
            &["-no-pie"],
            &["-s", "-Wl,-z,lazy"],
        ] {
            let found = names(options);
            for name in &called {
                assert!(found.contains(name), "{name} of {options:?}: {found:?}");
            }
            let others: Vec<_> = found.iter().filter(|name| !called.contains(name)).collect();
            // The start of the table, and `__cxa_finalize`, which the C runtime calls.
            let known = ["[plt of program]", "__cxa_finalize@plt"];
            assert!(others.iter().all(|name| known.contains(&name.as_str())), "{found:?}");
        }
        let without = names(&["-fno-plt"]);
        assert!(called.iter().all(|name| !without.contains(name)), "{without:?}");
    }
}
