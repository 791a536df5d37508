//! The Python side of building a profile: merges stacks, adds waits, and keeps account.

use std::collections::BTreeSet;

use simprof_model::{ProfileBuilder, PythonProvenance};

use super::account::{Account, PythonCaveats};
use super::join::Attached;
use super::mixed::{Merged, Mixed};
use super::plumbing::Role;
use super::{Told, waits};
use crate::sample::observer::{RawSample, Trace};
use crate::sample::profile::Expansion;

/// Works on one recording of which processes told something.
pub struct Weaver<'a> {
    trace: &'a Trace,
    told: &'a Told,
    mixed: Mixed<'a>,
    account: Account,
    /// By raw stack: whether the interpreter's evaluation function is in it.
    evaluates: Vec<bool>,
    /// By raw stack: whether simprof's own library works at its end.
    probes: Vec<bool>,
    unloaded: BTreeSet<u32>,
    loaded: BTreeSet<u32>,
}

impl<'a> Weaver<'a> {
    /// None where nothing was listened to.
    pub fn new(trace: &'a Trace, expansions: &'a [Expansion]) -> Option<Self> {
        let told = trace.told.as_ref()?;
        let runs = |role| running(trace, expansions, role);
        let mut probes = runs(Role::Probe);
        for (probes, node) in probes.iter_mut().zip(trace.stacks.nodes()) {
            // What stands in for a function, unless it has called that.
            let innermost = expansions[node.frame.0 as usize].frames.first();
            *probes |= innermost.is_some_and(|frame| frame.in_probe);
        }
        Some(Self {
            trace,
            told,
            mixed: Mixed::new(told, &trace.stacks, expansions),
            account: Account::default(),
            evaluates: runs(Role::Evaluation),
            probes,
            unloaded: BTreeSet::new(),
            loaded: told.processes.iter().map(|process| process.pid).collect(),
        })
    }

    /// Counts a sample that is of the profiler's own work in the target, which is not to be in the profile; whether it is.
    pub fn leaves_out(&mut self, sample: &RawSample) -> bool {
        let in_text = match sample.python {
            Attached::Stack { node, .. } => self.mixed.is_own(sample.stack, node),
            _ => false,
        };
        let is_own = in_text || sample.stack.is_some_and(|stack| self.probes[stack.0 as usize]);
        if is_own {
            self.account.count_own(sample.python);
        }
        is_own
    }

    /// The merged stack of a sample; none where its native stack is all that there is. `native_cut` tells whether that misses
    /// its root.
    pub fn stack(
        &mut self,
        sample: &RawSample,
        native_cut: bool,
        builder: &mut ProfileBuilder,
    ) -> Option<Merged> {
        let merged = match sample.python {
            Attached::Stack { node, flags } if node != 0 => {
                Some(self.mixed.stack(sample.stack, native_cut, (node, flags), builder))
            }
            _ => None,
        };
        self.account.count(sample.python, merged.as_ref());
        if sample.python == Attached::None {
            self.look_for_python(sample);
        }
        merged
    }

    /// Adds the waits.
    pub fn add_waits(&mut self, builder: &mut ProfileBuilder) {
        waits::add(self.told, &self.trace.threads, &mut self.mixed, builder);
    }

    /// The account; notes what a reader must know.
    pub fn finish(self, caveats: &mut PythonCaveats) -> Option<PythonProvenance> {
        let unloaded = if self.told.frames { self.unloaded.len() } else { 0 };
        caveats.note(self.told, unloaded);
        self.account.provenance(self.told)
    }

    /// Notes processes that run Python without having told of it.
    fn look_for_python(&mut self, sample: &RawSample) {
        let pid = self.trace.threads[sample.thread as usize].pid;
        let evaluates = sample.stack.is_some_and(|stack| self.evaluates[stack.0 as usize]);
        if evaluates && !self.loaded.contains(&pid) {
            self.unloaded.insert(pid);
        }
    }
}

/// By raw stack: whether a function of that role is in it.
fn running(trace: &Trace, expansions: &[Expansion], role: Role) -> Vec<bool> {
    let mut found: Vec<bool> = Vec::with_capacity(trace.stacks.nodes().len());
    for node in trace.stacks.nodes() {
        let expanded = &expansions[node.frame.0 as usize].frames;
        let here = expanded.iter().any(|frame| frame.role == role);
        found.push(here || node.parent.is_some_and(|parent| found[parent.0 as usize]));
    }
    found
}
