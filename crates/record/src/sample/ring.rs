//! The ring buffer of a perf event, shared with the kernel and read in place.

use std::io;
use std::mem::offset_of;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use linux_perf_event_reader::RecordParseInfo;
use perf_event_open_sys::bindings::perf_event_mmap_page;

use super::record_order::View;

/// A mapped ring buffer. The kernel writes at the head; the recorder reads from the tail to the head.
#[derive(Debug)]
pub(super) struct Ring {
    base: NonNull<perf_event_mmap_page>,
    page: usize,
    data_bytes: usize,
    tail: u64,
    layout: RecordParseInfo,
}

// SAFETY: only this value refers to the mapping, which does not depend on the thread that made it.
unsafe impl Send for Ring {}

impl Ring {
    /// Maps a buffer of `data_bytes` (a power of two, at least a page) for the event `fd`.
    ///
    /// # Errors
    ///
    /// Returns the system's error if the mapping is refused, for example because too much memory is locked.
    pub fn map(fd: BorrowedFd<'_>, data_bytes: usize, layout: RecordParseInfo) -> io::Result<Ring> {
        let page = page_size();
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at an address that the system chooses affects no other memory.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                page + data_bytes,
                protection,
                libc::MAP_SHARED,
                fd.as_raw_fd(),
                0,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(address.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Ring { base, page, data_bytes, tail: 0, layout })
    }

    /// Returns the part that the kernel has written and that is not released yet.
    pub fn view(&self) -> View<'_> {
        let head =
            self.position(offset_of!(perf_event_mmap_page, data_head)).load(Ordering::Acquire);
        // SAFETY: the data follow the first page and are `data_bytes` long. The kernel writes only
        // outside the range from tail to head, and a view reads only within it.
        let bytes = unsafe {
            std::slice::from_raw_parts(
                self.base.as_ptr().cast::<u8>().add(self.page),
                self.data_bytes,
            )
        };
        View::new(bytes, self.tail, head, self.layout)
    }

    /// Lets the kernel overwrite everything up to `tail`.
    pub fn release(&mut self, tail: u64) {
        if tail != self.tail {
            self.tail = tail;
            self.position(offset_of!(perf_event_mmap_page, data_tail))
                .store(tail, Ordering::Release);
        }
    }

    /// Returns the head or the tail on the shared page, by its offset.
    fn position(&self, offset: usize) -> &AtomicU64 {
        // SAFETY: both are aligned fields of the page, which is valid as long as the mapping, and
        // both sides access them atomically.
        unsafe { AtomicU64::from_ptr(self.base.as_ptr().byte_add(offset).cast()) }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: the mapping has this length, and no view outlives the ring.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.page + self.data_bytes) };
    }
}

/// Returns the page size in bytes.
pub(super) fn page_size() -> usize {
    // SAFETY: the call has no preconditions.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}
