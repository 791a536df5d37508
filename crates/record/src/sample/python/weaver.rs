//! The Python side of building a profile: merges stacks, adds waits, and keeps account.

use std::collections::BTreeSet;

use simprof_model::{ProfileBuilder, PythonProvenance};

use super::account::Account;
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
    unloaded: BTreeSet<u32>,
    loaded: BTreeSet<u32>,
}

impl<'a> Weaver<'a> {
    /// None where nothing was listened to.
    pub fn new(trace: &'a Trace, expansions: &'a [Expansion]) -> Option<Self> {
        let told = trace.told.as_ref()?;
        let mut evaluates = Vec::with_capacity(trace.stacks.nodes().len());
        for node in trace.stacks.nodes() {
            let expanded = &expansions[node.frame.0 as usize].frames;
            let here = expanded.iter().any(|frame| frame.role == Role::Evaluation);
            evaluates.push(here || node.parent.is_some_and(|parent| evaluates[parent.0 as usize]));
        }
        Some(Self {
            trace,
            told,
            mixed: Mixed::new(told, &trace.stacks, expansions),
            account: Account::default(),
            evaluates,
            unloaded: BTreeSet::new(),
            loaded: told.processes.iter().map(|process| process.pid).collect(),
        })
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

    /// The account, and what a reader must know.
    pub fn finish(self) -> (Option<PythonProvenance>, Vec<String>) {
        let unloaded = if self.told.frames { self.unloaded } else { BTreeSet::new() };
        let warnings = self.account.warnings(self.told, &unloaded);
        (self.account.provenance(self.told), warnings)
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
