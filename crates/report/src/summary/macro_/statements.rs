//! The findings of phase 1 as sentences.

use super::{CaseInput, CaseSummary, FEW_SAMPLES};
use crate::analysis::RunPart;
use crate::format::{self, duration_ns};
use crate::summary::component_cost::leading_component;
use crate::summary::parts::PartSummary;
use crate::summary::thread_statements::thread_statements;

/// Share of a part from which the first finding names it.
const PART_SHARE_MIN: f64 = 0.01;

/// Returns all findings. `steps_per_run` is 0 without steps.
pub(super) fn statements(
    summary: &CaseSummary,
    steps_per_run: f64,
    input: &CaseInput<'_>,
) -> Vec<String> {
    let samples = summary.work_samples;
    let work = Work { has_steps: summary.steps.is_some(), samples };
    let mut found: Vec<String> =
        parts_statement(&summary.parts, steps_per_run).into_iter().collect();
    if samples < FEW_SAMPLES {
        found.push(work.too_few());
    } else {
        found.extend(component_statement(summary, input.rules.is_empty()));
        found.extend(function_statement(summary, work));
    }
    found.extend(step_statement(summary, input.is_machine_busy));
    found.extend(thread_statements(summary, work.described()));
    found.extend(summary.calls.iter().flat_map(|calls| calls.statements.clone()));
    found
}

/// What the figures are of.
#[derive(Debug, Clone, Copy)]
struct Work {
    has_steps: bool,
    samples: u64,
}

impl Work {
    /// Returns when the time passed that the figures are of, as the beginning of a sentence.
    fn described(self) -> &'static str {
        if self.has_steps { "Inside steps" } else { "After start-up" }
    }

    /// Returns `of CPU time` or `of CPU time inside steps`.
    fn of_cpu_time(self) -> &'static str {
        if self.has_steps { "of CPU time inside steps" } else { "of CPU time" }
    }

    fn too_few(self) -> String {
        let Self { has_steps, samples } = self;
        let count = match samples {
            0 => "No sample lies".to_owned(),
            1 => "Only 1 sample lies".to_owned(),
            many => format!("Only {many} samples lie"),
        };
        if has_steps {
            format!(
                "{count} inside steps: too few to compare components and functions. Give the run more steps, so that they \
                 take longer than the set-up."
            )
        } else {
            format!(
                "{count} outside of the start of the program and its imports: too few to compare components and functions. \
                 Give the program more work. If it works while it is imported, mark its steps."
            )
        }
    }
}

/// Returns how a run is divided, or `None` if almost all of it is the work.
fn parts_statement(parts: &[PartSummary], steps_per_run: f64) -> Option<String> {
    let work = parts.iter().find(|part| part.part.is_work())?;
    if work.share > 1.0 - PART_SHARE_MIN {
        return None;
    }
    let has_steps = steps_per_run > 0.0;
    let groups: [(&str, fn(RunPart) -> bool); 5] = [
        (if has_steps { "set-up" } else { "start-up" }, RunPart::is_before_steps),
        ("imports inside steps", |part| part == RunPart::ImportsInSteps),
        ("compilation inside steps", |part| part == RunPart::CompilationInSteps),
        ("work between steps", |part| part == RunPart::BetweenSteps),
        ("tear-down", |part| part == RunPart::TearDown),
    ];
    let what = match (has_steps, format::count(steps_per_run).as_str()) {
        (false, _) => "the program's work".to_owned(),
        (true, "1") => "the step".to_owned(),
        (true, steps) => format!("the {steps} steps"),
    };
    let listed = groups.into_iter().filter_map(|(name, is)| Group::new(parts, name, is));
    let listed = listed.chain([Group {
        name: &what,
        cpu_s: work.cpu_s,
        share: work.share,
        special: Vec::new(),
    }]);
    let listed: Vec<String> =
        listed.enumerate().map(|(at, group)| group.describe(at == 0)).collect();
    let mut text = listed.join(", ");
    text[..1].make_ascii_uppercase();
    let figures = if has_steps { "the steps" } else { "the program's work" };
    Some(format!("{text}. The figures below are of {figures}."))
}

/// Parts that are named together.
struct Group<'a> {
    name: &'a str,
    cpu_s: f64,
    share: f64,
    /// Imports and compilation in it.
    special: Vec<String>,
}

impl<'a> Group<'a> {
    fn new(parts: &[PartSummary], name: &'a str, is: fn(RunPart) -> bool) -> Option<Self> {
        let of_group: Vec<&PartSummary> = parts.iter().filter(|part| is(part.part)).collect();
        let share: f64 = of_group.iter().map(|part| part.share).sum();
        let is_special = |part: RunPart| matches!(part, RunPart::Imports | RunPart::Compilation);
        let special = of_group
            .iter()
            .filter(|part| part.share >= PART_SHARE_MIN && is_special(part.part))
            .map(|part| format!("{} {}", part.part.describe(), duration_ns(part.cpu_s * 1e9)));
        (share >= PART_SHARE_MIN).then(|| Self {
            name,
            cpu_s: of_group.iter().map(|part| part.cpu_s).sum(),
            share,
            special: special.collect(),
        })
    }

    /// Returns `set-up took 9.5 s of CPU time (81 % of the run, of that imports 3 s)`, or if it is not the first group `set-up
    /// 9.5 s (81 %, of that imports 3 s)`.
    fn describe(&self, is_first: bool) -> String {
        let (cpu, share) = (duration_ns(self.cpu_s * 1e9), format::share(self.share));
        let special = match self.special.as_slice() {
            [] => String::new(),
            special => format!(", of that {}", special.join(" and ")),
        };
        if is_first {
            format!("{} took {cpu} of CPU time ({share} of the run{special})", self.name)
        } else {
            format!("{} {cpu} ({share}{special})", self.name)
        }
    }
}

fn component_statement(summary: &CaseSummary, has_default_names: bool) -> Option<String> {
    let component = leading_component(summary, has_default_names)?;
    let [low, high] = component.interval;
    let per_step = component
        .cpu_ms_per_step
        .map_or_else(String::new, |ms| format!(", {} per step", duration_ns(ms * 1e6)));
    Some(format!(
        "{} (95 % interval {:.1} to {:.1} %){per_step}.",
        component.statement(),
        low * 100.0,
        high * 100.0,
    ))
}

fn function_statement(summary: &CaseSummary, work: Work) -> Option<String> {
    let first = summary.bottlenecks.first()?;
    let callee = first.heaviest_callee.as_ref().map_or_else(String::new, |inner| {
        format!(" Its heaviest callee is {} ({:.1} %).", inner.name, inner.share * 100.0)
    });
    Some(format!(
        "The first function to look at is {}: {:.1} % {} is in it and the libraries that it calls.{callee}",
        first.name,
        first.share * 100.0,
        work.of_cpu_time(),
    ))
}

/// Returns the time of a step. On a busy machine the CPU time comes first, because steps also wait for a core.
fn step_statement(summary: &CaseSummary, is_machine_busy: bool) -> Option<String> {
    let steps = summary.steps.as_ref()?;
    let [low, high] = steps.cpu_ms_per_step_interval.map(|ms| duration_ns(ms * 1e6));
    let cpu = match summary.work_samples {
        0 => format!("at most {high}"),
        few if few < FEW_SAMPLES => format!("{low} to {high}"),
        _ => duration_ns(steps.cpu_ms_per_step * 1e6),
    };
    let wall = format!(
        "{} (median), {} (p95), {} (p99)",
        duration_ns(steps.p50_ms * 1e6),
        duration_ns(steps.p95_ms * 1e6),
        duration_ns(steps.p99_ms * 1e6),
    );
    let rate = format::three_digits(steps.per_second);
    Some(if is_machine_busy {
        format!(
            "A step takes {cpu} of CPU time, over {} steps. Other programs use the machine too, so its wall time is less \
             certain: {wall}, {rate} steps/s.",
            steps.count
        )
    } else {
        format!(
            "{rate} steps/s; a step takes {wall} and {cpu} of CPU time, over {} steps.",
            steps.count
        )
    })
}
