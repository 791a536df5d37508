//! Hash tables in the shared memory that never wait. Many threads and processes look up and insert at the
//! same time.
//!
//! A slot changes once, from 0 to its final value, by a compare-and-exchange after the entry it refers to was
//! written. So a reader that sees a value also sees the entry. A writer that is killed half-way leaves at
//! most an unused entry.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::format::GENERATIONS;

/// Slots examined for one entry in each generation of a hash table.
pub const PROBES: [usize; GENERATIONS] = [8, 8, 128];

/// Returns the entry for which `is_it` holds, searching from the slot of `hash` in each generation. If there is none, inserts
/// the one that `make` writes. `None` if the table is full. `slots` returns the slots of a generation if it can be used.
///
/// It examines [`PROBES`] slots of each generation. Slots are never emptied: so an entry is in the next generation only if
/// these were taken.
///
/// If two callers insert the same entry at the same time, both get the same one. The other stays unused.
#[inline]
pub fn intern<'a>(
    slots: impl Fn(usize) -> Option<&'a [AtomicU32]>,
    hash: u64,
    is_it: impl Fn(u32) -> bool,
    make: impl FnOnce() -> Option<u32>,
) -> Option<u32> {
    let mut make = Some(make);
    let mut made = None;
    for (generation, probes) in PROBES.into_iter().enumerate() {
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

/// Reserves the next entry of a table whose entries are numbered from 1, of which `used` are in use. Returns its number, and what
/// `entry` returns for it. `None` if `entry` returns none: there is no such entry, or this process cannot map it.
///
/// `used` only counts entries that were returned: another process may still be able to map the next one.
pub fn reserve<T>(used: &AtomicU64, entry: impl Fn(u32) -> Option<T>) -> Option<(u32, T)> {
    let mut before = used.load(Ordering::Acquire);
    loop {
        let number = u32::try_from(before + 1).ok()?;
        let found = entry(number)?;
        match used.compare_exchange(before, before + 1, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => return Some((number, found)),
            Err(now) => before = now,
        }
    }
}

/// Mixes a word into a hash.
#[inline]
pub const fn mix(hash: u64, word: u64) -> u64 {
    // The product's high half depends on all bits. The odd constant is 2^64 divided by the golden ratio.
    let product = (hash ^ word) as u128 * 0x9e37_79b9_7f4a_7c15;
    product as u64 ^ (product >> 64) as u64
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn each_entry_is_reserved_once_although_others_fail() {
        const THREADS: u32 = 8;
        const ENTRIES: u32 = 20_000;
        let used = AtomicU64::new(0);
        let barrier = Barrier::new(THREADS as usize);
        // Some cannot map the second half of the table.
        let reserve_all = &|thread: u32| {
            let mappable = if thread.is_multiple_of(2) { ENTRIES } else { ENTRIES / 2 };
            let next = || reserve(&used, |number| (number <= mappable).then_some(number));
            barrier.wait();
            let (mut numbers, mut failures) = (Vec::new(), 0);
            while failures < ENTRIES {
                match next() {
                    Some((number, entry)) => {
                        assert_eq!(number, entry);
                        numbers.push(number);
                    }
                    None => failures += 1,
                }
            }
            numbers
        };
        let numbers: Vec<u32> = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..THREADS).map(|thread| scope.spawn(move || reserve_all(thread))).collect();
            let joined = threads.into_iter().map(|thread| thread.join().expect("it ends"));
            joined.flatten().collect()
        });
        assert_eq!(numbers.len(), ENTRIES as usize);
        assert!(numbers.into_iter().collect::<BTreeSet<_>>().into_iter().eq(1..=ENTRIES));
        assert_eq!(used.into_inner(), ENTRIES.into());
    }
}
