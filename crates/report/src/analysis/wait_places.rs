//! The places where threads wait and spin: a line of the program, else the library that called the C library.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use simprof_model::{Frame, FunctionId, FunctionKind, Profile, StackId};

use super::names;
use super::origin::{Origin, is_unread, origins};
use super::spin_loops::is_c_library;
use super::spinning::{LineFunctions, is_marker};

/// Why the place of a wait is unknown.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum UnknownPlace {
    /// No stack was recorded.
    NoStack,
    /// The Python frame could not be read.
    Unreadable,
    /// The stack has no frame of the program, nor of a library other than the C library.
    OnlySystem,
}

impl UnknownPlace {
    /// Returns the reason in words.
    pub fn describe(self) -> &'static str {
        match self {
            Self::NoStack => "no stack was recorded",
            Self::Unreadable => "the Python frame could not be read",
            Self::OnlySystem => {
                "the stack shows no function of the program, nor of a library other than the C library"
            }
        }
    }
}

/// The place of a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct WaitPlace<'a> {
    /// The author's function nearest the leaf; else the function of a library nearest the leaf, or the file name of the library
    /// if the function has no name; [`super::UNKNOWN`] if there is none.
    pub function: &'a str,
    pub file: Option<&'a str>,
    pub line: Option<u32>,
    /// The function that the author's line calls and that waits, directly or in a callee.
    pub call: Option<&'a str>,
    pub unknown: Option<UnknownPlace>,
}

/// Finds the places of waits.
pub(super) struct WaitPlaces<'a> {
    profile: &'a Profile,
    origins: Vec<Origin>,
    lines: LineFunctions,
}

impl<'a> WaitPlaces<'a> {
    pub fn new(profile: &'a Profile) -> Self {
        Self { profile, origins: origins(profile), lines: LineFunctions::new(profile) }
    }

    /// Returns the place of a wait with this stack.
    pub fn at(&self, stack: Option<StackId>) -> WaitPlace<'a> {
        let profile = self.profile;
        let frames = || profile.frames_from_leaf(stack).map(|id| profile.frame(id));
        let is_own = |frame: &&Frame| self.origins[frame.function.index()] == Origin::Own;
        if let Some(own) = frames().find(is_own) {
            let called = frames().take_while(|frame| !is_own(frame)).last();
            return self.of_author(own, called.map(|frame| frame.function));
        }
        match innermost_library(profile, stack) {
            Some(frame) => self.of_library(frame),
            None => self.unknown(stack),
        }
    }

    fn of_author(&self, frame: &'a Frame, called: Option<FunctionId>) -> WaitPlace<'a> {
        let profile = self.profile;
        let file = frame.file.or(profile.function(frame.function).file);
        let is_marker = is_marker(profile, profile.function(frame.function));
        let inferred = self.lines.at((file, frame.line)).filter(|_| is_marker);
        let is_named = |id: &FunctionId| profile.function(*id).kind != FunctionKind::Unsymbolised;
        WaitPlace {
            function: profile.function_name(inferred.unwrap_or(frame.function)),
            file: file.map(|file| profile.string(file)),
            line: frame.line,
            call: called.filter(is_named).map(|id| profile.function_name(id)),
            unknown: None,
        }
    }

    fn of_library(&self, frame: &'a Frame) -> WaitPlace<'a> {
        let profile = self.profile;
        let function = profile.function(frame.function);
        let module = profile.function_module(frame.function).map(names::file_name);
        let is_named = function.kind != FunctionKind::Unsymbolised;
        let file = frame.file.or(function.file).filter(|_| is_named);
        WaitPlace {
            function: module
                .filter(|_| !is_named)
                .unwrap_or_else(|| profile.function_name(frame.function)),
            file: file.map(|file| profile.string(file)),
            line: frame.line.filter(|_| is_named),
            call: None,
            unknown: None,
        }
    }

    fn unknown(&self, stack: Option<StackId>) -> WaitPlace<'a> {
        let profile = self.profile;
        let mut frames = profile.frames_from_leaf(stack).map(|id| profile.frame(id));
        let is_unread = |frame: &Frame| is_unread(profile, profile.function(frame.function));
        let reason = match stack {
            None => UnknownPlace::NoStack,
            Some(_) if frames.any(is_unread) => UnknownPlace::Unreadable,
            Some(_) => UnknownPlace::OnlySystem,
        };
        let (file, line, call) = (None, None, None);
        WaitPlace { function: super::UNKNOWN, file, line, call, unknown: Some(reason) }
    }
}

/// Returns the frame nearest the leaf that is neither the kernel's nor the C library's, nor stands for anything else.
pub(super) fn innermost_library(profile: &Profile, stack: Option<StackId>) -> Option<&Frame> {
    let is_system = |frame: &&Frame| {
        let function = profile.function(frame.function);
        let module = profile.function_module(frame.function).map(names::file_name);
        function.kind == FunctionKind::Kernel
            || is_unread(profile, function)
            || module.is_none_or(|module| module.starts_with('[') || is_c_library(module))
                && function.kind != FunctionKind::Python
    };
    profile.frames_from_leaf(stack).map(|id| profile.frame(id)).find(|frame| !is_system(frame))
}

#[cfg(test)]
mod tests {
    use simprof_model::WaitCause;

    use super::*;
    use crate::testing::Sketch;

    #[test]
    fn the_c_library_and_unread_frames_are_no_places() {
        let libc = "/usr/lib/x86_64-linux-gnu/libc.so.6";
        let blas = "/opt/venv/lib/libopenblas.so.0";
        let futex = format!("futex_wait~{libc}@57");
        let cases: [(String, &str, Option<UnknownPlace>); 8] = [
            (String::new(), "[unknown]", Some(UnknownPlace::NoStack)),
            (
                format!("start_thread~{libc} > {futex} > k:do_futex"),
                "[unknown]",
                Some(UnknownPlace::OnlySystem),
            ),
            (format!("?x~{libc} > {futex}"), "[unknown]", Some(UnknownPlace::OnlySystem)),
            (
                format!("start_thread~{libc} > blas_thread_server~{blas} > {futex}"),
                "blas_thread_server",
                None,
            ),
            (
                format!("start_thread~{libc} > ?libopenblas.so.0+0x7~{blas} > {futex}"),
                "libopenblas.so.0",
                None,
            ),
            (format!("main > work@5 > {futex}"), "work", None),
            ("unread".to_owned(), "[unknown]", Some(UnknownPlace::Unreadable)),
            ("unread+blas".to_owned(), "blas_thread_server", None),
        ];
        for (text, function, unknown) in cases {
            let mut sketch = Sketch::new();
            let profile = if text.starts_with("unread") {
                let id = sketch.function("unreadable", None, None, FunctionKind::Python);
                let builder = sketch.builder();
                let frame =
                    Frame { function: id, line: None, file: None, address: 0, inlined: false };
                let frame = builder.frame(frame);
                let stack = builder.child(None, frame);
                let mut profile = sketch
                    .wait(&format!("blas_thread_server~{blas}"), WaitCause::Synchronisation, 1)
                    .finish();
                if text == "unread" {
                    profile.waits[0].stack = Some(stack);
                } else {
                    let called = profile.waits[0].stack.expect("it has a stack");
                    profile.stacks[called.index()].parent = Some(stack);
                }
                profile
            } else {
                sketch.wait(&text, WaitCause::Synchronisation, 1).finish()
            };
            let place = WaitPlaces::new(&profile).at(profile.waits[0].stack);
            assert_eq!((place.function, place.unknown), (function, unknown), "{text}");
        }
    }
}
