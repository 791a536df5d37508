//! Where a cost is: sampled stacks, interned, with the record of how they were obtained.

use std::collections::HashMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(transparent)]
        pub struct $name(pub u32);

        impl $name {
            /// The position in the table that this id refers to.
            pub fn index(self) -> usize {
                self.0 as usize
            }
        }
    };
}

id!(
    /// Position in [`Profile::strings`].
    StringId
);
id!(
    /// Position in [`Profile::modules`].
    ModuleId
);
id!(
    /// Position in [`Profile::functions`].
    FunctionId
);
id!(
    /// Position in [`Profile::frames`].
    FrameId
);
id!(
    /// Position in [`Profile::stacks`].
    StackId
);
id!(
    /// Position in [`Profile::threads`].
    ThreadId
);

/// What the weights of a profile count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WeightKind {
    /// Nanoseconds on a CPU.
    CpuNs,
    /// Nanoseconds of wall-clock time.
    WallNs,
    /// Bytes allocated.
    Bytes,
    /// Number of allocations.
    Allocations,
    /// Number of calls.
    Calls,
}

/// Which world a function belongs to.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum FunctionKind {
    /// Machine code of the target, with a symbol.
    Native,
    /// The operating system's kernel.
    Kernel,
    /// A Python function.
    Python,
    /// Machine code without a symbol: named `module+0xoffset`.
    Unsymbolised,
}

/// A file that code was loaded from.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Module {
    /// Path as the target saw it, or a name in brackets (`[kernel]`, `[vdso]`).
    pub path: StringId,
    /// GNU build id in lower-case hexadecimal, where the file has one.
    pub build_id: Option<String>,
}

/// A function, as symbolised.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Function {
    /// Demangled name.
    pub name: StringId,
    /// Where its code was loaded from.
    pub module: Option<ModuleId>,
    /// Source file, as the debug information names it.
    pub file: Option<StringId>,
    /// Line of its declaration (1-based), where known.
    pub line: Option<u32>,
    /// Which world it belongs to.
    pub kind: FunctionKind,
}

/// One place in a function: what a stack is made of.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Frame {
    /// The function that is executing.
    pub function: FunctionId,
    /// Source line being executed (1-based), where known.
    pub line: Option<u32>,
    /// Source file of that line; differs from the function's where code was included or inlined.
    pub file: Option<StringId>,
    /// Offset of the instruction from the start of its module, in bytes.
    pub address: u64,
    /// True where the function was inlined into its caller (the next frame towards the root).
    pub inlined: bool,
}

/// A stack as a path in a tree: this frame, called from `parent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct StackNode {
    /// The caller, or none at the root.
    pub parent: Option<StackId>,
    /// The frame at this node.
    pub frame: FrameId,
}

/// A thread that was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Thread {
    /// Process id in the recorder's namespace.
    pub pid: u32,
    /// Thread id in the recorder's namespace.
    pub tid: u32,
    /// Last known name.
    pub name: String,
}

/// One sample of one thread's stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StackSample {
    /// CLOCK_MONOTONIC, ns.
    pub time_ns: u64,
    /// The thread that was sampled.
    pub thread: ThreadId,
    /// The leaf of its stack; none where no frame could be had.
    pub stack: Option<StackId>,
    /// In the unit of the profile's [`WeightKind`].
    pub weight: u64,
}

/// What a thread waited for.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum WaitCause {
    /// Its turn with the Python interpreter: the global interpreter lock.
    Interpreter,
    /// Another thread: a lock, a condition, a semaphore, its end.
    Synchronisation,
    /// Time to pass.
    Sleep,
    /// Events of file descriptors: poll, select, epoll.
    Events,
    /// A file, a pipe or a socket.
    Io,
    /// The end of a child process.
    Child,
}

/// Waiting time of one thread, by the stack that it waited in. Long waits and a random choice of the short ones, each with the time
/// that it stands for, so that sums are unbiased.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WaitSample {
    /// CLOCK_MONOTONIC of its end, ns.
    pub time_ns: u64,
    /// The thread that waited.
    pub thread: ThreadId,
    /// The leaf of its stack; none where no frame could be had.
    pub stack: Option<StackId>,
    /// Nanoseconds of waiting that this sample stands for.
    pub weight_ns: u64,
    /// What for.
    pub cause: WaitCause,
}

/// How the Python frames of a profile were obtained, and what they lack. All counts are of samples.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PythonProvenance {
    /// The interpreters that were seen, such as `CPython 3.11.7`.
    pub interpreters: Vec<String>,
    /// Samples of processes that run Python, from the start of their sampling with Python frames on.
    pub samples: u64,
    /// Of those, samples of threads that run no Python.
    pub native: u64,
    /// Samples whose Python stack did not come.
    pub lost: u64,
    /// Samples of which at least one Python frame could not be read.
    pub unreadable: u64,
    /// Samples whose Python stack is deeper than what is kept of it; the innermost frames are there.
    pub cut: u64,
    /// Samples whose Python and native frames do not fit together: the Python frames are there, with the native
    /// ones beneath the innermost.
    pub unmerged: u64,
    /// Samples within the profiler's own library or its own texts in Python. They tell nothing of the program and are not
    /// in the profile.
    #[serde(default)]
    pub own: u64,
}

impl PythonProvenance {
    /// Share of the samples whose Python stack is lost or torn, 0 to 1.
    pub fn lost_share(&self) -> f64 {
        (self.lost + self.unreadable) as f64 / self.samples.max(1) as f64
    }

    /// Joins the record of another run of the same target.
    pub fn absorb(&mut self, other: &PythonProvenance) {
        add_new(&mut self.interpreters, &other.interpreters);
        self.samples += other.samples;
        self.native += other.native;
        self.lost += other.lost;
        self.unreadable += other.unreadable;
        self.cut += other.cut;
        self.unmerged += other.unmerged;
        self.own += other.own;
    }
}

/// How a profile was obtained, and what it lacks.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Provenance {
    /// The event really used, such as `cpu-clock:u`.
    pub event: String,
    /// What was tried first and refused, each with its reason, in order.
    pub fallbacks: Vec<String>,
    /// Rate asked for, samples per second of CPU time.
    pub rate_hz: f64,
    /// Samples per second of CPU time that came.
    pub achieved_hz: f64,
    /// Samples recorded, those with a broken stack included.
    pub samples: u64,
    /// Samples that the kernel dropped for want of room.
    pub lost: u64,
    /// Samples whose stack could not be unwound to its root.
    pub truncated: u64,
    /// Samples in which at least the leaf has no symbol.
    pub unsymbolised: u64,
    /// True where frames of the kernel were recorded.
    pub kernel: bool,
    /// Bytes of user stack copied per sample.
    pub stack_bytes: u32,
    /// CPU time that the recorder itself used while the target ran, ns.
    pub recorder_cpu_ns: u64,
    /// Wall time spent to unwind and symbolise after the target ended, ns.
    pub symbolise_ns: u64,
    /// CPU time that the target used (all its processes), ns.
    pub target_cpu_ns: u64,
    /// How Python frames were obtained; none where no process ran Python.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub python: Option<PythonProvenance>,
    /// Anything else that a reader must know, one sentence each.
    pub warnings: Vec<String>,
}

impl Provenance {
    /// Joins the record of another run of the same target.
    pub fn absorb(&mut self, other: &Provenance) {
        if self.event.is_empty() {
            self.clone_from(other);
            return;
        }
        let cpu_ns = self.target_cpu_ns + other.target_cpu_ns;
        if cpu_ns > 0 {
            self.achieved_hz = (self.achieved_hz * self.target_cpu_ns as f64
                + other.achieved_hz * other.target_cpu_ns as f64)
                / cpu_ns as f64;
        }
        self.target_cpu_ns = cpu_ns;
        self.samples += other.samples;
        self.lost += other.lost;
        self.truncated += other.truncated;
        self.unsymbolised += other.unsymbolised;
        self.recorder_cpu_ns += other.recorder_cpu_ns;
        self.symbolise_ns += other.symbolise_ns;
        self.kernel |= other.kernel;
        if let Some(python) = &other.python {
            self.python.get_or_insert_default().absorb(python);
        }
        add_new(&mut self.fallbacks, &other.fallbacks);
        add_new(&mut self.warnings, &other.warnings);
        if self.event != other.event {
            add_new(&mut self.warnings, &[format!("another run was sampled by {}", other.event)]);
        }
    }
}

/// Adds the sentences that are not there yet.
fn add_new(sentences: &mut Vec<String>, more: &[String]) {
    for sentence in more {
        if !sentences.contains(sentence) {
            sentences.push(sentence.clone());
        }
    }
}

/// Where a cost is. All tables are indexed by their id types; frames run from leaf to root.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Profile {
    /// Format name and version.
    pub schema: String,
    /// What the weights count.
    pub weight: WeightKind,
    /// Interned text.
    pub strings: Vec<String>,
    /// Files that code was loaded from.
    pub modules: Vec<Module>,
    /// Functions.
    pub functions: Vec<Function>,
    /// Places in functions.
    pub frames: Vec<Frame>,
    /// Stacks, as a tree; a parent comes before its children.
    pub stacks: Vec<StackNode>,
    /// Threads.
    pub threads: Vec<Thread>,
    /// Samples in order of time.
    pub samples: Vec<StackSample>,
    /// Waits in order of time; only of threads that run Python.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waits: Vec<WaitSample>,
    /// How it was obtained.
    pub provenance: Provenance,
}

/// Format name and version of [`Profile`].
pub const PROFILE_SCHEMA: &str = "simprof.profile/1";

impl Profile {
    /// The text of an interned string.
    pub fn string(&self, id: StringId) -> &str {
        &self.strings[id.index()]
    }

    /// A function by its id.
    pub fn function(&self, id: FunctionId) -> &Function {
        &self.functions[id.index()]
    }

    /// The name of a function.
    pub fn function_name(&self, id: FunctionId) -> &str {
        self.string(self.function(id).name)
    }

    /// The source file of a function, where known.
    pub fn function_file(&self, id: FunctionId) -> Option<&str> {
        self.function(id).file.map(|file| self.string(file))
    }

    /// The path of the module that a function was loaded from.
    pub fn function_module(&self, id: FunctionId) -> Option<&str> {
        let module = self.function(id).module?;
        Some(self.string(self.modules[module.index()].path))
    }

    /// A frame by its id.
    pub fn frame(&self, id: FrameId) -> &Frame {
        &self.frames[id.index()]
    }

    /// The frames of a stack from leaf to root.
    pub fn frames_from_leaf(&self, stack: Option<StackId>) -> impl Iterator<Item = FrameId> + '_ {
        std::iter::successors(stack, |id| self.stacks[id.index()].parent)
            .map(|id| self.stacks[id.index()].frame)
    }

    /// Sum of all weights, in the profile's unit.
    pub fn total_weight(&self) -> u64 {
        self.samples.iter().map(|sample| sample.weight).sum()
    }
}

/// Builds a [`Profile`], interning what repeats.
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

/// Returns the id of `value`, adding it to `table` where it is new.
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
    /// An empty profile of the given kind of weight.
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

    /// Interns text.
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

    /// Interns a stack given from root to leaf; none where it is empty.
    pub fn stack(&mut self, from_root: impl IntoIterator<Item = FrameId>) -> Option<StackId> {
        from_root.into_iter().fold(None, |parent, frame| Some(self.child(parent, frame)))
    }

    /// Interns the stack that is `frame` called from `parent`.
    pub fn child(&mut self, parent: Option<StackId>, frame: FrameId) -> StackId {
        intern(&mut self.profile.stacks, &mut self.stacks, StackNode { parent, frame }, StackId)
    }

    /// Registers a thread; a later name replaces an earlier one.
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

    /// Adds all that `other` holds: another run of the same target. Shares of the joined profile are
    /// those of both runs together; the provenance is joined too.
    pub fn absorb(&mut self, other: &Profile) {
        let strings: Vec<StringId> = other.strings.iter().map(|text| self.string(text)).collect();
        let string = |id: StringId| strings[id.index()];
        let modules: Vec<ModuleId> = other
            .modules
            .iter()
            .map(|module| self.module(other.string(module.path), module.build_id.clone()))
            .collect();
        let functions: Vec<FunctionId> = other
            .functions
            .iter()
            .map(|function| {
                self.function(Function {
                    name: string(function.name),
                    module: function.module.map(|id| modules[id.index()]),
                    file: function.file.map(string),
                    ..*function
                })
            })
            .collect();
        let frames: Vec<FrameId> = other
            .frames
            .iter()
            .map(|frame| {
                let function = functions[frame.function.index()];
                self.frame(Frame { function, file: frame.file.map(string), ..*frame })
            })
            .collect();
        let mut stacks: Vec<StackId> = Vec::with_capacity(other.stacks.len());
        for node in &other.stacks {
            let parent = node.parent.map(|id| stacks[id.index()]);
            stacks.push(self.child(parent, frames[node.frame.index()]));
        }
        let threads: Vec<ThreadId> = other
            .threads
            .iter()
            .map(|thread| self.thread(thread.pid, thread.tid, &thread.name))
            .collect();
        for sample in &other.samples {
            self.sample(StackSample {
                thread: threads[sample.thread.index()],
                stack: sample.stack.map(|id| stacks[id.index()]),
                ..*sample
            });
        }
        for wait in &other.waits {
            self.wait(WaitSample {
                thread: threads[wait.thread.index()],
                stack: wait.stack.map(|id| stacks[id.index()]),
                ..*wait
            });
        }
        self.profile.provenance.absorb(&other.provenance);
    }

    /// The provenance, to be filled in.
    pub fn provenance(&mut self) -> &mut Provenance {
        &mut self.profile.provenance
    }

    /// The finished profile, its samples in order of time.
    pub fn finish(mut self) -> Profile {
        self.profile.samples.sort_by_key(|sample| sample.time_ns);
        self.profile.waits.sort_by_key(|wait| wait.time_ns);
        self.profile
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn runs_of_one_target_are_joined() {
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
        joined.absorb(&run(["main", "a"]));
        joined.absorb(&run(["main", "b"]));
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
    fn a_profile_survives_the_disk() {
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
