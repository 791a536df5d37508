//! A lock-free cache of unwinding rules by code address, shared by all threads.

use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};

use super::super::{byte_sampling, modules};
use super::cfi;
use super::row::Row;

/// Number of entries: a power of two. New addresses replace old ones.
const SIZE: usize = 1 << 14;
/// The key of an entry that is being written.
const BUSY: usize = 1;

/// The rule, module and address of a code address.
#[derive(Clone, Copy)]
pub struct CodeLocation {
    pub row: Row,
    /// As in [`super::super::format::Node`].
    pub module: u32,
    pub address: u64,
}

#[repr(C, align(32))]
struct Entry {
    /// The code address, 0 or [`BUSY`].
    key: AtomicUsize,
    row: AtomicU64,
    module: AtomicU64,
    address: AtomicU64,
}

static ENTRIES: [Entry; SIZE] = [const {
    Entry {
        key: AtomicUsize::new(0),
        row: AtomicU64::new(0),
        module: AtomicU64::new(0),
        address: AtomicU64::new(0),
    }
}; SIZE];

/// Returns the location and rule of the instruction at `pc`. `scratch` is a buffer for reading files.
#[inline]
pub fn find(pc: usize, scratch: &mut [u8]) -> CodeLocation {
    let entry = &ENTRIES[byte_sampling::mix(pc as u64) as usize & (SIZE - 1)];
    if entry.key.load(Ordering::Acquire) == pc {
        let location = CodeLocation {
            row: Row(entry.row.load(Ordering::Relaxed)),
            module: entry.module.load(Ordering::Relaxed) as u32,
            address: entry.address.load(Ordering::Relaxed),
        };
        // The fields belong to this address if it is still the key.
        fence(Ordering::Acquire);
        if entry.key.load(Ordering::Relaxed) == pc {
            return location;
        }
    }
    look_up(pc, entry, scratch)
}

#[cold]
fn look_up(pc: usize, entry: &Entry, scratch: &mut [u8]) -> CodeLocation {
    let Some(module) = modules::find(pc, scratch) else {
        // Code that was generated at run time. Other code may follow at the same address, so it is not
        // cached.
        return CodeLocation { row: Row::UNKNOWN, module: 0, address: pc as u64 };
    };
    // SAFETY: the header is that of the module that contains `pc`. The module stays loaded while its code is
    // on the stack.
    let row = unsafe { cfi::row_at(module.header, pc) };
    let address = pc.wrapping_sub(module.bias) as u64;
    let location = CodeLocation { row, module: module.number, address };
    store(pc, entry, location);
    location
}

fn store(pc: usize, entry: &Entry, location: CodeLocation) {
    let before = entry.key.load(Ordering::Relaxed);
    let taken = before != BUSY
        && entry.key.compare_exchange(before, BUSY, Ordering::Acquire, Ordering::Relaxed).is_ok();
    if taken {
        // The stores below must not become visible before the entry is taken.
        fence(Ordering::Release);
        entry.row.store(location.row.0, Ordering::Relaxed);
        entry.module.store(location.module.into(), Ordering::Relaxed);
        entry.address.store(location.address, Ordering::Relaxed);
        entry.key.store(pc, Ordering::Release);
    }
}

/// Empties the cache, after code was unloaded.
pub fn clear() {
    for entry in &ENTRIES {
        let key = entry.key.load(Ordering::Relaxed);
        if key > BUSY {
            let _ = entry.key.compare_exchange(key, 0, Ordering::Relaxed, Ordering::Relaxed);
        }
    }
}
