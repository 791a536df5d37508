//! Notices about steps that are not what the spec or the target says.

use simprof_model::{Notice, NoticeId, Steps};
use simprof_report::format;

use crate::python::{ScriptFolder, uncalled_step};
use crate::spec::{StepFunction, StepRule, StepSpan};

/// With a smaller share of the time from the first begin to the last end in steps, there is a notice.
const MIN_COVERED: f64 = 0.5;
/// Fewer steps than this have no such notice: the time between them can be anything.
const MIN_STEPS: usize = 3;
/// Less time than this between two steps, in ns, can be that of the marks themselves.
const MIN_BETWEEN_NS: f64 = 20_000.0;

/// Returns the notices about the steps of a process. `folder` has the notes of its Python scripts.
pub fn step_notices(
    steps: &Steps,
    rule: Option<&StepRule>,
    folder: Option<&ScriptFolder>,
) -> Vec<Notice> {
    let function = rule.and_then(StepRule::function);
    let uncalled = function.zip(folder).filter(|_| steps.steps.is_empty());
    let uncalled = uncalled.map(|(function, folder)| uncalled_step(folder, function));
    uncalled.into_iter().chain(little_covered(steps, function)).collect()
}

/// Returns a notice if marked steps cover little of the time from the first begin to the last end. The work of a step is then
/// probably between them, so that times per step are far too small.
fn little_covered(steps: &Steps, function: Option<&StepFunction>) -> Option<Notice> {
    let count = steps.steps.len();
    let covered = steps.covered_share().filter(|share| *share < MIN_COVERED)?;
    let spans = steps.spans();
    let wall_ns = (spans.last()?.1 - spans.first()?.0) as f64;
    if count < MIN_STEPS || wall_ns * (1.0 - covered) < MIN_BETWEEN_NS * count as f64 {
        return None;
    }
    let between = format!(
        "from the first begin to the last end, one step in {} and {} in steps",
        format::duration_ns(wall_ns / count as f64),
        format::share(covered)
    );
    let text = match function {
        Some(function) => format!(
            "target.step: the calls of `{function}` cover little of the time of the loop: {between}. If the work between the calls \
             belongs to the steps, times per step are too small. Write {} if this function is called last in each step, or \
             {} if it is called first.",
            key(function, StepSpan::Ends),
            key(function, StepSpan::Begins)
        ),
        None => format!(
            "The marked steps cover little of the time of the loop: {between}. If the work between them belongs to the steps, times \
             per step are too small. Mark the beginning and the end of the whole step, or only its beginning: simprof_step in C, \
             simprof_probe::step in Rust, simprof_probe.step in Python."
        ),
    };
    Some(Notice::new(NoticeId::StepsCoverLittle, text))
}

/// Returns the key of the spec by which calls of the function delimit steps in this way.
pub fn key(function: &StepFunction, span: StepSpan) -> String {
    match span {
        StepSpan::Call => format!("`step = \"{function}\"`"),
        StepSpan::Begins => format!("`step = {{ begin = \"{function}\" }}`"),
        StepSpan::Ends => format!("`step = {{ end = \"{function}\" }}`"),
    }
}

#[cfg(test)]
mod tests {
    use simprof_model::Step;

    use super::*;

    const MS: u64 = 1_000_000;

    /// Steps of `step_ms`, one every 20 ms.
    fn steps(count: u64, step_ms: u64) -> Steps {
        let step = |index| {
            let begin_ns = index * 20 * MS;
            Step {
                index,
                begin_ns,
                end_ns: begin_ns + step_ms * MS,
                population: None,
                thread: None,
            }
        };
        let steps = (0..count).map(step).collect();
        Steps { steps, source: "marks".into(), ..Steps::default() }
    }

    fn rule(span: StepSpan) -> StepRule {
        StepRule::Function(StepFunction { module: "sim".into(), name: "update".into(), span })
    }

    #[test]
    fn steps_that_cover_little_have_a_notice_with_the_key_to_write() {
        let notices = step_notices(&steps(100, 1), Some(&rule(StepSpan::Call)), None);
        assert_eq!(notices.iter().map(|n| n.id).collect::<Vec<_>>(), [NoticeId::StepsCoverLittle]);
        let text = &notices[0].text;
        for words in
            ["{ end = \"sim:update\" }", "{ begin = \"sim:update\" }", "19.8 ms", " 5 % in steps"]
        {
            assert!(text.contains(words), "{words}: {text}");
        }
        let marked = step_notices(&steps(100, 1), None, None);
        assert!(marked[0].text.contains("simprof_step"), "{marked:?}");
    }

    #[test]
    fn steps_that_follow_each_other_have_no_notice() {
        for (count, step_ms) in [(100, 20), (100, 12), (2, 1), (0, 0)] {
            assert_eq!(step_notices(&steps(count, step_ms), None, None), [], "{count} {step_ms}");
        }
        let step = |index: u64| Step {
            index,
            begin_ns: index * 3000,
            end_ns: index * 3000 + 100,
            population: None,
            thread: None,
        };
        let tiny = Steps { steps: (0..100).map(step).collect(), ..Steps::default() };
        assert_eq!(step_notices(&tiny, None, None), [], "the time between is that of the marks");
    }
}
