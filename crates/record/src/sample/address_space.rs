//! The code mappings of one process.

use std::ops::Range;
use std::sync::Arc;

use gimli::UnwindContext;

use super::call_sites::{LONGEST_CALL, ends_with_call};
use super::code_exit::{self, Exit};
use super::module::{FileMapping, Image, ModuleIndex, ModuleTable};
use super::process_memory::ProcessMemory;
use super::raw_stacks::{FastMap, RawFrame, RawFrameId, RawStacks};
use super::registers::Registers;
use super::unwind_rule::{self, Rule};
use super::unwind_table::Entry;

/// Bytes of a page.
const PAGE: u64 = 4096;
/// Bytes after a program's entry point in which its start is known to lie.
const ENTRY_BYTES: u64 = 256;
/// The code to which a signal handler returns: `mov $15, %rax; syscall`, which calls `rt_sigreturn`.
const SIGNAL_RETURN: [u8; 9] = [0x48, 0xc7, 0xc0, 15, 0, 0, 0, 0x0f, 0x05];

/// A mapping of code.
#[derive(Debug, Clone)]
struct Mapping {
    range: Range<u64>,
    module: ModuleIndex,
    /// Address in the process minus address as the module's file states it.
    bias: u64,
    /// The module's content; `None` if it is not known.
    image: Option<Arc<Image>>,
}

/// How to find the caller of the code at an address.
#[derive(Debug, Clone, Copy)]
pub(super) struct Code {
    pub rule: Rule,
    /// Whether a program starts here.
    pub is_entry: bool,
}

/// The code mappings of one process. A forked process starts with a copy.
#[derive(Clone, Default)]
pub(super) struct AddressSpace {
    /// In order of address, not overlapping.
    mappings: Vec<Mapping>,
    /// Parts of files that memory without a file has replaced.
    replaced: Vec<Mapping>,
    /// What was looked up since the last new mapping.
    known: Known,
}

/// Results by address.
#[derive(Clone, Default)]
struct Known {
    frames: FastMap<u64, RawFrameId>,
    codes: FastMap<u64, Code>,
    exits: FastMap<u64, Option<Exit>>,
    return_addresses: FastMap<u64, bool>,
}

impl AddressSpace {
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a mapping of code. Parts of earlier mappings that it overlaps are removed.
    pub fn map(&mut self, mapping: &FileMapping, module: ModuleIndex, modules: &ModuleTable) {
        if mapping.range.is_empty() {
            return;
        }
        let image = modules.get(module).image.clone();
        let stated = match &image {
            Some(image) => image.svma_at(mapping.file_offset),
            None if module == ModuleIndex::ANONYMOUS => Some(mapping.range.start),
            None => Some(mapping.file_offset),
        };
        let bias = mapping.range.start.wrapping_sub(stated.unwrap_or(mapping.file_offset));
        self.insert(Mapping { range: mapping.range.clone(), module, bias, image });
    }

    /// Inserts a mapping in place of what it overlaps.
    fn insert(&mut self, mapping: Mapping) {
        self.unmap(&mapping.range, mapping.module == ModuleIndex::ANONYMOUS);
        let index = self.mappings.partition_point(|known| known.range.start < mapping.range.start);
        self.mappings.insert(index, mapping);
        self.known = Known::default();
    }

    /// Removes the parts of mappings that overlap `range`. Keeps parts of files in mind if memory without a file replaces them.
    fn unmap(&mut self, range: &Range<u64>, by_anonymous: bool) {
        let first = self.mappings.partition_point(|known| known.range.end <= range.start);
        let last = self.mappings.partition_point(|known| known.range.start < range.end);
        if first >= last {
            return;
        }
        let mut kept = Vec::new();
        for old in self.mappings.drain(first..last) {
            let start = range.start.clamp(old.range.start, old.range.end);
            let end = range.end.clamp(old.range.start, old.range.end);
            if by_anonymous && old.image.is_some() {
                self.replaced.push(Mapping { range: start..end, ..old.clone() });
            }
            let outside = [old.range.start..start, end..old.range.end];
            kept.extend(outside.map(|range| Mapping { range, ..old.clone() }));
        }
        kept.retain(|mapping| !mapping.range.is_empty());
        self.mappings.splice(first..first, kept);
    }

    /// Returns the interned frame of a code address; `None` if the code belongs to no file, so that its name may change.
    pub fn file_frame_at(&mut self, address: u64, stacks: &mut RawStacks) -> Option<RawFrameId> {
        if let Some(&frame) = self.known.frames.get(&address) {
            return Some(frame);
        }
        let located = self.locate(address);
        if matches!(located.module, ModuleIndex::ANONYMOUS | ModuleIndex::UNKNOWN) {
            return None;
        }
        let frame = stacks.frame(located);
        self.known.frames.insert(address, frame);
        Some(frame)
    }

    /// Returns whether the code at an address is mapped from a file.
    pub fn is_file(&self, address: u64) -> bool {
        let mapping = self.mapping_at(address);
        mapping.is_some_and(|mapping| mapping.module != ModuleIndex::ANONYMOUS)
    }

    /// Returns whether code is mapped at an address.
    pub fn contains(&self, address: u64) -> bool {
        self.mapping_at(address).is_some()
    }

    /// Returns how to find the caller of the code at an address.
    pub fn code_at(
        &mut self,
        address: u64,
        memory: ProcessMemory,
        context: &mut UnwindContext<usize>,
    ) -> Code {
        if let Some(&known) = self.known.codes.get(&address) {
            return known;
        }
        self.restore_replaced(address, memory);
        let rule =
            self.entry_at(address).map(|(entry, svma)| Rule::of_table(&entry, svma, context));
        let is_entry = self.image_at(address).is_some_and(|(image, svma)| {
            (image.entry()..image.entry().saturating_add(ENTRY_BYTES)).contains(&svma)
        });
        let code = Code { rule: rule.unwrap_or(Rule::None), is_entry };
        self.known.codes.insert(address, code);
        code
    }

    /// Returns the caller's registers by the expressions of the unwind table. `read` reads a word of the stack.
    pub fn computed_caller(
        &self,
        address: u64,
        registers: &Registers,
        context: &mut UnwindContext<usize>,
        read: impl Fn(u64) -> Option<u64>,
    ) -> Option<Registers> {
        let (entry, svma) = self.entry_at(address)?;
        unwind_rule::computed_caller(&entry, svma, registers, context, read)
    }

    /// Returns how the function at an address ends, by its instructions; `None` if that is unknown.
    pub fn exit_at(&mut self, address: u64, memory: ProcessMemory) -> Option<Exit> {
        if let Some(&known) = self.known.exits.get(&address) {
            return known;
        }
        let exit = code_exit::find(address, |at, bytes| self.read_code(at, memory, bytes));
        self.known.exits.insert(address, exit);
        exit
    }

    /// Returns whether code is mapped at an address, and the instruction before it is a call.
    pub fn is_return_address(&mut self, address: u64, memory: ProcessMemory) -> bool {
        let Some(mapping) = address.checked_sub(1).and_then(|call| self.mapping_at(call)) else {
            return false;
        };
        if let Some(&known) = self.known.return_addresses.get(&address) {
            return known;
        }
        let start = address.saturating_sub(LONGEST_CALL as u64).max(mapping.range.start);
        let can_change = mapping.image.is_none();
        let mut before = [0; LONGEST_CALL];
        let before = &mut before[..(address - start) as usize];
        let length = self.read_code(start, memory, before);
        // Generated code cannot be checked if its process has ended.
        let follows = if length == 0 { can_change } else { ends_with_call(&before[..length]) };
        if follows || !can_change {
            self.known.return_addresses.insert(address, follows);
        }
        follows
    }

    /// Returns whether a function starts at an address or one byte before. No call returns there, but programs that make stacks
    /// of their own put the address of such a function below the first one.
    pub fn is_function_start(&self, address: u64) -> bool {
        self.image_at(address).is_some_and(|(image, svma)| {
            [svma, svma.wrapping_sub(1)].into_iter().any(|start| {
                image.unwind.function_at(start).is_some_and(|function| function.start == start)
            })
        })
    }

    /// Returns whether a signal handler returns to an address.
    pub fn is_signal_return(&self, address: u64, memory: ProcessMemory) -> bool {
        if self.entry_at(address).is_some_and(|(entry, _)| entry.is_signal()) {
            return true;
        }
        let mut code = [0; SIGNAL_RETURN.len()];
        self.contains(address)
            && self.read_code(address, memory, &mut code) == code.len()
            && code == SIGNAL_RETURN
    }

    /// Returns the frame of an address.
    pub fn locate(&self, address: u64) -> RawFrame {
        match self.mapping_at(address) {
            Some(mapping) => {
                RawFrame { module: mapping.module, address: address.wrapping_sub(mapping.bias) }
            }
            None => RawFrame { module: ModuleIndex::UNKNOWN, address },
        }
    }

    fn mapping_at(&self, address: u64) -> Option<&Mapping> {
        let after = self.mappings.partition_point(|known| known.range.start <= address);
        let mapping = &self.mappings[after.checked_sub(1)?];
        mapping.range.contains(&address).then_some(mapping)
    }

    /// Returns the content of the module at an address, and the address as its file states it.
    fn image_at(&self, address: u64) -> Option<(&Image, u64)> {
        let mapping = self.mapping_at(address)?;
        Some((mapping.image.as_ref()?, address.wrapping_sub(mapping.bias)))
    }

    /// Returns the entry of the unwind table for an address, and the address as the file states it.
    fn entry_at(&self, address: u64) -> Option<(Entry<'_>, u64)> {
        let (image, svma) = self.image_at(address)?;
        Some((image.unwind.entry_at(svma)?, svma))
    }

    /// Fills the start of `bytes` with the code at an address. Returns the number of bytes.
    fn read_code(&self, address: u64, memory: ProcessMemory, bytes: &mut [u8]) -> usize {
        match self.image_at(address) {
            Some((image, svma)) => {
                let code = image.code_at(svma);
                let length = code.len().min(bytes.len());
                bytes[..length].copy_from_slice(&code[..length]);
                length
            }
            None => memory.read(address, bytes),
        }
    }

    /// Maps a part of a file again that was replaced by memory with the same code, as programs do to get large pages.
    fn restore_replaced(&mut self, address: u64, memory: ProcessMemory) {
        let Some(mapping) = self.mapping_at(address) else { return };
        if mapping.module != ModuleIndex::ANONYMOUS {
            return;
        }
        let Some(file) = self.replaced.iter().rev().find(|file| file.range.contains(&address))
        else {
            return;
        };
        let within =
            file.range.start.max(mapping.range.start)..file.range.end.min(mapping.range.end);
        let Some(range) = file.unchanged_around(address, within, memory) else { return };
        let restored = Mapping { range, ..file.clone() };
        self.insert(restored);
    }
}

impl Mapping {
    /// Returns the pages around an address, within a range, at which the process has the content of the file.
    fn unchanged_around(
        &self,
        address: u64,
        within: Range<u64>,
        memory: ProcessMemory,
    ) -> Option<Range<u64>> {
        let mut start = address & !(PAGE - 1);
        if !self.is_unchanged(start, memory) {
            return None;
        }
        let mut end = start + PAGE;
        while start > within.start && self.is_unchanged(start - PAGE, memory) {
            start -= PAGE;
        }
        while end < within.end && self.is_unchanged(end, memory) {
            end += PAGE;
        }
        Some(start.max(within.start)..end.min(within.end))
    }

    fn is_unchanged(&self, page: u64, memory: ProcessMemory) -> bool {
        let start = page.max(self.range.start);
        let Some(image) = &self.image else { return false };
        let code = image.code_at(start.wrapping_sub(self.bias));
        let code = &code[..code.len().min((page + PAGE - start) as usize)];
        let mut found = vec![0; code.len()];
        !code.is_empty() && memory.read(start, &mut found) == code.len() && found == code
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::module::FileIdentity;

    fn file(path: &str, range: Range<u64>, file_offset: u64) -> FileMapping {
        let identity = FileIdentity::default();
        FileMapping {
            pid: 0,
            range,
            file_offset,
            path: path.to_owned(),
            file: path.into(),
            identity,
        }
    }

    fn map(space: &mut AddressSpace, modules: &mut ModuleTable, mapping: &FileMapping) {
        let module = modules.open(mapping);
        space.map(mapping, module, modules);
    }

    #[test]
    fn a_mapping_replaces_only_what_it_overlaps() {
        let (mut space, mut modules) = (AddressSpace::new(), ModuleTable::new());
        map(&mut space, &mut modules, &file("/no/a", 0x1000..0x5000, 0x100));
        map(&mut space, &mut modules, &file("/no/b", 0x2000..0x3000, 0));
        map(&mut space, &mut modules, &file("//anon", 0x4000..0x6000, 0));
        let at = |address| {
            let frame = space.locate(address);
            (modules.get(frame.module).path.as_str(), frame.address)
        };
        let table = [
            (0x0fff, ("[unknown]", 0x0fff)),
            (0x1000, ("/no/a", 0x100)),
            (0x1fff, ("/no/a", 0x10ff)),
            (0x2000, ("/no/b", 0)),
            (0x3000, ("/no/a", 0x2100)),
            (0x3fff, ("/no/a", 0x30ff)),
            (0x4000, ("[anon]", 0x4000)),
            (0x5fff, ("[anon]", 0x5fff)),
            (0x6000, ("[unknown]", 0x6000)),
        ];
        for (address, expected) in table {
            assert_eq!(at(address), expected, "{address:#x}");
        }
    }

    #[test]
    fn a_new_mapping_clears_the_cache() {
        let (mut space, mut modules) = (AddressSpace::new(), ModuleTable::new());
        let mut stacks = RawStacks::default();
        assert_eq!(space.file_frame_at(0x1234, &mut stacks), None);
        map(&mut space, &mut modules, &file("/no/a", 0x1000..0x2000, 0));
        let before = space.file_frame_at(0x1234, &mut stacks).expect("a file is mapped");
        assert_eq!(stacks.frames()[before.0 as usize].address, 0x234);
        map(&mut space, &mut modules, &file("/no/b", 0x1000..0x2000, 0));
        assert_ne!(space.file_frame_at(0x1234, &mut stacks), Some(before));
    }
}
