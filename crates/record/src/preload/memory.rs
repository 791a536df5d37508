//! The recorder's mapping of the memory that the library writes to.

use std::io;
use std::mem::offset_of;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use simprof_preload::format::{
    Header, MAGIC, NODES, Node, PROCESSES, Process, RECORDS, Record, offset,
};

/// The shared memory. What is in it was written by the target, and is not trusted.
#[derive(Debug)]
pub struct Memory {
    base: NonNull<u8>,
    file: std::fs::File,
    inode: u64,
}

// SAFETY: the mapping lives as long as the value, and every access to it, of whatever thread or process, is atomic.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    /// Creates the memory, sparse, and sealed so that nobody can cut it.
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
        let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
        // SAFETY: no memory of this process is involved.
        if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) } < 0 {
            return Err(io::Error::last_os_error());
        }
        let inode = file.metadata()?.ino();
        let base = map(file.as_raw_fd())?;
        Ok(Self { base, file, inode })
    }

    /// Its descriptor.
    pub fn fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    /// Bytes of it that were ever written, which the target's resident set may show.
    pub fn touched_bytes(&self) -> u64 {
        self.file.metadata().map_or(0, |metadata| metadata.blocks() * 512)
    }

    /// The number of its file, by which the maps of a process tell that it has the memory.
    pub fn inode(&self) -> u64 {
        self.inode
    }

    /// Asks for no more than the features of `mask` from now on.
    pub fn restrict(&self, mask: u64) {
        self.word(offset_of!(Header, features)).fetch_and(mask, Ordering::Release);
    }

    /// What is asked for.
    pub fn features(&self) -> u64 {
        self.word(offset_of!(Header, features)).load(Ordering::Relaxed)
    }

    /// How many records were ever begun.
    pub fn next(&self) -> u64 {
        self.word(offset_of!(Header, next)).load(Ordering::Acquire)
    }

    /// How many nodes there are, node 0 included.
    pub fn node_count(&self) -> usize {
        let used = self.word(offset_of!(Header, nodes)).load(Ordering::Acquire);
        usize::try_from(used).unwrap_or(NODES).saturating_add(1).min(NODES)
    }

    /// Processes that found no free place.
    pub fn processes_lost(&self) -> u64 {
        self.word(offset_of!(Header, processes_lost)).load(Ordering::Relaxed)
    }

    /// Stacks and code objects that found no room.
    pub fn full(&self) -> u64 {
        self.word(offset_of!(Header, full)).load(Ordering::Relaxed)
    }

    /// A process by its position.
    pub fn process(&self, place: u32) -> Option<&Process> {
        let place = place as usize;
        // SAFETY: within the mapping, aligned, and all its fields are atomic.
        (place < PROCESSES).then(|| unsafe { self.part(offset::PROCESSES, place) })
    }

    /// All processes.
    pub fn processes(&self) -> impl Iterator<Item = &Process> {
        (0..PROCESSES as u32).filter_map(|place| self.process(place))
    }

    /// The record that a position of the ring's history is written to.
    pub fn record(&self, position: u64) -> &Record {
        // SAFETY: as in `process`.
        unsafe { self.part(offset::RECORDS, (position % RECORDS) as usize) }
    }

    /// A node by its number.
    pub fn node(&self, number: usize) -> Option<&Node> {
        // SAFETY: as in `process`.
        (number < NODES).then(|| unsafe { self.part(offset::NODES, number) })
    }

    /// Four bytes of the memory, by their position; none beyond the end.
    pub fn half(&self, position: usize) -> Option<u32> {
        let is_inside = position.is_multiple_of(4) && position.checked_add(4)? <= offset::END;
        // SAFETY: within the mapping and aligned; whoever writes there does so before it tells of it.
        let half =
            is_inside.then(|| unsafe { &*self.base.as_ptr().add(position).cast::<AtomicU32>() })?;
        Some(half.load(Ordering::Acquire))
    }

    pub(super) fn word(&self, position: usize) -> &AtomicU64 {
        assert!(position.is_multiple_of(8) && position + 8 <= offset::END, "a word of the header");
        // SAFETY: within the mapping and aligned; every access of any process to it is atomic.
        unsafe { &*self.base.as_ptr().add(position).cast::<AtomicU64>() }
    }

    /// Item `number` of the array that begins at `start`.
    ///
    /// # Safety
    /// It must lie within the mapping, at an aligned place, and consist of atomics.
    unsafe fn part<T>(&self, start: usize, number: usize) -> &T {
        // SAFETY: as the caller says.
        unsafe { &*self.base.as_ptr().add(start + number * size_of::<T>()).cast::<T>() }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: it was mapped in `create`, and no reference to it outlives `self`.
        unsafe { libc::munmap(self.base.as_ptr().cast(), offset::END) };
    }
}

/// Wakes whoever waits for a change of `word`, in any process.
pub fn wake(word: &AtomicU32) {
    // SAFETY: the address is valid, and the call only looks who waits there.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, i32::MAX) };
}

fn map(fd: RawFd) -> io::Result<NonNull<u8>> {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_SHARED | libc::MAP_NORESERVE;
    // SAFETY: a new mapping of a file of that length.
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
    fn the_header_is_what_the_library_expects() {
        let memory =
            Memory::create(feature::FRAMES | feature::SCRIPT, 5, "x = 1", "/pipe").expect("memory");
        // SAFETY: this process alone has the memory, and every value is valid for the fields.
        let header = unsafe { &*memory.base.as_ptr().cast::<Header>() };
        assert_eq!((header.magic, header.bytes), (MAGIC, offset::END as u64));
        assert_eq!((header.features, header.wait_period_ns, header.script_bytes), (5, 5, 5));
        assert_eq!(&header.notify[..6], b"/pipe\0");
        assert_eq!(memory.half(offset::SCRIPT), Some(u32::from_ne_bytes(*b"x = ")));
        memory.restrict(feature::SCRIPT);
        assert_eq!(memory.features(), feature::SCRIPT);
    }

    #[test]
    fn nothing_beyond_the_end_is_read() {
        let memory = Memory::create(0, 0, "", "").expect("memory");
        assert_eq!(memory.half(offset::END - 4), Some(0));
        assert_eq!(memory.half(offset::END), None);
        assert_eq!(memory.half(2), None);
        assert!(memory.process(PROCESSES as u32).is_none() && memory.node(NODES).is_none());
    }
}
