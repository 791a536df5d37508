//! Tight loops of machine code, with the source lines of their instructions.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ModuleId, Profile, StringId};

/// A tight loop: a short innermost loop of machine code in which samples do not distinguish source lines, because they fall on few of its
/// instructions.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct TightLoop {
    /// Module of the code.
    pub module: ModuleId,
    /// The code, in order of addresses. Addresses are as in [`super::Frame::address`].
    pub code: Vec<CodeRange>,
    /// Names of the functions that contain the whole loop, innermost first: the function in which the loop is written, then those that this
    /// function is inlined into.
    pub functions: Vec<StringId>,
    /// The source lines of its instructions, of all functions that are inlined there, each once.
    pub lines: Vec<LoopLine>,
}

/// A range of code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct CodeRange {
    /// Address of the first byte.
    pub start: u64,
    /// Address after the last byte.
    pub end: u64,
}

/// A source line of a loop.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub struct LoopLine {
    /// Name of the function that the line belongs to.
    pub function: StringId,
    /// Source file.
    pub file: StringId,
    /// Line, from 1.
    pub line: u32,
}

impl TightLoop {
    /// Returns the loop with the entries of another profile's tables.
    pub(super) fn translated(
        &self,
        other: &Profile,
        module: ModuleId,
        mut string: impl FnMut(&str) -> StringId,
    ) -> Self {
        let mut translate = |id: StringId| string(other.string(id));
        Self {
            module,
            code: self.code.clone(),
            functions: self.functions.iter().map(|&name| translate(name)).collect(),
            lines: self
                .lines
                .iter()
                .map(|line| LoopLine {
                    function: translate(line.function),
                    file: translate(line.file),
                    line: line.line,
                })
                .collect(),
        }
    }
}
