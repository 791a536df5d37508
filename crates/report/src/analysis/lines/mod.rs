//! The cost of source lines, and what they call.

mod function_lines;
mod function_loops;
mod hot_lines;
mod loop_rows;

use serde::Serialize;
use simprof_model::{Frame, FunctionId, FunctionKind, Profile, StringId};

pub use function_lines::function_lines;
pub use hot_lines::hot_lines;

use super::thread_time::ThreadTime;

/// The lines of one function, or of several that one pattern selected. Shares are fractions of all weight of the profile,
/// 0 to 1.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FunctionLines {
    /// Demangled name of the function with the most weight.
    pub function: String,
    /// Its source file.
    pub file: Option<String>,
    /// First line of its definition, if known.
    pub line: Option<u32>,
    /// Weight of samples with any of the functions on the stack.
    pub total_weight: u64,
    /// `total_weight` as a fraction of all weight.
    pub total_share: f64,
    /// Weight of samples with one of the functions as the leaf. For Python it includes native code that the function runs.
    pub self_weight: u64,
    /// `self_weight` as a fraction of all weight.
    pub self_share: f64,
    /// Number of samples with any of the functions on the stack.
    pub samples: u64,
    /// CPU time and waiting with any of the functions on the stack; `None` for native functions.
    pub time: Option<ThreadTime>,
    /// The lines by decreasing total weight; for Python by CPU time plus waiting.
    pub lines: Vec<LineCost>,
}

/// The cost of one line of a function.
///
/// The callees of a Python line are the next Python functions towards the leaf, across native frames. Native code that
/// runs without a further Python frame counts as the line's own.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LineCost {
    /// Source file of the line.
    pub file: Option<String>,
    /// Line, 1-based; `None` if the debug information has no line. Of a loop the first one.
    pub line: Option<u32>,
    /// The loop, if this is the cost of all lines of a tight loop. It has the samples whose leaf is in the loop.
    pub in_loop: Option<LoopCost>,
    /// Weight of samples whose leaf is this line.
    pub self_weight: u64,
    /// `self_weight` as a fraction of all weight.
    pub self_share: f64,
    /// Weight of samples whose leaf is this line or code inlined into it; for a Python line, also native code that it
    /// runs.
    pub local_weight: u64,
    /// `local_weight` as a fraction of all weight.
    pub local_share: f64,
    /// Weight of samples with this line on the stack, each sample once.
    pub total_weight: u64,
    /// `total_weight` as a fraction of all weight.
    pub total_share: f64,
    /// Number of samples with this line on the stack.
    pub samples: u64,
    /// Functions that the line calls, inlined or not, by decreasing weight.
    pub callees: Vec<CalleeCost>,
    /// CPU time and waiting with this line on the stack; `None` for native functions.
    pub time: Option<ThreadTime>,
    /// Native functions that a Python line runs, including the interpreter's, by decreasing weight. C library functions count
    /// with their callers.
    pub natives: Vec<CalleeCost>,
}

/// The lines of a tight loop. Samples do not distinguish them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LoopCost {
    /// First line of the function in the loop.
    pub first_line: u32,
    /// Last line of the function in the loop.
    pub last_line: u32,
    /// The lines of the function in order, also those without samples; then sampled lines of functions that are inlined there, by
    /// decreasing weight.
    pub lines: Vec<LoopLineCost>,
}

/// The samples at a line of a tight loop.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LoopLineCost {
    /// Function that the line belongs to.
    pub function: String,
    /// Source file.
    pub file: String,
    /// Line, 1-based.
    pub line: u32,
    /// Weight of the samples at the line.
    pub weight: u64,
    /// `weight` as a fraction of all weight.
    pub share: f64,
}

/// The cost of one function that a line calls.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CalleeCost {
    /// Demangled name.
    pub name: String,
    /// Source file of its definition.
    pub file: Option<String>,
    /// Whether it was inlined into the line.
    pub inlined: bool,
    /// Weight of samples in which the line calls it.
    pub weight: u64,
    /// `weight` as a fraction of all weight of the profile.
    pub share: f64,
}

/// A line of the author's code, charged with the libraries that it calls.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HotLine {
    /// Function that the line belongs to.
    pub function: String,
    /// Source file of the line.
    pub file: Option<String>,
    /// Line, 1-based, if known. Of a loop the first one.
    pub line: Option<u32>,
    /// The loop, if this is the cost of all lines of a tight loop, with all code that is inlined there.
    pub in_loop: Option<LoopCost>,
    /// Whether it is part of a Python interpreter, see `interpreter_functions`.
    pub interpreter: bool,
    /// Weight of the samples that are charged to it.
    pub weight: u64,
    /// `weight` as a fraction of all weight, 0 to 1.
    pub share: f64,
    /// CPU time and waiting that are charged to it; `None` for native functions.
    pub time: Option<ThreadTime>,
}

/// A line of a source file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct LineKey {
    file: Option<StringId>,
    line: Option<u32>,
}

impl LineKey {
    fn of_frame(profile: &Profile, frame: &Frame) -> Self {
        let file = frame.file.or(profile.function(frame.function).file);
        Self { file, line: frame.line }
    }

    fn file_name(self, profile: &Profile) -> Option<String> {
        self.file.map(|file| profile.string(file).to_owned())
    }
}

fn is_python(profile: &Profile, id: FunctionId) -> bool {
    profile.function(id).kind == FunctionKind::Python
}
