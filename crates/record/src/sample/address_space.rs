//! The code mappings of one process.

use std::ops::Range;

use framehop::Unwinder;

use super::module::{FileMapping, ModuleIndex, ModuleTable};
use super::raw_stacks::{FastMap, RawFrame, RawFrameId, RawStacks};
use super::unwind::ModuleUnwinder;

/// A mapping of code.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mapping {
    range: Range<u64>,
    module: ModuleIndex,
    /// Address in the process minus address as the module's file states it.
    bias: u64,
}

/// The code mappings of one process. A forked process starts with a copy.
#[derive(Clone)]
pub(super) struct AddressSpace {
    /// In order of address, not overlapping.
    mappings: Vec<Mapping>,
    unwinder: ModuleUnwinder,
    /// Frames of addresses that were looked up since the last new mapping.
    resolved: FastMap<u64, RawFrameId>,
}

impl AddressSpace {
    pub fn new() -> Self {
        Self { mappings: Vec::new(), unwinder: ModuleUnwinder::new(), resolved: FastMap::default() }
    }

    /// Returns the unwind information of all mapped modules.
    pub fn unwinder(&self) -> &ModuleUnwinder {
        &self.unwinder
    }

    /// Adds a mapping of code. Parts of earlier mappings that it overlaps are removed.
    pub fn map(&mut self, mapping: &FileMapping, module: ModuleIndex, modules: &ModuleTable) {
        if mapping.range.is_empty() {
            return;
        }
        let image = modules.get(module).image.as_ref();
        let stated = match image {
            Some(image) => image.svma_at(mapping.file_offset),
            None if module == ModuleIndex::ANONYMOUS => Some(mapping.range.start),
            None => Some(mapping.file_offset),
        };
        let bias = mapping.range.start.wrapping_sub(stated.unwrap_or(mapping.file_offset));
        self.unmap(&mapping.range, modules);
        self.insert(Mapping { range: mapping.range.clone(), module, bias }, modules);
        self.resolved.clear();
    }

    fn insert(&mut self, mapping: Mapping, modules: &ModuleTable) {
        if let Some(image) = &modules.get(mapping.module).image {
            self.unwinder.add_module(image.unwind_module(mapping.range.clone(), mapping.bias));
        }
        let index = self.mappings.partition_point(|known| known.range.start < mapping.range.start);
        self.mappings.insert(index, mapping);
    }

    /// Removes the parts of mappings that overlap `range`.
    fn unmap(&mut self, range: &Range<u64>, modules: &ModuleTable) {
        let first = self.mappings.partition_point(|known| known.range.end <= range.start);
        let last = self.mappings.partition_point(|known| known.range.start < range.end);
        if first >= last {
            return;
        }
        let overlapped: Vec<_> = self.mappings.drain(first..last).collect();
        for old in overlapped {
            self.unwinder.remove_module(old.range.start);
            let below = old.range.start..range.start.min(old.range.end);
            let above = range.end.max(old.range.start)..old.range.end;
            for range in [below, above] {
                if !range.is_empty() {
                    self.insert(Mapping { range, ..old.clone() }, modules);
                }
            }
        }
    }

    /// Returns the interned frame of a code address.
    pub fn frame_at(&mut self, address: u64, stacks: &mut RawStacks) -> RawFrameId {
        if let Some(&frame) = self.resolved.get(&address) {
            return frame;
        }
        let frame = stacks.frame(self.locate(address));
        self.resolved.insert(address, frame);
        frame
    }

    /// Returns whether code is mapped at an address.
    pub fn contains(&self, address: u64) -> bool {
        self.mapping_at(address).is_some()
    }

    fn mapping_at(&self, address: u64) -> Option<&Mapping> {
        let after = self.mappings.partition_point(|known| known.range.start <= address);
        let mapping = &self.mappings[after.checked_sub(1)?];
        mapping.range.contains(&address).then_some(mapping)
    }

    fn locate(&self, address: u64) -> RawFrame {
        match self.mapping_at(address) {
            Some(mapping) => {
                RawFrame { module: mapping.module, address: address.wrapping_sub(mapping.bias) }
            }
            None => RawFrame { module: ModuleIndex::UNKNOWN, address },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::module::FileIdentity;

    fn file(path: &str, range: Range<u64>, file_offset: u64) -> FileMapping {
        let identity = FileIdentity::default();
        FileMapping { pid: 0, range, file_offset, path: path.to_owned(), identity }
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
        let before = space.frame_at(0x1234, &mut stacks);
        map(&mut space, &mut modules, &file("/no/a", 0x1000..0x2000, 0));
        let after = space.frame_at(0x1234, &mut stacks);
        assert_ne!(before, after);
        assert_eq!(stacks.frames()[after.0 as usize].address, 0x234);
    }
}
