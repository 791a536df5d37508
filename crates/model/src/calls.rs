//! Call profiles: the calls, times and callers of each function, as a tracer recorded them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::profile::StringId;

/// The file name of functions written in C, which have no source file.
pub const BUILT_IN_FILE: &str = "~";

/// Index into [`CallProfile::functions`].
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(transparent)]
pub struct CalledId(pub u32);

impl CalledId {
    /// Returns the index into the table.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// All calls of a traced program. Times are in seconds by the clock of the tracer and include the time of the tracer itself. The clock
/// is the wall clock unless the user of the tracer chose another.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CallProfile {
    /// Interned strings.
    pub strings: Vec<String>,
    /// All called functions.
    pub functions: Vec<CalledFunction>,
}

/// One function of a call profile.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CalledFunction {
    /// Source file as the program named it. The path can be relative. `~` for functions written in C.
    pub file: StringId,
    /// First line of the definition, from 1. 0 if there is none.
    pub line: u32,
    /// Name of the function, without its class or outer function.
    pub name: StringId,
    /// Number of calls that were not recursive: no other call of the function was on the stack.
    pub primitive_calls: u64,
    /// Number of all calls. Resuming a generator or coroutine counts as a call.
    pub calls: u64,
    /// Self time in seconds: time in the function without its callees.
    pub self_s: f64,
    /// Total time in seconds: time with the function on the stack. Recursive calls are counted once.
    pub cumulative_s: f64,
    /// Callers of the function, by descending number of calls. Calls from code that was not traced are missing.
    pub callers: Vec<Caller>,
}

/// Calls of one function by another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Caller {
    /// The calling function.
    pub function: CalledId,
    /// Number of calls while no other call of this callee by this caller was on the stack.
    pub primitive_calls: u64,
    /// Number of all calls by this caller.
    pub calls: u64,
    /// Self time of the callee in these calls, in seconds. Null if the tracer did not record it per caller.
    pub self_s: Option<f64>,
    /// Total time of the callee in these calls, in seconds. Null if the tracer did not record it per caller.
    pub cumulative_s: Option<f64>,
}

impl CallProfile {
    /// Returns an interned string.
    pub fn string(&self, id: StringId) -> &str {
        &self.strings[id.index()]
    }

    /// Returns a function.
    pub fn function(&self, id: CalledId) -> &CalledFunction {
        &self.functions[id.index()]
    }

    /// Returns the file of a function as the program named it.
    pub fn file(&self, function: &CalledFunction) -> &str {
        self.string(function.file)
    }

    /// Returns the name of a function.
    pub fn name(&self, function: &CalledFunction) -> &str {
        self.string(function.name)
    }

    /// Returns whether a function is written in C.
    pub fn is_built_in(&self, function: &CalledFunction) -> bool {
        self.file(function) == BUILT_IN_FILE
    }

    /// Returns the traced time in seconds: the sum of the self times of all functions.
    pub fn total_s(&self) -> f64 {
        self.functions.iter().map(|function| function.self_s).sum()
    }

    /// Returns the number of all calls.
    pub fn total_calls(&self) -> u64 {
        self.functions.iter().fold(0, |sum, function| function.calls.saturating_add(sum))
    }

    /// Returns the number of all calls that were not recursive.
    pub fn primitive_calls(&self) -> u64 {
        self.functions.iter().fold(0, |sum, function| function.primitive_calls.saturating_add(sum))
    }
}
