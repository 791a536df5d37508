//! The reader of the ring buffer that a target writes its marks to.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU64, Ordering, fence};

use simprof_probe::format::{
    BUSY, FILE_BYTES, HEADER_BYTES, Kind, MAGIC, NEXT_OFFSET, RECORD_BYTES, RECORDS,
    RECORDS_OFFSET, SEQUENCE_SHIFT, is_free_for, sequence, unstamp,
};

/// A step mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    pub kind: Kind,
    /// The lower 22 bits of the thread id, which on Linux are all of it.
    pub thread: u32,
    /// CLOCK_MONOTONIC, ns.
    pub time_ns: u64,
    pub index: u64,
    pub population: u64,
}

/// The ring buffer, mapped into this process.
#[derive(Debug)]
pub struct Ring {
    memory: NonNull<u8>,
    file: File,
    /// The next position to read.
    read: u64,
    /// Earlier positions whose writers had not finished.
    unfinished: Vec<u64>,
    lost: u64,
}

// SAFETY: this value owns the mapping, and all accesses, here and in other processes, are atomic.
unsafe impl Send for Ring {}

/// The state of the slot of a position.
enum Slot {
    Complete(Mark),
    Unfinished,
    Overwritten,
}

impl Ring {
    /// Creates an empty ring buffer.
    ///
    /// All its pages are allocated, so that no writer is killed because a page cannot be
    /// allocated. Its size is sealed, so that no process can truncate it.
    pub fn create() -> io::Result<Ring> {
        let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
        // SAFETY: the name is a valid C string.
        let fd = unsafe { libc::memfd_create(c"simprof-marks".as_ptr(), flags) };
        check(fd)?;
        // SAFETY: the descriptor was just opened, and nothing else owns it.
        let file = unsafe { File::from_raw_fd(fd) };
        file.set_len(FILE_BYTES as u64)?;
        // SAFETY: the call takes no pointers.
        check(unsafe { libc::fallocate(fd, 0, 0, FILE_BYTES as libc::off_t) })?;
        let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
        // SAFETY: the call takes no pointers.
        check(unsafe { libc::fcntl(fd, libc::F_ADD_SEALS, seals) })?;
        let memory = map(&file)?;
        let ring = Ring { memory, file, read: 0, unfinished: Vec::new(), lost: 0 };
        ring.word(0).store(MAGIC, Ordering::Relaxed);
        ring.word(RECORDS_OFFSET).store(RECORDS, Ordering::Release);
        Ok(ring)
    }

    /// Returns the path by which another process can open the memory.
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd())
    }

    /// Calls `pass` with every complete mark, each once, and those of a thread in order.
    pub fn drain(&mut self, mut pass: impl FnMut(Mark)) {
        let next = self.word(NEXT_OFFSET).load(Ordering::Acquire);
        for position in std::mem::take(&mut self.unfinished) {
            self.take(position, next, &mut pass);
        }
        let oldest = next.saturating_sub(RECORDS);
        if self.read < oldest {
            self.lost = self.lost.saturating_add(oldest - self.read);
            self.read = oldest;
        }
        // The target writes `next`, so it may be any value, also a smaller one than before.
        while self.read < next {
            self.take(self.read, next, &mut pass);
            self.read += 1;
        }
    }

    /// Returns how many marks were overwritten or never finished. Call it after the last `drain`.
    pub fn lost(&self) -> u64 {
        self.lost.saturating_add(self.unfinished.len() as u64)
    }

    /// Passes on, counts, or remembers the mark at `position`.
    fn take(&mut self, position: u64, next: u64, pass: &mut impl FnMut(Mark)) {
        match self.read_slot(position) {
            Slot::Complete(mark) => pass(mark),
            Slot::Unfinished if next.saturating_sub(position) <= RECORDS => {
                self.unfinished.push(position);
            }
            Slot::Unfinished | Slot::Overwritten => self.lost = self.lost.saturating_add(1),
        }
    }

    fn read_slot(&self, position: u64) -> Slot {
        let offset = HEADER_BYTES + (position % RECORDS) as usize * RECORD_BYTES;
        let stamp = self.word(offset).load(Ordering::Acquire);
        if stamp == BUSY || is_free_for(stamp, position) {
            return Slot::Unfinished;
        }
        if stamp >> SEQUENCE_SHIFT != sequence(position) {
            return Slot::Overwritten;
        }
        let Some((_, kind, thread)) = unstamp(stamp) else { return Slot::Overwritten };
        let field = |number: usize| self.word(offset + 8 * number).load(Ordering::Relaxed);
        let mark = Mark { kind, thread, time_ns: field(1), index: field(2), population: field(3) };
        // The fields must be read before the stamp is read again.
        fence(Ordering::Acquire);
        let is_unchanged = self.word(offset).load(Ordering::Relaxed) == stamp;
        if is_unchanged { Slot::Complete(mark) } else { Slot::Overwritten }
    }

    fn word(&self, offset: usize) -> &AtomicU64 {
        assert!(
            offset + 8 <= FILE_BYTES && offset.is_multiple_of(8),
            "an aligned word within the memory"
        );
        // SAFETY: the word is aligned and within the mapping, which lives as long as `self`. All
        // processes access it atomically.
        unsafe { &*self.memory.as_ptr().add(offset).cast::<AtomicU64>() }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: `create` mapped these bytes, and no reference to them outlives `self`.
        unsafe { libc::munmap(self.memory.as_ptr().cast(), FILE_BYTES) };
    }
}

fn map(file: &File) -> io::Result<NonNull<u8>> {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let fd = file.as_raw_fd();
    // SAFETY: this creates a new mapping; it replaces none.
    let memory =
        unsafe { libc::mmap(ptr::null_mut(), FILE_BYTES, protection, libc::MAP_SHARED, fd, 0) };
    if memory == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(memory.cast()).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn check(status: libc::c_int) -> io::Result<()> {
    if status < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use simprof_probe::format::stamp;

    use super::*;

    /// Writes a mark as the probe does, except for its stamp. Returns the stamp's offset and value.
    fn begin(ring: &Ring, index: u64) -> (usize, u64) {
        let position = ring.word(NEXT_OFFSET).fetch_add(1, Ordering::Relaxed);
        let offset = HEADER_BYTES + (position % RECORDS) as usize * RECORD_BYTES;
        ring.word(offset).store(BUSY, Ordering::Relaxed);
        ring.word(offset + 16).store(index, Ordering::Relaxed);
        (offset, stamp(position, Kind::Boundary, 7))
    }

    fn write(ring: &Ring, index: u64) {
        let (offset, stamp) = begin(ring, index);
        ring.word(offset).store(stamp, Ordering::Release);
    }

    fn drained(ring: &mut Ring) -> Vec<u64> {
        let mut indices = Vec::new();
        ring.drain(|mark| indices.push(mark.index));
        indices
    }

    #[test]
    fn each_mark_is_read_once() {
        let mut ring = Ring::create().expect("memory");
        assert!(drained(&mut ring).is_empty());
        (0..3).for_each(|index| write(&ring, index));
        assert_eq!(drained(&mut ring), [0, 1, 2]);
        write(&ring, 3);
        assert_eq!(drained(&mut ring), [3]);
        assert_eq!(ring.lost(), 0);
    }

    #[test]
    fn overwritten_marks_are_counted() {
        let mut ring = Ring::create().expect("memory");
        (0..RECORDS + 5).for_each(|index| write(&ring, index));
        let indices = drained(&mut ring);
        assert_eq!((indices.len() as u64, indices[0]), (RECORDS, 5));
        assert_eq!(ring.lost(), 5);
    }

    #[test]
    fn slow_writers_are_awaited_and_unfinished_marks_counted() {
        let mut ring = Ring::create().expect("memory");
        let (offset, stamp) = begin(&ring, 0);
        begin(&ring, 1);
        write(&ring, 2);
        assert_eq!(drained(&mut ring), [2]);
        ring.word(offset).store(stamp, Ordering::Release);
        assert_eq!(drained(&mut ring), [0]);
        assert!(drained(&mut ring).is_empty());
        assert_eq!(ring.lost(), 1);
    }

    #[test]
    fn invalid_memory_yields_no_marks() {
        let mut ring = Ring::create().expect("memory");
        ring.word(NEXT_OFFSET).store(u64::MAX, Ordering::Relaxed);
        (0..RECORDS as usize).for_each(|record| {
            ring.word(HEADER_BYTES + record * RECORD_BYTES).store(u64::MAX, Ordering::Relaxed);
        });
        assert!(drained(&mut ring).is_empty());
        ring.word(NEXT_OFFSET).store(0, Ordering::Relaxed);
        assert!(drained(&mut ring).is_empty());
    }
}
