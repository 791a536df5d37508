//! Rules that were looked up before, by code address: a table without locks that all threads share.

use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};

use super::super::{draw, modules};
use super::cfi;
use super::row::Row;

/// How many places are remembered: a power of two. Others replace them.
const ROWS: usize = 1 << 14;
/// The key of an entry that is being written.
const BUSY: usize = 1;

/// What is known of a code address.
#[derive(Clone, Copy)]
pub struct Place {
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

static ROWS_PLACES: [Entry; ROWS] = [const {
    Entry {
        key: AtomicUsize::new(0),
        row: AtomicU64::new(0),
        module: AtomicU64::new(0),
        address: AtomicU64::new(0),
    }
}; ROWS];

/// What is known of the instruction at `pc`; `scratch` is for reading files.
#[inline]
pub fn find(pc: usize, scratch: &mut [u8]) -> Place {
    let entry = &ROWS_PLACES[draw::mix(pc as u64) as usize & (ROWS - 1)];
    if entry.key.load(Ordering::Acquire) == pc {
        let place = Place {
            row: Row(entry.row.load(Ordering::Relaxed)),
            module: entry.module.load(Ordering::Relaxed) as u32,
            address: entry.address.load(Ordering::Relaxed),
        };
        // The fields are of this address if it is still the key.
        fence(Ordering::Acquire);
        if entry.key.load(Ordering::Relaxed) == pc {
            return place;
        }
    }
    look_up(pc, entry, scratch)
}

#[cold]
fn look_up(pc: usize, entry: &Entry, scratch: &mut [u8]) -> Place {
    let Some(module) = modules::find(pc, scratch) else {
        // Code that was made at run time: another may be there next.
        return Place { row: Row::UNKNOWN, module: 0, address: pc as u64 };
    };
    // SAFETY: the header is of the module in which `pc` is, which is loaded while code of it is on the stack.
    let row = unsafe { cfi::row_at(module.header, pc) };
    let address = pc.wrapping_sub(module.bias) as u64;
    let place = Place { row, module: module.number, address };
    keep(pc, entry, place);
    place
}

fn keep(pc: usize, entry: &Entry, place: Place) {
    let before = entry.key.load(Ordering::Relaxed);
    let taken = before != BUSY
        && entry.key.compare_exchange(before, BUSY, Ordering::Acquire, Ordering::Relaxed).is_ok();
    if taken {
        // The fields must not be seen before the entry is taken.
        fence(Ordering::Release);
        entry.row.store(place.row.0, Ordering::Relaxed);
        entry.module.store(place.module.into(), Ordering::Relaxed);
        entry.address.store(place.address, Ordering::Relaxed);
        entry.key.store(pc, Ordering::Release);
    }
}

/// Forgets everything: after code was unloaded.
pub fn clear() {
    for entry in &ROWS_PLACES {
        let key = entry.key.load(Ordering::Relaxed);
        if key > BUSY {
            let _ = entry.key.compare_exchange(key, 0, Ordering::Relaxed, Ordering::Relaxed);
        }
    }
}
