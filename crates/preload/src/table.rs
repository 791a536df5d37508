//! Hash tables in the shared memory that never wait. Many threads and processes look up and insert at the
//! same time.
//!
//! A slot changes once, from 0 to its final value, by a compare-and-exchange after the entry it refers to was
//! written. So a reader that sees a value also sees the entry. A writer that is killed half-way leaves at
//! most an unused entry.

use core::sync::atomic::{AtomicU32, Ordering};

/// Maximum number of slots examined for one entry in a table's only or last generation.
pub const MOST_PROBES: usize = 128;

/// Returns the entry for which `is_it` holds, searching from the slot of `hash` in each generation. If there is none, inserts
/// the one that `make` writes. `None` if the table is full. `slots` returns the slots of a generation if it can be used.
///
/// `probes` are the numbers of slots examined in each generation. Slots are never emptied: so an entry is in the next generation
/// only if these were taken.
///
/// If two callers insert the same entry at the same time, both get the same one. The other stays unused.
#[inline]
pub fn intern<'a>(
    slots: impl Fn(usize) -> Option<&'a [AtomicU32]>,
    probes: &[usize],
    hash: u64,
    is_it: impl Fn(u32) -> bool,
    make: impl FnOnce() -> Option<u32>,
) -> Option<u32> {
    let mut make = Some(make);
    let mut made = None;
    for (generation, &probes) in probes.iter().enumerate() {
        let slots = slots(generation)?;
        let mask = slots.len() - 1;
        for probe in 0..probes {
            let slot = &slots[(hash as usize).wrapping_add(probe) & mask];
            let mut value = slot.load(Ordering::Acquire);
            if value == 0 {
                let new = match made {
                    Some(new) => new,
                    None => make.take()?()?,
                };
                made = Some(new);
                match slot.compare_exchange(0, new, Ordering::AcqRel, Ordering::Acquire) {
                    Ok(_) => return Some(new),
                    Err(theirs) => value = theirs,
                }
            }
            if is_it(value) {
                return Some(value);
            }
        }
    }
    None
}

/// Mixes a word into a hash.
#[inline]
pub const fn mix(hash: u64, word: u64) -> u64 {
    // The product's high half depends on all bits. The odd constant is 2^64 divided by the golden ratio.
    let product = (hash ^ word) as u128 * 0x9e37_79b9_7f4a_7c15;
    product as u64 ^ (product >> 64) as u64
}
