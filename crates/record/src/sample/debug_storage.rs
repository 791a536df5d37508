//! Keeps the bytes of debug files in memory for as long as something refers to them.

use std::convert::Infallible;

use gimli::{Dwarf, EndianSlice, NativeEndian, SectionId};
use object::read::elf::ElfFile64;
use object::{Endianness, Object, ObjectSection};
use typed_arena::Arena;

use super::module::SharedBytes;

/// The bytes of a section.
pub(super) type Reader<'a> = EndianSlice<'a, NativeEndian>;
/// An ELF file.
pub(super) type Elf<'a> = ElfFile64<'a, Endianness>;

/// Files and decompressed sections. It only grows, because debug files are found one by one during the lookup of addresses.
#[derive(Default)]
pub(super) struct Storage {
    files: Arena<SharedBytes>,
    sections: Arena<Vec<u8>>,
}

impl Storage {
    /// Keeps a file and parses its headers; `None` if it is not a 64-bit ELF file.
    pub fn file(&self, bytes: SharedBytes) -> Option<Elf<'_>> {
        ElfFile64::parse(&**self.files.alloc(bytes)).ok()
    }

    /// Keeps bytes.
    pub fn bytes(&self, bytes: Vec<u8>) -> Reader<'_> {
        EndianSlice::new(self.sections.alloc(bytes), NativeEndian)
    }

    /// Returns a section, decompressed if necessary; empty if the file does not have it.
    pub fn section<'a>(&'a self, file: &Elf<'a>, name: Option<&str>) -> Reader<'a> {
        let section = name.and_then(|name| file.section_by_name(name));
        match section.and_then(|section| section.uncompressed_data().ok()) {
            Some(std::borrow::Cow::Borrowed(bytes)) => EndianSlice::new(bytes, NativeEndian),
            Some(std::borrow::Cow::Owned(bytes)) => self.bytes(bytes),
            None => EndianSlice::new(&[], NativeEndian),
        }
    }

    /// Returns the debug sections of a file. `name` gives the name that a section has there.
    pub fn dwarf<'a>(
        &'a self,
        file: &Elf<'a>,
        name: fn(SectionId) -> Option<&'static str>,
    ) -> Dwarf<Reader<'a>> {
        match Dwarf::load(|id| Ok::<_, Infallible>(self.section(file, name(id)))) {
            Ok(dwarf) => dwarf,
            Err(never) => match never {},
        }
    }
}

/// Names the sections of a program or of its debug file.
pub(super) fn main_section(id: SectionId) -> Option<&'static str> {
    Some(id.name())
}
