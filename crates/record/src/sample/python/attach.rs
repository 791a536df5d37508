//! Attaches Python stacks to samples, by thread and time.

use std::collections::HashMap;

use super::PythonStack;

/// The fields of a sample by which its Python stack is found.
#[derive(Debug, Clone, Copy)]
pub struct SampleKey {
    pub time_ns: u64,
    pub pid: u32,
    pub tid: u32,
    /// Whether the thread was in the kernel.
    pub in_kernel: bool,
}

/// The Python stack of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Attached {
    /// The process was not armed.
    None,
    /// The process was armed, but no stack was recorded.
    Lost,
    /// The stack was recorded.
    Stack {
        /// Position in [`Tree::nodes`](crate::preload::Tree).
        node: u32,
        /// See [`simprof_preload::format::flag`].
        flags: u32,
    },
}

/// Returns the stack of each sample, in the order of the samples. Stacks without a sample, which the kernel lost, are ignored.
///
/// The signal of a sample is handled before the thread executes another instruction of user code. So a stack belongs to the
/// last sample of its thread before it. Several samples within one stay in the kernel raise a single signal, on the return to
/// user code. They share one stack, since the Python stack cannot have changed meanwhile. For any other sample without a stack,
/// the stack was lost.
pub fn attach(samples: &[SampleKey], stacks: &[PythonStack]) -> Vec<Attached> {
    let mut by_thread: HashMap<(u32, u32), Thread> = HashMap::new();
    for (index, sample) in samples.iter().enumerate() {
        by_thread.entry((sample.pid, sample.tid)).or_default().samples.push(index);
    }
    for stack in stacks {
        if let Some(thread) = by_thread.get_mut(&(stack.pid, stack.tid)) {
            thread.stacks.push(*stack);
        }
    }
    let mut attached = vec![Attached::Lost; samples.len()];
    for thread in by_thread.into_values() {
        thread.attach(samples, &mut attached);
    }
    attached
}

/// The samples and stacks of one thread.
#[derive(Debug, Default)]
struct Thread {
    /// Positions of its samples.
    samples: Vec<usize>,
    stacks: Vec<PythonStack>,
}

impl Thread {
    /// Attaches each stack to the last sample before it and, if that is in the kernel, to those of the same stay.
    fn attach(mut self, samples: &[SampleKey], attached: &mut [Attached]) {
        self.samples.sort_by_key(|&index| samples[index].time_ns);
        self.stacks.sort_by_key(|stack| stack.time_ns);
        let mut rest = self.samples.as_slice();
        for stack in &self.stacks {
            let count = rest.partition_point(|&index| samples[index].time_ns <= stack.time_ns);
            let (before, after) = rest.split_at(count);
            rest = after;
            for &index in before.iter().rev() {
                attached[index] = Attached::Stack { node: stack.node, flags: stack.flags };
                if !samples[index].in_kernel {
                    break;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parses samples of one thread: a letter and a time each, `u` in user code and `k` in the kernel.
    fn samples(text: &str) -> Vec<SampleKey> {
        let sample = |word: &str| SampleKey {
            time_ns: word[1..].parse().expect("a time"),
            pid: 1,
            tid: 1,
            in_kernel: word.starts_with('k'),
        };
        text.split_whitespace().map(sample).collect()
    }

    fn stack(time_ns: u64, tid: u32) -> PythonStack {
        PythonStack { time_ns, pid: 1, tid, node: time_ns as u32, flags: 0 }
    }

    /// Returns the time of each sample's stack; 0 for a lost one.
    fn attached_times(samples: &[SampleKey], stacks: &[PythonStack]) -> Vec<u32> {
        let node = |attached: &Attached| match attached {
            Attached::Stack { node, .. } => *node,
            _ => 0,
        };
        attach(samples, stacks).iter().map(node).collect()
    }

    #[test]
    fn a_stack_belongs_to_the_last_sample_before_it() {
        let table: [(&str, &[u64], &[u32]); 12] = [
            ("u10 u20 u30", &[11, 21, 31], &[11, 21, 31]),
            // At the same time.
            ("u10 u20", &[10, 20], &[10, 20]),
            // A stack is missing: the first, one in the middle, the last, the only one.
            ("u10 u20 u30", &[21, 31], &[0, 21, 31]),
            ("u10 u20 u30", &[11, 31], &[11, 0, 31]),
            ("u10 u20 u30", &[11, 21], &[11, 21, 0]),
            ("u10", &[], &[0]),
            // A sample is missing, or a sample has two stacks.
            ("u10 u30", &[11, 21, 31], &[11, 31]),
            ("u10", &[5, 11, 12], &[11]),
            // Not in order of time.
            ("u20 u10", &[21, 11], &[21, 11]),
            // Samples of one stay in the kernel share a stack.
            ("k10 k20 k30 k40", &[31, 41], &[31, 31, 31, 41]),
            // Samples before one in user code do not share its stack.
            ("k10 u20 k30", &[31], &[0, 31, 31]),
            ("u10 k20 u30", &[21, 31], &[21, 21, 31]),
        ];
        for (text, times, expected) in table {
            let stacks: Vec<_> = times.iter().map(|&time| stack(time, 1)).collect();
            assert_eq!(attached_times(&samples(text), &stacks), expected, "{text} and {times:?}");
        }
    }

    #[test]
    fn threads_do_not_mix() {
        let mut both = samples("u10 u20 u30");
        both[1].tid = 2;
        let stacks = [stack(11, 1), stack(21, 2), stack(22, 1), stack(31, 3)];
        assert_eq!(attached_times(&both, &stacks), [11, 21, 0]);
        both[1] = SampleKey { pid: 2, ..both[0] };
        assert_eq!(attached_times(&both, &[stack(12, 1)]), [12, 0, 0]);
    }
}
