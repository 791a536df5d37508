//! Builds profiles. Strings, modules, functions, frames and stacks are interned.

use std::collections::HashMap;

use super::{
    Frame, FrameId, Function, FunctionId, Module, ModuleId, PROFILE_SCHEMA, Profile, Provenance,
    StackId, StackNode, StackSample, StringId, Thread, ThreadId, ThreadStates, TightLoop,
    WaitSample, WeightKind,
};

/// Builds a [`Profile`] with interned tables.
#[derive(Debug)]
pub struct ProfileBuilder {
    profile: Profile,
    strings: HashMap<String, StringId>,
    modules: HashMap<Module, ModuleId>,
    functions: HashMap<Function, FunctionId>,
    frames: HashMap<Frame, FrameId>,
    stacks: HashMap<StackNode, StackId>,
    threads: HashMap<(u32, u32), ThreadId>,
}

/// Returns the id of `value`. Appends it to `table` if it is new.
fn intern<T: Clone + Eq + std::hash::Hash, I: Copy>(
    table: &mut Vec<T>,
    known: &mut HashMap<T, I>,
    value: T,
    id: impl Fn(u32) -> I,
) -> I {
    *known.entry(value).or_insert_with_key(|value| {
        table.push(value.clone());
        id(u32::try_from(table.len() - 1).expect("a profile has fewer than 2^32 entries"))
    })
}

impl ProfileBuilder {
    /// Creates a builder for a profile with the given kind of weight.
    pub fn new(weight: WeightKind) -> Self {
        Self {
            profile: Profile {
                schema: PROFILE_SCHEMA.to_owned(),
                weight,
                strings: Vec::new(),
                modules: Vec::new(),
                functions: Vec::new(),
                frames: Vec::new(),
                stacks: Vec::new(),
                threads: Vec::new(),
                samples: Vec::new(),
                waits: Vec::new(),
                thread_states: Vec::new(),
                loops: Vec::new(),
                provenance: Provenance::default(),
            },
            strings: HashMap::new(),
            modules: HashMap::new(),
            functions: HashMap::new(),
            frames: HashMap::new(),
            stacks: HashMap::new(),
            threads: HashMap::new(),
        }
    }

    /// Interns a string.
    pub fn string(&mut self, text: &str) -> StringId {
        if let Some(&id) = self.strings.get(text) {
            return id;
        }
        intern(&mut self.profile.strings, &mut self.strings, text.to_owned(), StringId)
    }

    /// Interns a module.
    pub fn module(&mut self, path: &str, build_id: Option<String>) -> ModuleId {
        let path = self.string(path);
        intern(&mut self.profile.modules, &mut self.modules, Module { path, build_id }, ModuleId)
    }

    /// Interns a function.
    pub fn function(&mut self, function: Function) -> FunctionId {
        intern(&mut self.profile.functions, &mut self.functions, function, FunctionId)
    }

    /// Interns a frame.
    pub fn frame(&mut self, frame: Frame) -> FrameId {
        intern(&mut self.profile.frames, &mut self.frames, frame, FrameId)
    }

    /// Interns a stack, given from root to leaf. `None` if it is empty.
    pub fn stack(&mut self, from_root: impl IntoIterator<Item = FrameId>) -> Option<StackId> {
        from_root.into_iter().fold(None, |parent, frame| Some(self.child(parent, frame)))
    }

    /// Interns the stack that has `frame` as its leaf and `parent` as the caller.
    pub fn child(&mut self, parent: Option<StackId>, frame: FrameId) -> StackId {
        intern(&mut self.profile.stacks, &mut self.stacks, StackNode { parent, frame }, StackId)
    }

    /// Registers a thread. If it is known, a name that is not empty replaces the earlier one.
    pub fn thread(&mut self, pid: u32, tid: u32, name: &str) -> ThreadId {
        let threads = &mut self.profile.threads;
        let id = *self.threads.entry((pid, tid)).or_insert_with(|| {
            threads.push(Thread { pid, tid, name: String::new() });
            ThreadId(u32::try_from(threads.len() - 1).expect("fewer than 2^32 threads"))
        });
        if !name.is_empty() {
            name.clone_into(&mut threads[id.index()].name);
        }
        id
    }

    /// Adds a sample.
    pub fn sample(&mut self, sample: StackSample) {
        self.profile.samples.push(sample);
    }

    /// Adds a wait.
    pub fn wait(&mut self, wait: WaitSample) {
        self.profile.waits.push(wait);
    }

    /// Adds what a thread did.
    pub fn thread_states(&mut self, states: ThreadStates) {
        self.profile.thread_states.push(states);
    }

    /// Adds a tight loop unless it is known.
    pub fn tight_loop(&mut self, tight: TightLoop) {
        if !self.profile.loops.contains(&tight) {
            self.profile.loops.push(tight);
        }
    }

    /// Interns those stacks of `other` for which `wanted` is true, with everything that they refer to, and the tight loops. Returns the new id of each stack of
    /// `other`: `None` for a stack that is not wanted. The parents of a wanted stack must be wanted too.
    pub fn absorb_stacks(
        &mut self,
        other: &Profile,
        wanted: impl Fn(StackId) -> bool,
    ) -> Vec<Option<StackId>> {
        let mut frames: Vec<Option<FrameId>> = vec![None; other.frames.len()];
        let mut stacks: Vec<Option<StackId>> = Vec::with_capacity(other.stacks.len());
        for (id, node) in (0..).map(StackId).zip(&other.stacks) {
            let new_id = wanted(id).then(|| {
                let frame = &mut frames[node.frame.index()];
                let frame = *frame.get_or_insert_with(|| self.absorb_frame(other, node.frame));
                self.child(node.parent.and_then(|id| stacks[id.index()]), frame)
            });
            stacks.push(new_id);
        }
        for tight in &other.loops {
            let module = self.absorb_module(other, tight.module);
            let tight = tight.translated(other, module, |text| self.string(text));
            self.tight_loop(tight);
        }
        stacks
    }

    fn absorb_module(&mut self, other: &Profile, id: ModuleId) -> ModuleId {
        let module = &other.modules[id.index()];
        self.module(other.string(module.path), module.build_id.clone())
    }

    /// Interns a frame of another profile.
    fn absorb_frame(&mut self, other: &Profile, id: FrameId) -> FrameId {
        let frame = other.frame(id);
        let function = other.function(frame.function);
        let function = Function {
            name: self.string(other.string(function.name)),
            module: function.module.map(|id| self.absorb_module(other, id)),
            file: function.file.map(|file| self.string(other.string(file))),
            ..*function
        };
        let function = self.function(function);
        let file = frame.file.map(|file| self.string(other.string(file)));
        self.frame(Frame { function, file, ..*frame })
    }

    /// Returns the profile as built so far.
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    /// Returns the provenance, to be filled in.
    pub fn provenance(&mut self) -> &mut Provenance {
        &mut self.profile.provenance
    }

    /// Returns the profile, with samples and waits in order of time.
    pub fn finish(mut self) -> Profile {
        self.profile.samples.sort_by_key(|sample| sample.time_ns);
        self.profile.waits.sort_by_key(|wait| wait.time_ns);
        self.profile
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FunctionKind;

    fn frame(builder: &mut ProfileBuilder, name: &str) -> FrameId {
        let name = builder.string(name);
        let kind = FunctionKind::Native;
        let function =
            builder.function(Function { name, module: None, file: None, line: None, kind });
        builder.frame(Frame { function, line: Some(1), file: None, address: 0, inlined: false })
    }

    #[test]
    fn equal_stacks_are_stored_once() {
        let mut builder = ProfileBuilder::new(WeightKind::CpuNs);
        let (main, work) = (frame(&mut builder, "main"), frame(&mut builder, "work"));
        let thread = builder.thread(1, 1, "main");
        for time_ns in [20, 10] {
            let stack = builder.stack([main, work]);
            builder.sample(StackSample { time_ns, thread, stack, weight: 5 });
        }
        let profile = builder.finish();
        assert_eq!(profile.stacks.len(), 2);
        assert_eq!(profile.total_weight(), 10);
        assert_eq!(profile.samples[0].time_ns, 10);
        let names: Vec<_> = profile
            .frames_from_leaf(profile.samples[0].stack)
            .map(|id| profile.function_name(profile.frame(id).function))
            .collect();
        assert_eq!(names, ["work", "main"]);
    }

    #[test]
    fn stacks_and_provenance_of_several_profiles_are_joined() {
        let run = |names: [&str; 2]| {
            let mut builder = ProfileBuilder::new(WeightKind::CpuNs);
            let frames = names.map(|name| frame(&mut builder, name));
            let thread = builder.thread(1, 1, "main");
            let stack = builder.stack(frames);
            builder.sample(StackSample { time_ns: 1, thread, stack, weight: 2 });
            *builder.provenance() = Provenance {
                event: "cpu-clock".into(),
                samples: 1,
                target_cpu_ns: 10,
                achieved_hz: 5.0,
                ..Provenance::default()
            };
            builder.finish()
        };
        let mut joined = ProfileBuilder::new(WeightKind::CpuNs);
        for run in [run(["main", "a"]), run(["main", "b"])] {
            let stacks = joined.absorb_stacks(&run, |_| true);
            let thread = joined.thread(1, 1, "main");
            for sample in &run.samples {
                let stack = sample.stack.and_then(|id| stacks[id.index()]);
                joined.sample(StackSample { thread, stack, ..*sample });
            }
            joined.provenance().absorb(&run.provenance);
        }
        let joined = joined.finish();
        assert_eq!((joined.total_weight(), joined.functions.len()), (4, 3));
        assert_eq!((joined.provenance.samples, joined.provenance.target_cpu_ns), (2, 20));
        assert!((joined.provenance.achieved_hz - 5.0).abs() < 1e-9);
        let leaf = |index: usize| {
            let first = joined.frames_from_leaf(joined.samples[index].stack).next();
            joined.function_name(joined.frame(first.expect("a leaf")).function).to_owned()
        };
        assert_eq!([leaf(0), leaf(1)], ["a", "b"]);
    }

    #[test]
    fn profiles_survive_serialisation() {
        let mut builder = ProfileBuilder::new(WeightKind::WallNs);
        let main = frame(&mut builder, "main \u{1F980} \"quoted\"");
        let thread = builder.thread(1, 2, "worker");
        let stack = builder.stack([main]);
        builder.sample(StackSample { time_ns: 1, thread, stack, weight: 1 });
        let profile = builder.finish();
        let text = serde_json::to_string(&profile).expect("profiles serialise");
        assert_eq!(serde_json::from_str::<Profile>(&text).expect("and back"), profile);
    }
}
