//! The execution order of replicates: interleaved, randomised and, in every second block, reversed (ABBA).

/// One replicate in the execution order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// Index of the measurement.
    pub measurement: usize,
    /// Number of the replicate, from 0. All slots with the same number form a block and share a seed.
    pub replicate: usize,
    /// Seed of the block.
    pub seed: u64,
}

/// Orders `repeats[i]` replicates of each measurement `i`.
///
/// Block `r` contains the `r`-th replicate of every measurement that has one, so that a slow drift of the machine affects all
/// measurements equally. Two successive blocks form a pair: the first has a random order, the second the same order reversed (an
/// ABBA design). A linear drift thus cancels within a pair if both blocks have the same measurements.
///
/// `ranks`, if there are any, order the first block: measurements of a lower rank come first.
pub fn interleaved(repeats: &[usize], seed: u64, ranks: Option<&[usize]>) -> Vec<Slot> {
    let mut random = fastrand::Rng::with_seed(seed);
    let blocks = repeats.iter().copied().max().unwrap_or(0);
    let mut order: Vec<usize> = (0..repeats.len()).collect();
    let mut slots = Vec::new();
    for replicate in 0..blocks {
        if replicate % 2 == 0 {
            random.shuffle(&mut order);
            if let Some(ranks) = ranks.filter(|_| replicate == 0) {
                order.sort_by_key(|&measurement| ranks[measurement]);
            }
        } else {
            order.reverse();
        }
        let block = order.iter().filter(|&&measurement| replicate < repeats[measurement]);
        let block_seed = seed.wrapping_add(replicate as u64);
        slots.extend(block.map(|&measurement| Slot { measurement, replicate, seed: block_seed }));
    }
    slots
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn blocks_mirror_each_other() {
        let slots = interleaved(&[2; 5], 7, None);
        let order: Vec<usize> = slots.iter().map(|slot| slot.measurement).collect();
        let mirrored: Vec<usize> = order[..5].iter().rev().copied().collect();
        assert_eq!(order[5..], mirrored);
        assert!(slots[..5].iter().all(|slot| slot.seed == slots[0].seed));
        assert_ne!(slots[0].seed, slots[5].seed);
    }

    #[test]
    fn the_seed_determines_the_order() {
        assert_eq!(interleaved(&[3; 8], 1, None), interleaved(&[3; 8], 1, None));
        assert_ne!(interleaved(&[3; 8], 1, None), interleaved(&[3; 8], 2, None));
    }

    #[test]
    fn ranks_order_only_the_first_pair_of_blocks() {
        let ranks = [2, 0, 1, 0, 2, 1];
        let slots = interleaved(&[3; 6], 7, Some(&ranks));
        let block = |number: usize| -> Vec<usize> {
            slots[6 * number..][..6].iter().map(|slot| ranks[slot.measurement]).collect()
        };
        assert_eq!(block(0), [0, 0, 1, 1, 2, 2]);
        assert_eq!(block(1), [2, 2, 1, 1, 0, 0]);
        let mut third = block(2);
        assert!(!third.is_sorted());
        third.sort_unstable();
        assert_eq!(third, block(0));
    }

    proptest! {
        #[test]
        fn every_replicate_is_run_once(repeats in prop::collection::vec(0usize..6, 0..10), seed: u64) {
            let mut seen: Vec<(usize, usize)> =
                interleaved(&repeats, seed, None).iter().map(|slot| (slot.measurement, slot.replicate)).collect();
            seen.sort_unstable();
            let expected: Vec<(usize, usize)> = repeats
                .iter()
                .enumerate()
                .flat_map(|(index, &count)| (0..count).map(move |replicate| (index, replicate)))
                .collect();
            prop_assert_eq!(seen, expected);
        }
    }
}
