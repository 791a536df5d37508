//! The recorder's mapping of the memory that the heap library writes to.

use std::ffi::CStr;
use std::io;
use std::mem::offset_of;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

use memmap2::MmapRaw;
use simprof_preload::heap::format::{
    EXACT, Header, LANES, Lane, MAGIC, MODULES, Module, NODES, Node, PROCESSES, Process, RECORDS,
    Record, offset,
};

use crate::preload::memory_file;

/// Name of the memory's file, as the maps of a process show it.
const NAME: &CStr = c"simprof-heap";

/// The shared memory. What is in it was written by the target, and is not trusted.
#[derive(Debug)]
pub struct Memory {
    map: MmapRaw,
    file: std::fs::File,
}

/// A native frame called from a stack, as the library told it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NativeNode {
    /// The caller's node, always a smaller number; 0 for none.
    pub parent: u32,
    /// Number of the module; 0 for none.
    pub module: u32,
    /// Address of the call, or of the interrupted instruction, as the module states its addresses.
    pub address: u64,
}

/// A file that code was loaded from, as the library told it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToldModule {
    /// As its process sees it.
    pub path: String,
    /// Position of the first process that told of it.
    pub place: u32,
    /// The file's build id; empty where it has none.
    pub build_id: Vec<u8>,
}

impl Memory {
    /// Creates the memory, sparse, and sealed so that nobody can cut it.
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
        ];
        for (at, word) in words {
            file.write_all_at(&word.to_ne_bytes(), at as u64)?;
        }
        let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
        // SAFETY: no memory of this process is involved.
        if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) } < 0 {
            return Err(io::Error::last_os_error());
        }
        let map = memmap2::MmapOptions::new().len(offset::END).map_raw(&file)?;
        Ok(Self { map, file })
    }

    /// Its descriptor.
    pub fn fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    /// Bytes of it that were ever written, which the target's resident set may show.
    pub fn touched_bytes(&self) -> u64 {
        self.file.metadata().map_or(0, |metadata| metadata.blocks() * 512)
    }

    /// A number of the header, by its place.
    pub fn header(&self, field: HeapField) -> u64 {
        self.word(field as usize).load(Ordering::Acquire)
    }

    /// A process by its position.
    pub fn process(&self, place: u32) -> Option<&Process> {
        let place = place as usize;
        // SAFETY: within the mapping, aligned, and all its fields are atomic.
        (place < PROCESSES).then(|| unsafe { self.part(offset::PROCESSES, place) })
    }

    /// A lane by its number, which is below [`LANES`].
    pub fn lane(&self, number: usize) -> &Lane {
        assert!(number < LANES, "a lane's number");
        // SAFETY: as in `process`.
        unsafe { self.part(offset::LANES, number) }
    }

    /// The record that a position of a lane's history is written to.
    pub fn record(&self, lane: usize, position: u64) -> &Record {
        assert!(lane < LANES, "a lane's number");
        let at = lane * RECORDS as usize + (position % RECORDS) as usize;
        // SAFETY: as in `process`.
        unsafe { self.part(offset::RECORDS, at) }
    }

    /// How many nodes there are, node 0 included.
    pub fn node_count(&self) -> u32 {
        let used = self.header(HeapField::Nodes).saturating_add(1);
        u32::try_from(used.min(NODES as u64)).expect("fewer than 2^32 nodes")
    }

    /// A node by its number; one whose caller does not come before it has none.
    pub fn node(&self, number: u32) -> NativeNode {
        if number as usize >= NODES {
            return NativeNode { parent: 0, module: 0, address: 0 };
        }
        // SAFETY: as in `process`.
        let node: &Node = unsafe { self.part(offset::NODES, number as usize) };
        let parent = node.parent.load(Ordering::Acquire);
        let module = node.module.load(Ordering::Relaxed);
        let address = node.address.load(Ordering::Relaxed);
        NativeNode {
            parent: if parent < number { parent } else { 0 },
            module: module & !EXACT,
            address: address.wrapping_sub(u64::from(module & EXACT == 0)),
        }
    }

    /// How many modules there are, module 0 included.
    pub fn module_count(&self) -> u32 {
        let used = self.header(HeapField::Modules).saturating_add(1);
        u32::try_from(used.min(MODULES as u64)).expect("fewer than 2^32 modules")
    }

    /// A module by its number; none where it is not whole.
    pub fn module(&self, number: u32) -> Option<ToldModule> {
        let number = number as usize;
        if number == 0 || number >= MODULES {
            return None;
        }
        // SAFETY: as in `process`.
        let module: &Module = unsafe { self.part(offset::MODULES, number) };
        if module.written.load(Ordering::Acquire) == 0 {
            return None;
        }
        let path = bytes(&module.path, &module.path_bytes);
        Some(ToldModule {
            path: String::from_utf8_lossy(&path).into_owned(),
            place: module.process.load(Ordering::Relaxed),
            build_id: bytes(&module.build_id, &module.build_id_bytes),
        })
    }

    fn word(&self, position: usize) -> &AtomicU64 {
        assert!(position.is_multiple_of(8) && position + 8 <= offset::PROCESSES, "of the header");
        // SAFETY: within the mapping and aligned; every access of any process to it is atomic.
        unsafe { &*self.map.as_ptr().add(position).cast::<AtomicU64>() }
    }

    /// Item `number` of the array that begins at `start`.
    ///
    /// # Safety
    /// It must lie within the mapping, at an aligned place, and consist of atomics.
    unsafe fn part<T>(&self, start: usize, number: usize) -> &T {
        // SAFETY: as the caller says.
        unsafe { &*self.map.as_ptr().add(start + number * size_of::<T>()).cast::<T>() }
    }
}

#[cfg(test)]
impl Memory {
    /// So many modules are begun.
    pub fn tell_modules(&self, count: u64) {
        self.word(HeapField::Modules as usize).store(count, Ordering::Release);
    }

    /// This one is told of, as a file of the first process.
    pub fn tell_module(&self, number: usize, path: &str) {
        // SAFETY: within the mapping, and it consists of atomics.
        let module: &Module = unsafe { self.part(offset::MODULES, number) };
        for (place, byte) in module.path.iter().zip(path.bytes()) {
            place.store(byte, Ordering::Relaxed);
        }
        module.path_bytes.store(path.len() as u32, Ordering::Relaxed);
        module.written.store(1, Ordering::Release);
    }
}

/// As many bytes as are in use.
fn bytes(from: &[AtomicU8], used: &AtomicU32) -> Vec<u8> {
    let used = used.load(Ordering::Relaxed) as usize;
    from.iter().take(used).map(|byte| byte.load(Ordering::Relaxed)).collect()
}

/// Numbers of the header that the library counts.
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_what_the_library_expects() {
        let memory = Memory::create(512, 7, true).expect("memory");
        // SAFETY: this process alone has the memory, and every value is valid for the fields.
        let header = unsafe { &*memory.map.as_ptr().cast::<Header>() };
        assert_eq!((header.magic, header.bytes), (MAGIC, offset::END as u64));
        assert_eq!((header.interval, header.seed, header.without_native), (512, 7, 1));
        header.stacks_lost.store(3, Ordering::Relaxed);
        assert_eq!(memory.header(HeapField::StacksLost), 3);
    }

    #[test]
    fn nodes_that_contradict_themselves_have_no_caller() {
        let memory = Memory::create(1, 0, false).expect("memory");
        // SAFETY: node 2 is within the mapping, and consists of atomics.
        let node: &Node = unsafe { memory.part(offset::NODES, 2) };
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
