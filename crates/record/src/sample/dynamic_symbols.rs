//! Exported symbols of a file without section headers, found as the loader finds them: by the dynamic segment.

use object::elf;
use object::read::elf::{Dyn, GnuHashTable, HashTable, ProgramHeader};
use object::{Endianness, pod};

use super::debug_storage::Elf;

type Header = elf::FileHeader64<Endianness>;

/// An exported symbol.
#[derive(Debug, Clone, Copy)]
pub(super) struct DynamicSymbol<'a> {
    pub name: &'a [u8],
    pub entry: &'a elf::Sym64<Endianness>,
}

/// Returns the symbols of the dynamic segment; none if there is no such segment.
pub(super) fn read<'a>(file: &Elf<'a>) -> Vec<DynamicSymbol<'a>> {
    DynamicSegment::find(file).and_then(|segment| segment.symbols()).unwrap_or_default()
}

struct DynamicSegment<'f, 'a> {
    file: &'f Elf<'a>,
    entries: &'a [elf::Dyn64<Endianness>],
}

impl<'f, 'a> DynamicSegment<'f, 'a> {
    fn find(file: &'f Elf<'a>) -> Option<Self> {
        let dynamic = |header: &elf::ProgramHeader64<_>| header.dynamic(file.endian(), file.data());
        let entries =
            file.elf_program_headers().iter().find_map(|header| dynamic(header).ok()?)?;
        Some(Self { file, entries })
    }

    fn symbols(&self) -> Option<Vec<DynamicSymbol<'a>>> {
        let names = self.bytes_of(elf::DT_STRTAB)?;
        let table = self.bytes_of(elf::DT_SYMTAB)?;
        let (entries, _) =
            pod::slice_from_bytes::<elf::Sym64<Endianness>>(table, self.count()?).ok()?;
        let named = |entry: &'a elf::Sym64<Endianness>| {
            let name = names.get(entry.st_name.get(self.file.endian()) as usize..)?;
            let end = name.iter().position(|&byte| byte == 0)?;
            Some(DynamicSymbol { name: &name[..end], entry })
        };
        Some(entries.iter().filter_map(named).collect())
    }

    /// Returns the number of symbols, which only the hash tables state.
    fn count(&self) -> Option<usize> {
        let endian = self.file.endian();
        let classic = || {
            let table = HashTable::<Header>::parse(endian, self.bytes_of(elf::DT_HASH)?).ok()?;
            Some(table.symbol_table_length())
        };
        let gnu = || {
            let bytes = self.bytes_of(elf::DT_GNU_HASH)?;
            GnuHashTable::<Header>::parse(endian, bytes).ok()?.symbol_table_length(endian)
        };
        usize::try_from(classic().or_else(gnu)?).ok()
    }

    /// Returns the bytes at the address that an entry states, up to the end of the load segment.
    fn bytes_of(&self, tag: elf::DynamicTag) -> Option<&'a [u8]> {
        let endian = self.file.endian();
        let entry = self.entries.iter().find(|entry| entry.d_tag(endian) == tag)?;
        let address = entry.d_val(endian);
        self.file.elf_program_headers().iter().find_map(|header| {
            if header.p_type(endian) != elf::PT_LOAD {
                return None;
            }
            let data = header.data(endian, self.file.data()).ok()?;
            let offset = address.checked_sub(header.p_vaddr(endian))?;
            data.get(usize::try_from(offset).ok()?..).filter(|rest| !rest.is_empty())
        })
    }
}
