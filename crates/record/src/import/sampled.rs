//! The builder and the frame parser that all readers of sampled stacks share.

use simprof_model::{
    Frame, FrameId, Function, FunctionKind, Notice, NoticeId, ProfileBuilder, StackId, StackSample,
    ThreadId, WeightKind,
};

use super::weight::{Weight, multiples};
use super::{ImportedStacks, Malformed, Unit};

/// The component of weight without a stack.
const UNKNOWN: &str = "[unknown]";

/// Builds a profile. Its weights are converted to whole numbers at the end.
pub(super) struct Stacks {
    pub(super) builder: ProfileBuilder,
    samples: Vec<(ThreadId, Option<StackId>)>,
    weights: Vec<Weight>,
}

impl Stacks {
    pub(super) fn new(weight: WeightKind) -> Self {
        Self { builder: ProfileBuilder::new(weight), samples: Vec::new(), weights: Vec::new() }
    }

    pub(super) fn sample(&mut self, thread: ThreadId, stack: Option<StackId>, weight: Weight) {
        self.samples.push((thread, stack));
        self.weights.push(weight);
    }

    /// Returns the profile. Fractions of nanoseconds and of bytes are rounded.
    ///
    /// # Errors
    /// Returns an error if all weights are 0, or if their sum does not fit in 64 bits.
    pub(super) fn finish(mut self, unit: Unit) -> Result<ImportedStacks, Malformed> {
        if unit != Unit::Samples {
            self.weights.iter_mut().for_each(|weight| *weight = weight.rounded());
        }
        let (units, weights) = multiples(&self.weights)
            .ok_or_else(|| invalid("the sum of its weights does not fit in 64 bits"))?;
        if weights.iter().all(|&weight| weight == 0) {
            return Err(invalid("there is nothing in it: all weights are 0"));
        }
        let mut without_stack = 0;
        for (&(thread, stack), &weight) in self.samples.iter().zip(&weights) {
            without_stack += if stack.is_none() { weight } else { 0 };
            self.builder.sample(StackSample { time_ns: 0, thread, stack, weight });
        }
        let share = without_stack as f64 / weights.iter().sum::<u64>() as f64;
        let profile = self.builder.finish();
        Ok(ImportedStacks { profile, unit, units, notices: without(share).into_iter().collect() })
    }
}

/// Returns a notice about the share of the weight that has no stack.
fn without(share: f64) -> Option<Notice> {
    (share > 0.0).then(|| {
        let text = format!(
            "{:.1} % of the weight has an empty stack: it belongs to no function, and its component is {UNKNOWN}.",
            100.0 * share
        );
        Notice::new(NoticeId::StacksEmpty, text)
    })
}

pub(super) fn invalid(reason: &str) -> Malformed {
    Malformed::Invalid(reason.to_owned())
}

/// A frame as a file describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ImportedFrame<'a> {
    pub(super) name: &'a str,
    pub(super) file: Option<&'a str>,
    /// Line of the executing code or of the function: the formats do not specify which.
    pub(super) line: Option<u32>,
}

impl<'a> ImportedFrame<'a> {
    /// Parses `name (file:line)`, as profilers of Python write it, or a name alone.
    pub(super) fn from_text(text: &'a str) -> Self {
        let name = ImportedFrame { name: text, file: None, line: None };
        let Some((before, location)) =
            text.strip_suffix(')').and_then(|rest| rest.rsplit_once(" ("))
        else {
            return name;
        };
        match location.rsplit_once(':').map(|(file, line)| (file, line.parse())) {
            Some((file, Ok(line))) => {
                ImportedFrame { name: before, file: Some(file), line: Some(line) }
            }
            _ if is_python(location) => {
                ImportedFrame { name: before, file: Some(location), line: None }
            }
            _ => name,
        }
    }

    /// Returns the kind of function, and its name without the suffix that marks the kind.
    fn kind(&self) -> (FunctionKind, &'a str) {
        if self.file.is_some_and(is_python) {
            return (FunctionKind::Python, self.name);
        }
        if let Some(name) = self.name.strip_suffix("_[k]") {
            return (FunctionKind::Kernel, name);
        }
        let name = ["_[i]", "_[j]"].iter().find_map(|mark| self.name.strip_suffix(mark));
        match name {
            None if self.name == "[unknown]" => (FunctionKind::Unsymbolised, self.name),
            name => (FunctionKind::Native, name.unwrap_or(self.name)),
        }
    }

    /// Adds the frame to a profile.
    pub(super) fn frame(&self, builder: &mut ProfileBuilder) -> FrameId {
        let (kind, name) = self.kind();
        let (name, file) = (builder.string(name), self.file.map(|file| builder.string(file)));
        let function = builder.function(Function { name, module: None, file, line: None, kind });
        builder.frame(Frame { function, line: self.line, file, address: 0, inlined: false })
    }
}

fn is_python(file: &str) -> bool {
    file.ends_with(".py") || file.starts_with('<')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_other_profilers_are_parsed() {
        for (text, name, file, line, kind) in [
            ("main", "main", None, None, FunctionKind::Native),
            (
                "step (sim/model.py:12)",
                "step",
                Some("sim/model.py"),
                Some(12),
                FunctionKind::Python,
            ),
            ("step (sim/model.py)", "step", Some("sim/model.py"), None, FunctionKind::Python),
            (
                "<module> (<frozen runpy>:1)",
                "<module>",
                Some("<frozen runpy>"),
                Some(1),
                FunctionKind::Python,
            ),
            ("f (int)", "f (int)", None, None, FunctionKind::Native),
            ("f (a.c:3)", "f", Some("a.c"), Some(3), FunctionKind::Native),
            ("read_[k]", "read", None, None, FunctionKind::Kernel),
            ("g_[i]", "g", None, None, FunctionKind::Native),
            ("[unknown]", "[unknown]", None, None, FunctionKind::Unsymbolised),
        ] {
            let frame = ImportedFrame::from_text(text);
            assert_eq!((frame.file, frame.line), (file, line), "{text}");
            assert_eq!(frame.kind(), (kind, name), "{text}");
        }
    }
}
