//! Applies the rules for origins and components to traced functions. The rules are written for sampled profiles.

use simprof_model::{
    BUILT_IN_FILE, CallProfile, Frame, FrameId, Function, FunctionId, FunctionKind, Profile,
    ProfileBuilder, StackId, StackNode, StackSample, ThreadId, WeightKind,
};

use super::modules::slashes;
use crate::analysis::{BUILT_IN, ComponentRules, Origin, default_component_names, origins};

/// The traced functions as a sampled profile.
pub(super) struct AsProfile {
    profile: Profile,
    ids: Vec<FunctionId>,
}

impl AsProfile {
    pub(super) fn new(profile: &CallProfile, names: &[String]) -> Self {
        let mut builder = ProfileBuilder::new(WeightKind::WallNs);
        builder.thread(0, 0, "");
        let built_in = builder.module(BUILT_IN, None);
        let functions = profile.functions.iter().zip(names);
        let ids = functions
            .map(|(called, name)| {
                let file = profile.file(called);
                let is_built_in = file == BUILT_IN_FILE;
                let function = Function {
                    name: builder.string(name),
                    module: is_built_in.then_some(built_in),
                    file: (!is_built_in).then(|| builder.string(&slashes(file))),
                    line: Some(called.line),
                    kind: if is_built_in { FunctionKind::Native } else { FunctionKind::Python },
                };
                builder.function(function)
            })
            .collect();
        Self { profile: builder.finish(), ids }
    }

    /// Returns the origin of each function.
    pub(super) fn origins(&self) -> Vec<Origin> {
        let origins = origins(&self.profile);
        self.ids.iter().map(|id| origins[id.index()]).collect()
    }

    /// Returns the component of each function under the user's rules; `None` if no rule matches.
    pub(super) fn ruled_components(&self, rules: &ComponentRules) -> Vec<Option<String>> {
        let name = |&id: &FunctionId| rules.component_of(&self.profile, id).map(str::to_owned);
        self.ids.iter().map(name).collect()
    }

    /// Returns the component of each function. The times decide which package is split into its modules.
    pub(super) fn components(&mut self, charged_s: &[f64]) -> Vec<String> {
        for (index, (&function, &time_s)) in (0..).zip(self.ids.iter().zip(charged_s)) {
            let (line, file, address, inlined) = (None, None, 0, false);
            self.profile.frames.push(Frame { function, line, file, address, inlined });
            self.profile.stacks.push(StackNode { parent: None, frame: FrameId(index) });
            let (stack, weight) = (Some(StackId(index)), whole_ns(time_s));
            let thread = ThreadId(0);
            self.profile.samples.push(StackSample { time_ns: 0, thread, stack, weight });
        }
        let names = default_component_names(&self.profile);
        self.ids.iter().map(|id| names[id.index()].clone()).collect()
    }
}

/// Converts to nanoseconds. The value is limited so that the sum over any profile fits in 64 bits.
fn whole_ns(time_s: f64) -> u64 {
    (time_s * 1e9).clamp(0.0, (1_u64 << 40) as f64 * 1e3) as u64
}
