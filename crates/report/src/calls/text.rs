//! Formats the analysis of a call profile as text for a terminal.

use super::analysis::{CallAnalysis, CallCost};
use crate::columns::{columns, one_line};
use crate::format::{count, duration_ns, ratio, share};
use crate::markdown::Align::{Left, Right};
use crate::stacks::more;

/// Formats the analysis as text for a terminal, with at most `top` rows per table. `title` names the file.
pub fn describe(analysis: &CallAnalysis, title: &str, top: usize) -> String {
    let mut by_cumulative: Vec<&CallCost> = analysis.functions.iter().collect();
    by_cumulative.sort_by(|a, b| b.cumulative_s.total_cmp(&a.cumulative_s));
    let by_self: Vec<&CallCost> = analysis.functions.iter().collect();
    [
        head(analysis, title),
        advice(analysis),
        section("Functions by self time", &functions(&by_self, top)),
        section("Functions by total time", &functions(&by_cumulative, top)),
        section("Components", &components(analysis, top)),
        section("Read this first", &notices(analysis)),
    ]
    .concat()
}

fn head(analysis: &CallAnalysis, title: &str) -> String {
    format!(
        "{}: {}, {} calls ({} primitive) of {} functions in {}\n",
        one_line(title),
        analysis.format,
        analysis.calls,
        analysis.primitive_calls,
        analysis.functions.len(),
        duration_ns(analysis.total_s * 1e9)
    )
}

fn section(heading: &str, content: &str) -> String {
    format!("\n{heading}\n{content}")
}

fn advice(analysis: &CallAnalysis) -> String {
    let rows: Vec<Vec<String>> = analysis
        .advice
        .iter()
        .map(|advice| {
            let faster = advice.speedup_max.map_or("-".to_owned(), ratio);
            vec![share(advice.share_max), faster, advice.statement.clone()]
        })
        .collect();
    if rows.is_empty() {
        return String::new();
    }
    let headings = [("gain at most", Right), ("speed-up", Right), ("finding", Left)];
    section("Advice", &columns(&headings, &rows))
}

fn functions(order: &[&CallCost], top: usize) -> String {
    let rows: Vec<Vec<String>> = order.iter().take(top).map(|cost| row(cost)).collect();
    let headings = [
        ("calls", Right),
        ("self", Right),
        ("share", Right),
        ("per call", Right),
        ("total", Right),
        ("share", Right),
        ("per call", Right),
        ("function", Left),
    ];
    columns(&headings, &rows) + &more(order.len(), top)
}

fn row(cost: &CallCost) -> Vec<String> {
    let each = |time_s: f64, calls: u64| match calls {
        0 => "-".to_owned(),
        calls => duration_ns(time_s * 1e9 / calls as f64),
    };
    vec![
        calls(cost),
        duration_ns(cost.self_s * 1e9),
        share(cost.self_share),
        each(cost.self_s, cost.calls),
        duration_ns(cost.cumulative_s * 1e9),
        share(cost.cumulative_share),
        each(cost.cumulative_s, cost.primitive_calls),
        location(cost),
    ]
}

/// Formats calls like `pstats`: all calls, followed by `/` and the primitive calls if the function is recursive.
fn calls(cost: &CallCost) -> String {
    if cost.calls == cost.primitive_calls {
        return cost.calls.to_string();
    }
    format!("{}/{}", cost.calls, cost.primitive_calls)
}

fn location(cost: &CallCost) -> String {
    if cost.line == 0 {
        cost.name.clone()
    } else {
        format!("{} ({}:{})", cost.name, cost.file, cost.line)
    }
}

fn components(analysis: &CallAnalysis, top: usize) -> String {
    let rows: Vec<Vec<String>> = analysis
        .components
        .iter()
        .take(top)
        .map(|component| {
            let (with, own) = (share(component.share), share(component.self_share));
            vec![with, own, count(component.functions as f64), component.name.clone()]
        })
        .collect();
    let headings =
        [("with libraries", Right), ("self", Right), ("functions", Right), ("component", Left)];
    columns(&headings, &rows) + &more(analysis.components.len(), top)
}

fn notices(analysis: &CallAnalysis) -> String {
    analysis.notices.iter().map(|notice| format!("  - {}\n", one_line(&notice.text))).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{Modules, analyse};
    use super::*;
    use crate::analysis::ComponentRules;
    use crate::testing::calls::{Calls, call};

    #[test]
    fn the_text_has_advice_tables_and_notices() {
        let profile = Calls::new()
            .function("main", 1, 0.25, 1.5, &[])
            .function(
                "fib\u{1b}[2J",
                177,
                1.0,
                1.25,
                &[call("fib\u{1b}[2J", 176, 0.75, 1.0), call("main", 1, 0.25, 1.25)],
            )
            .primitive(1)
            .function("<built-in method x>", 100, 0.25, 0.25, &[call("main", 100, 0.25, 0.25)])
            .finish();
        let analysis = analyse(
            &profile,
            "pstats",
            &Modules::new(&profile, &|_| false),
            &ComponentRules::default(),
        );
        insta::assert_snapshot!(describe(&analysis, "a\nb.prof", 2));
    }
}
