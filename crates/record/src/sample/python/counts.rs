//! Counts samples by the state of their Python stacks: recorded, lost, unreadable, truncated.

use std::collections::BTreeSet;

use simprof_model::PythonProvenance;
use simprof_preload::format::flag;

use super::PythonTrace;
use super::attach::Attached;
use super::interpreter::interpreter;
use super::merged_stacks::Merged;
use super::stack_merge::Fit;

/// The counts of one run.
#[derive(Debug, Clone, Default)]
pub struct PythonCounts {
    counts: PythonProvenance,
}

impl PythonCounts {
    /// Counts a sample, with its merged stack if it has one.
    pub fn count(&mut self, attached: Attached, merged: Option<&Merged>) {
        let counts = &mut self.counts;
        let flags = match attached {
            Attached::None => return,
            Attached::Lost => flag::FULL,
            Attached::Stack { flags, .. } => flags,
        };
        counts.samples += 1;
        if flags & flag::FULL != 0 {
            counts.lost += 1;
            return;
        }
        let is_native = matches!(attached, Attached::Stack { node: 0, .. });
        let is_unreadable = flags & flag::UNREADABLE != 0 || merged.is_some_and(|m| m.unreadable);
        counts.native += u64::from(is_native && !is_unreadable);
        counts.unreadable += u64::from(is_unreadable);
        counts.cut += u64::from(flags & flag::CUT != 0);
        counts.left_out += u64::from(flags & flag::LEFT_OUT != 0);
        counts.unmerged += u64::from(merged.is_some_and(|merged| merged.fit == Fit::Unmerged));
    }

    /// Counts a sample of simprof's own work, which is not in the profile.
    pub fn count_own(&mut self, attached: Attached) {
        self.counts.own += 1;
        self.counts.samples += u64::from(attached != Attached::None);
    }

    /// Returns the counts and the interpreters; `None` if no process ran Python.
    pub fn provenance(&self, python: &PythonTrace) -> Option<PythonProvenance> {
        if python.processes.is_empty() {
            return None;
        }
        let versions = python.processes.iter().filter(|process| process.version != 0);
        let names: BTreeSet<String> = versions.map(interpreter).collect();
        let interpreters = names.into_iter().collect();
        Some(PythonProvenance { interpreters, ..self.counts.clone() })
    }
}

#[cfg(test)]
mod tests {
    use simprof_preload::format::state;

    use super::*;
    use crate::sample::python::PythonProcess;

    #[test]
    fn samples_are_counted_by_their_python_stacks() {
        let merged = |fit, unreadable| Merged { stack: None, reaches_root: true, fit, unreadable };
        let stack = |node, flags| Attached::Stack { node, flags };
        let mut counts = PythonCounts::default();
        counts.count(Attached::None, None);
        counts.count(Attached::Lost, None);
        counts.count(stack(0, flag::FULL), None);
        counts.count(stack(0, flag::NO_PYTHON), None);
        counts.count(stack(4, 0), Some(&merged(Fit::Whole, false)));
        counts.count(stack(4, flag::CUT), Some(&merged(Fit::Unmerged, false)));
        counts.count(stack(4, 0), Some(&merged(Fit::Completed, true)));
        counts.count(stack(4, flag::LEFT_OUT), Some(&merged(Fit::Whole, false)));
        counts.count_own(stack(4, 0));
        assert_eq!(counts.provenance(&PythonTrace::default()), None);
        let (version, free_threaded) = (0x030b_07f0, false);
        let (state, pid, time_ns, reason) = (state::SAMPLED, 7, 0, 0);
        let process = PythonProcess { state, pid, time_ns, version, reason, free_threaded };
        let python = PythonTrace { processes: vec![process], ..PythonTrace::default() };
        let expected = PythonProvenance {
            interpreters: vec!["CPython 3.11.7".to_owned()],
            samples: 8,
            native: 1,
            lost: 2,
            unreadable: 1,
            cut: 1,
            left_out: 1,
            unmerged: 1,
            own: 1,
        };
        assert_eq!(counts.provenance(&python), Some(expected));
    }
}
