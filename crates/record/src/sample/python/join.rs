//! Which Python stack belongs to which sample: by thread, in order of time.

use std::collections::HashMap;

use super::ToldStack;

/// A sample, as far as joining is concerned.
#[derive(Debug, Clone, Copy)]
pub struct Sampled {
    pub time_ns: u64,
    pub pid: u32,
    pub tid: u32,
    /// Whether it hit within the kernel.
    pub in_kernel: bool,
}

/// What came of a sample's Python stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Attached {
    /// None was asked for: the process was not armed.
    None,
    /// It did not come.
    Lost,
    /// It came.
    Stack {
        /// In [`Tree::nodes`](crate::preload::Tree).
        node: u32,
        /// See [`simprof_preload::format::flag`].
        flags: u32,
    },
}

/// Finds for each sample its stack; in the order of the samples. Stacks whose sample the kernel lost are left over.
///
/// A stack is told by the signal that its sample raises, before the thread executes another instruction of user code: it
/// belongs to the last sample of its thread before it. Samples within the kernel raise one signal together, when the kernel
/// returns to user code: they share its stack, which cannot have changed meanwhile. Whatever else has no stack of its own
/// has lost it.
pub fn join(samples: &[Sampled], stacks: &[ToldStack]) -> Vec<Attached> {
    let mut by_thread: HashMap<(u32, u32), Thread> = HashMap::new();
    for (at, sample) in samples.iter().enumerate() {
        by_thread.entry((sample.pid, sample.tid)).or_default().samples.push(at);
    }
    for stack in stacks {
        if let Some(thread) = by_thread.get_mut(&(stack.pid, stack.tid)) {
            thread.stacks.push(*stack);
        }
    }
    let mut attached = vec![Attached::Lost; samples.len()];
    for thread in by_thread.into_values() {
        thread.join(samples, &mut attached);
    }
    attached
}

/// What there is of one thread.
#[derive(Debug, Default)]
struct Thread {
    /// Positions of its samples.
    samples: Vec<usize>,
    stacks: Vec<ToldStack>,
}

impl Thread {
    /// Attaches each stack to the samples since the stack before it.
    fn join(mut self, samples: &[Sampled], attached: &mut [Attached]) {
        self.samples.sort_by_key(|&at| samples[at].time_ns);
        self.stacks.sort_by_key(|stack| stack.time_ns);
        let mut rest = self.samples.as_slice();
        for stack in &self.stacks {
            let count = rest.partition_point(|&at| samples[at].time_ns <= stack.time_ns);
            let (before, after) = rest.split_at(count);
            rest = after;
            let claim = Attached::Stack { node: stack.node, flags: stack.flags };
            for &at in before.iter().rev() {
                attached[at] = claim;
                if !samples[at].in_kernel {
                    break;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Samples of one thread: a letter and a time each, `u` in user code and `k` in the kernel.
    fn samples(text: &str) -> Vec<Sampled> {
        let sample = |word: &str| Sampled {
            time_ns: word[1..].parse().expect("a time"),
            pid: 1,
            tid: 1,
            in_kernel: word.starts_with('k'),
        };
        text.split_whitespace().map(sample).collect()
    }

    fn stack(time_ns: u64, tid: u32) -> ToldStack {
        ToldStack { time_ns, pid: 1, tid, node: time_ns as u32, flags: 0 }
    }

    /// The stacks' times, by sample; 0 for a lost one.
    fn joined(samples: &[Sampled], stacks: &[ToldStack]) -> Vec<u32> {
        let node = |attached: &Attached| match attached {
            Attached::Stack { node, .. } => *node,
            _ => 0,
        };
        join(samples, stacks).iter().map(node).collect()
    }

    #[test]
    fn a_stack_belongs_to_the_last_sample_before_it() {
        let table: [(&str, &[u64], &[u32]); 12] = [
            ("u10 u20 u30", &[11, 21, 31], &[11, 21, 31]),
            // At the very same time.
            ("u10 u20", &[10, 20], &[10, 20]),
            // One is missing: the first, one in the middle, the last, all.
            ("u10 u20 u30", &[21, 31], &[0, 21, 31]),
            ("u10 u20 u30", &[11, 31], &[11, 0, 31]),
            ("u10 u20 u30", &[11, 21], &[11, 21, 0]),
            ("u10", &[], &[0]),
            // A sample is missing, or its stack came twice.
            ("u10 u30", &[11, 21, 31], &[11, 31]),
            ("u10", &[5, 11, 12], &[11]),
            // They came in disorder.
            ("u20 u10", &[21, 11], &[21, 11]),
            // Within one call of the kernel the samples share a stack; within another they do not.
            ("k10 k20 k30 k40", &[31, 41], &[31, 31, 31, 41]),
            // In user code a sample must have its own: what came before it has lost its.
            ("k10 u20 k30", &[31], &[0, 31, 31]),
            ("u10 k20 u30", &[21, 31], &[21, 21, 31]),
        ];
        for (text, times, expected) in table {
            let stacks: Vec<_> = times.iter().map(|&time| stack(time, 1)).collect();
            assert_eq!(joined(&samples(text), &stacks), expected, "{text} and {times:?}");
        }
    }

    #[test]
    fn threads_do_not_mix() {
        let mut both = samples("u10 u20 u30");
        both[1].tid = 2;
        let stacks = [stack(11, 1), stack(21, 2), stack(22, 1), stack(31, 3)];
        assert_eq!(joined(&both, &stacks), [11, 21, 0]);
        both[1] = Sampled { pid: 2, ..both[0] };
        assert_eq!(joined(&both, &[stack(12, 1)]), [12, 0, 0]);
    }
}
