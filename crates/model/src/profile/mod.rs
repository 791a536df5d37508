//! Profiles: sampled stacks in interned tables, with their provenance.

mod builder;
mod provenance;
mod tight_loop;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use builder::ProfileBuilder;
pub use provenance::{Provenance, PythonProvenance};
pub use tight_loop::{CodeRange, LoopLine, TightLoop};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(transparent)]
        pub struct $name(pub u32);

        impl $name {
            /// Returns the index into the table.
            pub fn index(self) -> usize {
                self.0 as usize
            }
        }
    };
}

id!(
    /// Index into [`Profile::strings`].
    StringId
);
id!(
    /// Index into [`Profile::modules`].
    ModuleId
);
id!(
    /// Index into [`Profile::functions`].
    FunctionId
);
id!(
    /// Index into [`Profile::frames`].
    FrameId
);
id!(
    /// Index into [`Profile::stacks`].
    StackId
);
id!(
    /// Index into [`Profile::threads`].
    ThreadId
);

/// The unit of the weights of a profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WeightKind {
    /// Nanoseconds of CPU time.
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

/// The kind of code of a function.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum FunctionKind {
    /// Machine code with a symbol.
    Native,
    /// Code of the kernel.
    Kernel,
    /// A Python function.
    Python,
    /// Machine code without a symbol. Its name is `module+0xoffset`, or `[anonymous code]` if it belongs to no file.
    Unsymbolised,
}

/// A mapped executable file.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Module {
    /// Path as the target saw it, or a name in brackets (`[kernel]`, `[vdso]`).
    pub path: StringId,
    /// GNU build id in lower-case hexadecimal. Null if the file has none.
    pub build_id: Option<String>,
}

/// A function.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Function {
    /// Demangled name.
    pub name: StringId,
    /// Module of the code. Null if it is unknown.
    pub module: Option<ModuleId>,
    /// Source file as in the debug information. Null if it is unknown.
    pub file: Option<StringId>,
    /// Line of the declaration, from 1. Null if it is unknown.
    pub line: Option<u32>,
    /// Kind of code.
    pub kind: FunctionKind,
}

/// One frame of a stack: a position in a function.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Frame {
    /// The function.
    pub function: FunctionId,
    /// Source line that is executing, from 1. Null if it is unknown.
    pub line: Option<u32>,
    /// Source file of that line. It differs from the file of the function if code was included or inlined. Null if it is unknown.
    pub file: Option<StringId>,
    /// Address of the instruction as the file of the module states it. For the kernel: offset from the start of the kernel. 0 for Python
    /// frames.
    pub address: u64,
    /// Whether the function was inlined into its caller. The caller is the next frame towards the root.
    pub inlined: bool,
}

/// A node in the tree of stacks. A stack is the path from a node to the root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct StackNode {
    /// The caller. Null at the root.
    pub parent: Option<StackId>,
    /// The frame at this node.
    pub frame: FrameId,
}

/// A thread of the target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Thread {
    /// Process id in the namespace of the recorder.
    pub pid: u32,
    /// Thread id in the namespace of the recorder.
    pub tid: u32,
    /// Last known name.
    pub name: String,
}

/// One sample of the stack of a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StackSample {
    /// Time of the sample in ns of CLOCK_MONOTONIC.
    pub time_ns: u64,
    /// The sampled thread.
    pub thread: ThreadId,
    /// The stack, given by its leaf. Null if the stack could not be read.
    pub stack: Option<StackId>,
    /// Weight in the unit of the profile.
    pub weight: u64,
}

/// The reason why a thread waited.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum WaitCause {
    /// The Python interpreter: its global interpreter lock.
    Interpreter,
    /// Another thread: a lock, a condition, a semaphore or a join.
    Synchronisation,
    /// A sleep.
    Sleep,
    /// Events of file descriptors: poll, select or epoll.
    Events,
    /// A file, a pipe or a socket.
    Io,
    /// The end of a child process.
    Child,
    /// A lock that another thread holds. Waits of threads that run Python count such time as `synchronisation`.
    Lock,
    /// A barrier: the other threads of a group.
    Barrier,
    /// Anything else, or unknown.
    Other,
}

/// A sample of the waiting time of a thread. All long waits and a random sample of the short ones are recorded. Sums of the weights are
/// unbiased estimates of the waiting time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WaitSample {
    /// End of the wait in ns of CLOCK_MONOTONIC.
    pub time_ns: u64,
    /// The waiting thread.
    pub thread: ThreadId,
    /// The stack, given by its leaf. Null if the stack could not be read.
    pub stack: Option<StackId>,
    /// Waiting time that the sample represents, in ns.
    pub weight_ns: u64,
    /// Reason of the wait.
    pub cause: WaitCause,
}

/// What a thread did while it was observed, as the kernel's scheduler reports it. The four times sum to the time that it was observed,
/// without the time in which it waited for simprof.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ThreadStates {
    /// The thread.
    pub thread: ThreadId,
    /// Time on a CPU in ns.
    pub running_ns: u64,
    /// Time in which it was ready to run but had no CPU, in ns: it was preempted, or had just been started or woken.
    pub runnable_ns: u64,
    /// Time in which it waited for something other than a CPU, in ns.
    pub blocked_ns: u64,
    /// Time for which records of the scheduler are missing, in ns.
    pub unknown_ns: u64,
    /// The same by time: disjoint spans in order. Empty if it is not known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spans: Vec<StateSpan>,
}

/// What a thread did in a span of time. The four times sum to at most the length of the span.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StateSpan {
    /// Start in ns of CLOCK_MONOTONIC.
    pub begin_ns: u64,
    /// End in ns of CLOCK_MONOTONIC.
    pub end_ns: u64,
    /// Time on a CPU in ns.
    pub running_ns: u64,
    /// Time in which the thread was ready to run but had no CPU, in ns.
    pub runnable_ns: u64,
    /// Time in which it waited for something other than a CPU, in ns.
    pub blocked_ns: u64,
    /// Time for which records of the scheduler are missing, in ns.
    pub unknown_ns: u64,
}

/// Sampled stacks with their tables. Ids are indices into these tables.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Profile {
    /// Format name and version.
    pub schema: String,
    /// Unit of the weights.
    pub weight: WeightKind,
    /// Interned strings.
    pub strings: Vec<String>,
    /// Modules.
    pub modules: Vec<Module>,
    /// Functions.
    pub functions: Vec<Function>,
    /// Frames.
    pub frames: Vec<Frame>,
    /// Stacks as a tree. A parent comes before its children.
    pub stacks: Vec<StackNode>,
    /// Threads.
    pub threads: Vec<Thread>,
    /// Samples in order of time.
    pub samples: Vec<StackSample>,
    /// Waits in order of time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waits: Vec<WaitSample>,
    /// What each thread did. Empty if the scheduler's records are not available: then it is unknown whether a thread that was not on a CPU
    /// waited or was ready to run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub thread_states: Vec<ThreadStates>,
    /// The tight loops that samples fell into. Empty if the code was not available, as in imported profiles.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub loops: Vec<TightLoop>,
    /// How the profile was recorded.
    pub provenance: Provenance,
}

/// Format name and version of [`Profile`].
pub const PROFILE_SCHEMA: &str = "simprof.profile/1";

impl Profile {
    /// Returns an interned string.
    pub fn string(&self, id: StringId) -> &str {
        &self.strings[id.index()]
    }

    /// Returns a function.
    pub fn function(&self, id: FunctionId) -> &Function {
        &self.functions[id.index()]
    }

    /// Returns the name of a function.
    pub fn function_name(&self, id: FunctionId) -> &str {
        self.string(self.function(id).name)
    }

    /// Returns the source file of a function. `None` if it is unknown.
    pub fn function_file(&self, id: FunctionId) -> Option<&str> {
        self.function(id).file.map(|file| self.string(file))
    }

    /// Returns the path of the module of a function. `None` if it is unknown.
    pub fn function_module(&self, id: FunctionId) -> Option<&str> {
        let module = self.function(id).module?;
        Some(self.string(self.modules[module.index()].path))
    }

    /// Returns a frame.
    pub fn frame(&self, id: FrameId) -> &Frame {
        &self.frames[id.index()]
    }

    /// Returns the frames of a stack from leaf to root.
    pub fn frames_from_leaf(&self, stack: Option<StackId>) -> impl Iterator<Item = FrameId> + '_ {
        std::iter::successors(stack, |id| self.stacks[id.index()].parent)
            .map(|id| self.stacks[id.index()].frame)
    }

    /// Returns the sum of all weights, in the unit of the profile.
    pub fn total_weight(&self) -> u64 {
        self.samples.iter().map(|sample| sample.weight).sum()
    }
}
