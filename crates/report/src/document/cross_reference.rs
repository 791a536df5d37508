//! CROSS_REFERENCE.md: each top bottleneck with the findings of all phases.

use std::fmt::Write;

use super::parts::{line_location, location, share_with_interval};
use crate::format::{self, three_digits};
use crate::markdown::{code, escape, list};
use crate::summary::{
    Bottleneck, Check, ComponentSummary, Law, LineSummary, MacroSummary, SystemSummary,
};

/// Number of bottlenecks in the report.
const FOLLOWED: usize = 5;

/// Returns the report that joins the phases. A phase that did not run is listed as such.
pub fn cross_reference_report(
    target: &str,
    macro_: Option<&MacroSummary>,
    component: Option<&ComponentSummary>,
    line: Option<&LineSummary>,
    system: Option<&SystemSummary>,
) -> String {
    let mut text = format!("# {}: bottlenecks through the phases\n\n", escape(target));
    let Some(macro_) = macro_ else {
        text.push_str("Phase 1 did not run, so no bottlenecks are known.\n");
        return text;
    };
    let whole = system.map_or_else(|| "Phase 4 did not run.\n".to_owned(), whole);
    let _ = write!(text, "## The whole program\n\n{whole}\n");
    if macro_.default.bottlenecks.is_empty() {
        text.push_str("Phase 1 found no bottleneck: it recorded no samples.\n");
    }
    for bottleneck in macro_.default.bottlenecks.iter().take(FOLLOWED) {
        text.push_str(&follow(bottleneck, component, line));
    }
    text
}

fn follow(
    bottleneck: &Bottleneck,
    component: Option<&ComponentSummary>,
    line: Option<&LineSummary>,
) -> String {
    let mut text = format!("## {}. {}\n\n", bottleneck.rank, code(&bottleneck.name));
    let mut point = |name: &str, found: String| {
        let _ = writeln!(text, "- **{name}**: {found}");
    };
    point("Phase 1", cost(bottleneck));
    point("Phase 2", component.map_or_else(not_run, |component| growth(bottleneck, component)));
    point("Phase 3", line.map_or_else(not_run, |line| hottest_lines(bottleneck, line)));
    point("Largest gain", bound(bottleneck));
    text.push('\n');
    text
}

fn not_run() -> String {
    "did not run.".to_owned()
}

fn cost(bottleneck: &Bottleneck) -> String {
    let per_step = bottleneck
        .ms_per_step
        .map_or_else(String::new, |ms| format!(" ({} per step)", format::duration_ns(ms * 1e6)));
    format!(
        "{} {} in the function and the libraries that it calls{per_step}, {} including all callees; component {}; {}.",
        share_with_interval(bottleneck.share, bottleneck.interval),
        of_cpu_time(bottleneck),
        format::share(bottleneck.total_share),
        escape(&bottleneck.component_parts()),
        code(&location(bottleneck.file.as_deref(), bottleneck.line))
    )
}

/// Returns what shares are of: `of CPU time inside steps`, or `of CPU time` if the target has no steps.
fn of_cpu_time(bottleneck: &Bottleneck) -> &'static str {
    if bottleneck.ms_per_step.is_some() { "of CPU time inside steps" } else { "of CPU time" }
}

/// Returns the steepest laws of its component, or the component's share of the recorded CPU time.
fn growth(bottleneck: &Bottleneck, component: &ComponentSummary) -> String {
    let of_component = |law: &&Law| law.component.as_deref() == Some(bottleneck.component.as_str());
    let mut laws: Vec<&Law> =
        component.laws.iter().filter(of_component).filter(|law| timed(law)).collect();
    laws.sort_by(|a, b| lower_end(b).total_cmp(&lower_end(a)));
    let steepest = laws.iter().take(2).filter_map(|law| law_sentence(law));
    let winner = component
        .winners
        .iter()
        .find(|winner| winner.component == bottleneck.component && winner.speedup.is_some());
    let winner = winner.map(|winner| escape(&winner.statement));
    let parts: Vec<String> = steepest.chain(winner).collect();
    if !parts.is_empty() {
        return format!("{}.", parts.join("; "));
    }
    let share = component.in_situ.as_ref().and_then(|in_situ| {
        in_situ.components.iter().find(|cost| cost.name == bottleneck.component)
    });
    share.map_or_else(
        || format!("no benchmark measures component {}.", escape(&bottleneck.component)),
        |cost| {
            format!(
                "component {} takes {} {}; no benchmark measures how it grows.",
                escape(&cost.name),
                format::share(cost.share),
                of_cpu_time(bottleneck)
            )
        },
    )
}

fn timed(law: &Law) -> bool {
    law.exponent_interval.is_some()
        && law.metric.ends_with("_ns")
        && !law.metric.contains("_p9")
        && !law.is_constant()
}

fn lower_end(law: &Law) -> f64 {
    law.exponent_interval.map_or(f64::MIN, |interval| interval[0])
}

/// Returns `observe: observe_ns grows as agents^1.92 (95 % interval 1.88 to 1.96)`.
fn law_sentence(law: &Law) -> Option<String> {
    let arm = if law.arm.is_empty() { String::new() } else { format!(" ({})", law.arm) };
    let name = law.operation.as_deref().unwrap_or("the run");
    Some(escape(&format!("{name}{arm}: {} {}", law.metric, law.growth()?)))
}

fn hottest_lines(bottleneck: &Bottleneck, line: &LineSummary) -> String {
    let found = line
        .functions
        .iter()
        .find(|function| function.asked == bottleneck.name || function.name == bottleneck.name);
    let Some(function) = found else {
        return "did not examine this function.".to_owned();
    };
    let lines: Vec<String> = function
        .lines
        .iter()
        .take(2)
        .map(|line| {
            let text = line.text.as_deref().map(str::trim).filter(|text| !text.is_empty());
            let text = text.map_or_else(String::new, |text| format!(" {}", code(text)));
            format!("{} {}{text}", code(&line_location(line)), format::share(line.cpu_share))
        })
        .collect();
    let followed = if function.followed.is_empty() {
        String::new()
    } else {
        let count = function.followed.len();
        let end = if count == 1 { "" } else { "s" };
        format!("followed through {count} wrapper{end} to {}: ", code(&function.name))
    };
    if lines.is_empty() {
        let why = if function.is_kernel {
            "functions of the kernel have no lines"
        } else {
            "no line of it is known"
        };
        format!("{followed}{why}.")
    } else {
        format!("{followed}{}.", lines.join("; "))
    }
}

/// Returns the findings of phase 4.
fn whole(system: &SystemSummary) -> String {
    list(system.statements.iter().cloned().chain(system.readiness.iter().map(check_result)))
}

/// Returns `exponent of time in agents: 1.37, cannot tell (linear or less or poor)`.
fn check_result(check: &Check) -> String {
    let value = check.value.map_or_else(String::new, |value| format!("{}, ", three_digits(value)));
    format!("{}: {value}{}", check.check, check.result())
}

/// Returns the upper bound of the gain (Amdahl 1967), in CPU time: the gain in wall time also depends on waiting and
/// parallel work.
fn bound(bottleneck: &Bottleneck) -> String {
    let what = if bottleneck.ms_per_step.is_some() { "a step" } else { "the program" };
    format!(
        "without this function {what} would use at most {} less CPU time. That is an upper bound, not a prediction: measure \
         before and after a change.",
        format::share(bottleneck.interval[1])
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::summary::ReadinessVerdict;

    #[test]
    fn the_result_of_a_check_has_its_verdict() {
        let check = |verdict, word: &str| Check {
            check: "exponent of time in n".to_owned(),
            value: Some(1.37),
            interval: None,
            threshold: None,
            verdict,
            word: word.to_owned(),
            evidence: String::new(),
        };
        let unknown = check(ReadinessVerdict::CannotTell, "linear or less or poor");
        let text = check_result(&unknown);
        assert!(text.ends_with(&unknown.result()), "{text}");
        assert!(text.contains(unknown.verdict.describe()) && text.contains(&unknown.word));
        let poor = check(ReadinessVerdict::Poor, "poor");
        assert_eq!(poor.result(), ReadinessVerdict::Poor.describe());
    }
}
