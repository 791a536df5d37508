//! What a tracer counted: every function's calls and times, and who called it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::profile::StringId;

/// The file that call profiles give to functions written in C, which have none.
pub const BUILT_IN_FILE: &str = "~";

/// Position in [`CallProfile::functions`].
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(transparent)]
pub struct CalledId(pub u32);

impl CalledId {
    /// The position in the table that this id refers to.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// Every call of a program that was traced. Times are in seconds of the tracer's clock, which is the wall clock
/// unless somebody chose another, and hold what the tracer itself took.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CallProfile {
    /// Interned text.
    pub strings: Vec<String>,
    /// Every function that was called.
    pub functions: Vec<CalledFunction>,
}

/// One function of a call profile.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CalledFunction {
    /// Source file as the program named it, perhaps relative; [`BUILT_IN_FILE`] for functions written in C.
    pub file: StringId,
    /// First line of its definition (1-based); 0 where there is none.
    pub line: u32,
    /// Its name, without the class or function that it stands in.
    pub name: StringId,
    /// Calls made while no other call of it was on the stack.
    pub primitive_calls: u64,
    /// All calls. A generator or coroutine that goes on counts as called.
    pub calls: u64,
    /// Time in it without what it called, s.
    pub self_s: f64,
    /// Time with it on the stack, s; a recursion is counted once.
    pub cumulative_s: f64,
    /// Who called it, by falling number of calls. Calls from outside of what was traced are not here.
    pub callers: Vec<Caller>,
}

/// Calls of one function by another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Caller {
    /// The function that called.
    pub function: CalledId,
    /// Calls made while no other call of this callee by this caller was on the stack.
    pub primitive_calls: u64,
    /// All calls.
    pub calls: u64,
    /// Time in the callee without what it called, s; none where the tracer did not tell it apart.
    pub self_s: Option<f64>,
    /// Time with the callee on the stack, s; none where the tracer did not tell it apart.
    pub cumulative_s: Option<f64>,
}

impl CallProfile {
    /// The text of an interned string.
    pub fn string(&self, id: StringId) -> &str {
        &self.strings[id.index()]
    }

    /// A function by its id.
    pub fn function(&self, id: CalledId) -> &CalledFunction {
        &self.functions[id.index()]
    }

    /// The file of a function, as the program named it.
    pub fn file(&self, function: &CalledFunction) -> &str {
        self.string(function.file)
    }

    /// The name of a function.
    pub fn name(&self, function: &CalledFunction) -> &str {
        self.string(function.name)
    }

    /// Whether a function is written in C.
    pub fn is_built_in(&self, function: &CalledFunction) -> bool {
        self.file(function) == BUILT_IN_FILE
    }

    /// Time of all functions without what they called, s: all that was traced.
    pub fn total_s(&self) -> f64 {
        self.functions.iter().map(|function| function.self_s).sum()
    }

    /// Number of all calls.
    pub fn total_calls(&self) -> u64 {
        self.functions.iter().fold(0, |sum, function| function.calls.saturating_add(sum))
    }

    /// Number of all calls that are not recursive.
    pub fn primitive_calls(&self) -> u64 {
        self.functions.iter().fold(0, |sum, function| function.primitive_calls.saturating_add(sum))
    }
}
