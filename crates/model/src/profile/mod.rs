//! Where a cost is: sampled stacks, interned, with the record of how they were obtained.

mod builder;
mod provenance;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use builder::ProfileBuilder;
pub use provenance::{Provenance, PythonProvenance};

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
