//! The buffer that one event shares with the kernel: mapped, read in place, given back.

use std::io;
use std::mem::offset_of;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use linux_perf_event_reader::RecordParseInfo;
use perf_event_open_sys::bindings::perf_event_mmap_page;

use super::merge::View;

/// One mapped buffer. The kernel writes at the head, we read from the tail up to the head.
#[derive(Debug)]
pub(super) struct Ring {
    base: NonNull<perf_event_mmap_page>,
    page: usize,
    data_bytes: usize,
    tail: u64,
    layout: RecordParseInfo,
}

// SAFETY: the mapping belongs to this value alone, whichever thread holds it.
unsafe impl Send for Ring {}

impl Ring {
    /// Maps `data_bytes` (a power of two, at least a page) of the event `fd`.
    pub fn map(fd: BorrowedFd<'_>, data_bytes: usize, layout: RecordParseInfo) -> io::Result<Ring> {
        let page = page_size();
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at an address that the system chooses touches no other memory.
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

    /// What the kernel has written and we have not yet given back.
    pub fn view(&self) -> View<'_> {
        let head =
            self.position(offset_of!(perf_event_mmap_page, data_head)).load(Ordering::Acquire);
        // SAFETY: the data follow the first page and are `data_bytes` long. The kernel writes to
        // them beyond the head only, and a view reads below it only.
        let bytes = unsafe {
            std::slice::from_raw_parts(
                self.base.as_ptr().cast::<u8>().add(self.page),
                self.data_bytes,
            )
        };
        View::new(bytes, self.tail, head, self.layout)
    }

    /// Gives everything up to `tail` back to the kernel.
    pub fn release(&mut self, tail: u64) {
        if tail != self.tail {
            self.tail = tail;
            self.position(offset_of!(perf_event_mmap_page, data_tail))
                .store(tail, Ordering::Release);
        }
    }

    /// One of the two positions on the page that is shared with the kernel, by its offset.
    fn position(&self, offset: usize) -> &AtomicU64 {
        // SAFETY: both are aligned fields of the page, which lives as long as the mapping, and
        // both sides access them atomically.
        unsafe { AtomicU64::from_ptr(self.base.as_ptr().byte_add(offset).cast()) }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: the mapping was made with this length, and no view outlives the ring.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.page + self.data_bytes) };
    }
}

/// Bytes of a page of memory.
pub(super) fn page_size() -> usize {
    // SAFETY: the call has no preconditions.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}
