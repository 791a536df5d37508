//! The recorder's mapping of the shared memory that the heap library writes to.

use std::ffi::{CStr, OsString};
use std::io;
use std::mem::offset_of;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

use memmap2::MmapRaw;
use simprof_preload::heap::format::{
    EXACT, Header, LANES, Lane, MAGIC, MODULES, Module, NODES, Node, PROCESSES, Process, Record,
    offset,
};

use crate::preload::{memory_file, own_filters};
use crate::sample::MappedModule;

/// Name of the memory's file, as /proc/PID/maps shows it.
const NAME: &CStr = c"simprof-heap";

/// The shared memory. The target writes its content, so no value in it is trusted.
#[derive(Debug)]
pub struct HeapMemory {
    map: MmapRaw,
    file: std::fs::File,
}

/// A node of the tree of native stacks, as the library wrote it: a frame and its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NativeNode {
    /// Number of the caller's node, always smaller than the node's own; 0 for none.
    pub parent: u32,
    /// Number of the module; 0 for none.
    pub module: u32,
    /// Address of the call, or of the interrupted instruction, in the module's own addresses.
    pub address: u64,
}

impl HeapMemory {
    /// Creates the memory: sparse, and with its size sealed, so that no process can truncate it.
    pub fn create(interval: u64, seed: u64, without_native: bool) -> io::Result<Self> {
        let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
        let file = std::fs::File::from(memory_file(NAME, flags)?);
        file.set_len(offset::END as u64)?;
        let words = [
            (offset_of!(Header, magic), MAGIC),
            (offset_of!(Header, bytes), offset::END as u64),
            (offset_of!(Header, interval), interval),
            (offset_of!(Header, seed), seed),
            (offset_of!(Header, without_native), u64::from(without_native)),
            (offset_of!(Header, filters), u64::from(own_filters())),
        ];
        for (position, word) in words {
            file.write_all_at(&word.to_ne_bytes(), position as u64)?;
        }
        let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
        // SAFETY: the call takes no pointers.
        if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) } < 0 {
            return Err(io::Error::last_os_error());
        }
        let map = memmap2::MmapOptions::new().len(offset::END).map_raw(&file)?;
        Ok(Self { map, file })
    }

    /// Returns the memory's file descriptor.
    pub fn fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    /// Returns how many bytes of the memory have been written. The target's resident set may include them.
    pub fn touched_bytes(&self) -> u64 {
        self.file.metadata().map_or(0, |metadata| metadata.blocks() * 512)
    }

    /// Reads a counter of the header.
    pub fn header(&self, field: HeapField) -> u64 {
        self.word(field as usize).load(Ordering::Acquire)
    }

    /// Returns the process in a slot; `None` if there is no such slot.
    pub fn process(&self, slot: u32) -> Option<&Process> {
        let slot = slot as usize;
        // SAFETY: the item is within the mapping and aligned, and all its fields are atomic.
        (slot < PROCESSES).then(|| unsafe { self.item(offset::PROCESSES, slot) })
    }

    /// Returns a ring buffer's header by its number, which must be below [`LANES`].
    pub fn lane(&self, number: usize) -> &Lane {
        assert!(number < LANES, "the number of a ring buffer");
        // SAFETY: as in `process`.
        unsafe { self.item(offset::LANES, number) }
    }

    /// Returns the record that a position of a ring buffer is written to. Positions count up without wrapping.
    pub fn record(&self, lane: usize, position: u64) -> &Record {
        let at = offset::record(lane, position).expect("the number of a ring buffer");
        // SAFETY: as in `process`.
        unsafe { self.item(at, 0) }
    }

    /// Returns the number of nodes, including node 0.
    pub fn node_count(&self) -> u32 {
        let used = self.header(HeapField::Nodes).saturating_add(1);
        u32::try_from(used.min(NODES as u64)).expect("fewer than 2^32 nodes")
    }

    /// Returns a node by its number. A caller whose number is not smaller is invalid and replaced by none.
    pub fn node(&self, number: u32) -> NativeNode {
        let Some(at) = offset::node(number as usize) else {
            return NativeNode { parent: 0, module: 0, address: 0 };
        };
        // SAFETY: as in `process`.
        let node: &Node = unsafe { self.item(at, 0) };
        let parent = node.parent.load(Ordering::Acquire);
        let module = node.module.load(Ordering::Relaxed);
        let address = node.address.load(Ordering::Relaxed);
        NativeNode {
            parent: if parent < number { parent } else { 0 },
            module: module & !EXACT,
            address: address.wrapping_sub(u64::from(module & EXACT == 0)),
        }
    }

    /// Returns the number of modules, including module 0.
    pub fn module_count(&self) -> u32 {
        let used = self.header(HeapField::Modules).saturating_add(1);
        u32::try_from(used.min(MODULES as u64)).expect("fewer than 2^32 modules")
    }

    /// Returns a module by its number; `None` if it is not completely written.
    pub fn module(&self, number: u32) -> Option<MappedModule> {
        let at = offset::module(number as usize).filter(|_| number != 0)?;
        // SAFETY: as in `process`.
        let module: &Module = unsafe { self.item(at, 0) };
        if module.written.load(Ordering::Acquire) == 0 {
            return None;
        }
        Some(MappedModule {
            path: PathBuf::from(OsString::from_vec(bytes(&module.path, &module.path_bytes))),
            is_mapped: module.is_mapped.load(Ordering::Relaxed) != 0,
            is_unseen: module.is_unseen.load(Ordering::Relaxed) != 0,
            start: module.start.load(Ordering::Relaxed),
            slot: module.process.load(Ordering::Relaxed),
            build_id: bytes(&module.build_id, &module.build_id_bytes),
        })
    }

    fn word(&self, position: usize) -> &AtomicU64 {
        assert!(position.is_multiple_of(8) && position + 8 <= offset::PROCESSES, "a header word");
        // SAFETY: the word is within the mapping and aligned, and all processes access it atomically.
        unsafe { &*self.map.as_ptr().add(position).cast::<AtomicU64>() }
    }

    /// Returns item `number` of the array that begins at `start`.
    ///
    /// # Safety
    /// The item must lie within the mapping, be aligned, and consist of atomics.
    unsafe fn item<T>(&self, start: usize, number: usize) -> &T {
        // SAFETY: the caller guarantees that the item is in the mapping, aligned, and made of atomics.
        unsafe { &*self.map.as_ptr().add(start + number * size_of::<T>()).cast::<T>() }
    }
}

#[cfg(test)]
impl HeapMemory {
    /// Sets the number of modules, as the library does before it writes them.
    pub fn set_module_count(&self, count: u64) {
        self.word(HeapField::Modules as usize).store(count, Ordering::Release);
    }

    /// Writes a module, as a file of the process in slot 0.
    pub fn write_module(&self, number: usize, path: &str) {
        // SAFETY: the module is within the mapping and aligned, and consists of atomics.
        let module: &Module = unsafe { self.item(offset::module(number).expect("a module"), 0) };
        for (written, byte) in module.path.iter().zip(path.bytes()) {
            written.store(byte, Ordering::Relaxed);
        }
        module.path_bytes.store(path.len() as u32, Ordering::Relaxed);
        module.is_mapped.store(1, Ordering::Relaxed);
        module.written.store(1, Ordering::Release);
    }
}

/// Returns the first `used` bytes.
fn bytes(from: &[AtomicU8], used: &AtomicU32) -> Vec<u8> {
    let used = used.load(Ordering::Relaxed) as usize;
    from.iter().take(used).map(|byte| byte.load(Ordering::Relaxed)).collect()
}

/// The header's counters, which the library increments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum HeapField {
    Nodes = offset_of!(Header, nodes),
    Modules = offset_of!(Header, modules),
    Abandoned = offset_of!(Header, abandoned),
    ProcessesLost = offset_of!(Header, processes_lost),
    StacksLost = offset_of!(Header, stacks_lost),
    LiveFull = offset_of!(Header, live_full),
    Nested = offset_of!(Header, nested),
    StacksConfined = offset_of!(Header, stacks_confined),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_has_the_values_that_the_library_reads() {
        let memory = HeapMemory::create(512, 7, true).expect("memory");
        // SAFETY: no other process writes to the memory, and every value is valid for the fields.
        let header = unsafe { &*memory.map.as_ptr().cast::<Header>() };
        assert_eq!((header.magic, header.bytes), (MAGIC, offset::END as u64));
        assert_eq!((header.interval, header.seed, header.without_native), (512, 7, 1));
        header.stacks_lost.store(3, Ordering::Relaxed);
        assert_eq!(memory.header(HeapField::StacksLost), 3);
    }

    #[test]
    fn invalid_callers_are_ignored() {
        let memory = HeapMemory::create(1, 0, false).expect("memory");
        // SAFETY: node 2 is within the mapping and aligned, and consists of atomics.
        let node: &Node = unsafe { memory.item(offset::node(2).expect("a node"), 0) };
        node.parent.store(5, Ordering::Relaxed);
        node.module.store(1 | EXACT, Ordering::Relaxed);
        node.address.store(0x40, Ordering::Relaxed);
        assert_eq!(memory.node(2), NativeNode { parent: 0, module: 1, address: 0x40 });
        node.parent.store(1, Ordering::Relaxed);
        node.module.store(1, Ordering::Relaxed);
        assert_eq!(memory.node(2), NativeNode { parent: 1, module: 1, address: 0x3f });
        assert_eq!(memory.node(u32::MAX).address, 0);
        assert!(memory.module(0).is_none() && memory.module(1).is_none());
        assert!(memory.module(u32::MAX).is_none() && memory.process(u32::MAX).is_none());
    }
}
