//! The recorder's mapping of the shared memory that the Python library writes to.

use std::io;
use std::mem::offset_of;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use simprof_preload::format::{
    Header, MAGIC, NODES, Node, PROCESSES, Process, RECORDS, Record, offset,
};

/// The shared memory. The target writes its content, so no value in it is trusted.
#[derive(Debug)]
pub struct PythonMemory {
    base: NonNull<u8>,
    file: std::fs::File,
    inode: u64,
}

// SAFETY: the mapping lives as long as the value, and all threads and processes access it atomically.
unsafe impl Send for PythonMemory {}
// SAFETY: as for `Send`.
unsafe impl Sync for PythonMemory {}

impl PythonMemory {
    /// Creates the memory: sparse, and with its size sealed, so that no process can truncate it.
    pub fn create(
        features: u64,
        wait_period_ns: u64,
        script: &str,
        notify: &str,
    ) -> io::Result<Self> {
        let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
        let file = std::fs::File::from(super::memory_file(c"simprof-python", flags)?);
        file.set_len(offset::END as u64)?;
        file.write_all_at(script.as_bytes(), offset::SCRIPT as u64)?;
        file.write_all_at(notify.as_bytes(), offset_of!(Header, notify) as u64)?;
        let words = [MAGIC, offset::END as u64, features, wait_period_ns, script.len() as u64];
        let words: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        file.write_all_at(&words, offset_of!(Header, magic) as u64)?;
        let filters = u64::from(super::own_filters()).to_ne_bytes();
        file.write_all_at(&filters, offset_of!(Header, filters) as u64)?;
        let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
        // SAFETY: the call takes no pointers.
        if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) } < 0 {
            return Err(io::Error::last_os_error());
        }
        let inode = file.metadata()?.ino();
        let base = map(file.as_raw_fd())?;
        Ok(Self { base, file, inode })
    }

    /// Returns the memory's file descriptor.
    pub fn fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    /// Returns how many bytes of the memory have been written. The target's resident set may include them.
    pub fn touched_bytes(&self) -> u64 {
        self.file.metadata().map_or(0, |metadata| metadata.blocks() * 512)
    }

    /// Returns the inode of the memory's file. It shows in the maps of a process that has mapped the memory.
    pub fn inode(&self) -> u64 {
        self.inode
    }

    /// Disables all features that are not in `mask`.
    pub fn restrict(&self, mask: u64) {
        self.word(offset_of!(Header, features)).fetch_and(mask, Ordering::Release);
    }

    /// Returns the enabled features.
    pub fn features(&self) -> u64 {
        self.word(offset_of!(Header, features)).load(Ordering::Relaxed)
    }

    /// Returns how many records have been started.
    pub fn next(&self) -> u64 {
        self.word(offset_of!(Header, next)).load(Ordering::Acquire)
    }

    /// Returns the number of nodes, including node 0.
    pub fn node_count(&self) -> usize {
        let used = self.word(offset_of!(Header, nodes)).load(Ordering::Acquire);
        usize::try_from(used).unwrap_or(NODES).saturating_add(1).min(NODES)
    }

    /// Returns how many processes found no free slot.
    pub fn processes_lost(&self) -> u64 {
        self.word(offset_of!(Header, processes_lost)).load(Ordering::Relaxed)
    }

    /// Returns how many stacks and code objects were lost because the memory was full.
    pub fn full(&self) -> u64 {
        self.word(offset_of!(Header, full)).load(Ordering::Relaxed)
    }

    /// Returns the process in a slot; `None` if there is no such slot.
    pub fn process(&self, slot: u32) -> Option<&Process> {
        let slot = slot as usize;
        // SAFETY: the item is within the mapping and aligned, and all its fields are atomic.
        (slot < PROCESSES).then(|| unsafe { self.item(offset::PROCESSES, slot) })
    }

    /// Returns all process slots, used or not.
    pub fn processes(&self) -> impl Iterator<Item = &Process> {
        (0..PROCESSES as u32).filter_map(|slot| self.process(slot))
    }

    /// Returns the record that a position of the ring buffer is written to. Positions count up without wrapping.
    pub fn record(&self, position: u64) -> &Record {
        // SAFETY: as in `process`.
        unsafe { self.item(offset::RECORDS, (position % RECORDS) as usize) }
    }

    /// Returns a node by its number; `None` if there is no such node.
    pub fn node(&self, number: usize) -> Option<&Node> {
        let at = offset::node(number)?;
        // SAFETY: as in `process`.
        Some(unsafe { self.item(at, 0) })
    }

    /// Reads four bytes at a position; `None` if it is not aligned or beyond the end.
    pub fn read_u32(&self, position: usize) -> Option<u32> {
        let is_inside = position.is_multiple_of(4) && position.checked_add(4)? <= offset::END;
        // SAFETY: the bytes are within the mapping and aligned. The library writes them before it publishes them.
        let value =
            is_inside.then(|| unsafe { &*self.base.as_ptr().add(position).cast::<AtomicU32>() })?;
        Some(value.load(Ordering::Acquire))
    }

    pub(super) fn word(&self, position: usize) -> &AtomicU64 {
        assert!(position.is_multiple_of(8) && position + 8 <= offset::END, "a word of the header");
        // SAFETY: the word is within the mapping and aligned, and all processes access it atomically.
        unsafe { &*self.base.as_ptr().add(position).cast::<AtomicU64>() }
    }

    /// Returns item `number` of the array that begins at `start`.
    ///
    /// # Safety
    /// The item must lie within the mapping, be aligned, and consist of atomics.
    unsafe fn item<T>(&self, start: usize, number: usize) -> &T {
        // SAFETY: the caller guarantees that the item is in the mapping, aligned, and made of atomics.
        unsafe { &*self.base.as_ptr().add(start + number * size_of::<T>()).cast::<T>() }
    }
}

impl Drop for PythonMemory {
    fn drop(&mut self) {
        // SAFETY: `create` mapped these bytes, and no reference to them outlives `self`.
        unsafe { libc::munmap(self.base.as_ptr().cast(), offset::END) };
    }
}

/// Wakes all threads that wait for a change of `word`, in any process.
pub fn wake(word: &AtomicU32) {
    // SAFETY: the address is valid, and the call does not write to it.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, i32::MAX) };
}

fn map(fd: RawFd) -> io::Result<NonNull<u8>> {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_SHARED | libc::MAP_NORESERVE;
    // SAFETY: this creates a new mapping; it replaces none.
    let memory = unsafe { libc::mmap(ptr::null_mut(), offset::END, protection, flags, fd, 0) };
    if memory == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(memory.cast()).ok_or_else(|| io::ErrorKind::OutOfMemory.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use simprof_preload::format::feature;

    #[test]
    fn header_has_the_values_that_the_library_reads() {
        let memory = PythonMemory::create(feature::FRAMES | feature::SCRIPT, 5, "x = 1", "/pipe")
            .expect("memory");
        // SAFETY: no other process writes to the memory, and every value is valid for the fields.
        let header = unsafe { &*memory.base.as_ptr().cast::<Header>() };
        assert_eq!((header.magic, header.bytes), (MAGIC, offset::END as u64));
        assert_eq!((header.features, header.wait_period_ns, header.script_bytes), (5, 5, 5));
        assert_eq!(&header.notify[..6], b"/pipe\0");
        assert_eq!(memory.read_u32(offset::SCRIPT), Some(u32::from_ne_bytes(*b"x = ")));
        memory.restrict(feature::SCRIPT);
        assert_eq!(memory.features(), feature::SCRIPT);
    }

    #[test]
    fn reads_beyond_the_end_return_none() {
        let memory = PythonMemory::create(0, 0, "", "").expect("memory");
        assert_eq!(memory.read_u32(offset::END - 4), Some(0));
        assert_eq!(memory.read_u32(offset::END), None);
        assert_eq!(memory.read_u32(2), None);
        assert!(memory.process(PROCESSES as u32).is_none() && memory.node(NODES).is_none());
    }
}
