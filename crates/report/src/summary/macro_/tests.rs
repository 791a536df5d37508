use simprof_model::{Step, Steps};

use super::*;
use crate::testing::Sketch;

const MS: u64 = 1_000_000;

/// A run with two steps, from 100 to 110 ms and from 120 to 130 ms, and `in_steps` samples of 0.1 ms in them.
fn sketch(in_steps: u64) -> Sketch {
    let mut sketch = Sketch::new();
    for at in 0..900 {
        sketch = sketch.at(at * MS / 10).sample("main > sim::load > sim::read", MS / 10);
    }
    for at in 0..in_steps {
        let (begin, name) = if at % 2 == 0 { (100, "sim::act") } else { (120, "sim::look") };
        let stack = format!("main > sim::step > {name}");
        sketch = sketch.at(begin * MS + at * MS / 20).sample(&stack, MS / 10);
    }
    sketch
}

fn runs(has_steps: bool) -> Vec<RunSteps> {
    let step = |index| Step {
        index,
        begin_ns: (100 + 20 * index) * MS,
        end_ns: (110 + 20 * index) * MS,
        population: None,
        thread: Some(1),
    };
    let steps = if has_steps { vec![step(0), step(1)] } else { Vec::new() };
    vec![RunSteps { start_ns: 0, steps: Steps { steps, lost: 0, source: "marks".into() } }]
}

fn summary(sketch: Sketch, has_steps: bool, is_machine_busy: bool) -> CaseSummary {
    let rules = ComponentRules::new([
        ("load", ["*load", "*read"]),
        ("act", ["*act", "*none"]),
        ("look", ["*look", "*none"]),
    ]);
    case_summary(&CaseInput {
        name: "default",
        profile: &sketch.finish(),
        steps: &runs(has_steps),
        wall_ns: &[140 * MS],
        rules: &rules.expect("globs"),
        counters: BTreeMap::new(),
        calls: None,
        is_machine_busy,
    })
}

fn component<'a>(summary: &'a CaseSummary, name: &str) -> &'a ComponentCost {
    summary.components.iter().find(|cost| cost.name == name).expect("a component of the rules")
}

#[test]
fn figures_per_step_are_of_what_happens_inside_steps() {
    let found = summary(sketch(200), true, false);
    let outside = found.outside_steps.expect("there are steps");
    assert!((outside.set_up_cpu_s - 0.09).abs() < 1e-9 && outside.tear_down_cpu_s == 0.0);
    assert!((outside.cpu_share - 9.0 / 11.0).abs() < 1e-9, "{outside:?}");
    let sum: f64 = found.components.iter().map(|cost| cost.share).sum();
    assert!((sum - 1.0).abs() < 1e-9);
    assert_eq!((component(&found, "load").share, component(&found, "act").share), (0.0, 0.5));
    assert_eq!(component(&found, "act").cpu_ms_per_step, Some(5.0));
    let steps = found.steps.as_ref().expect("there are steps");
    let sum: f64 = found.components.iter().filter_map(|cost| cost.cpu_ms_per_step).sum();
    assert!((sum - steps.cpu_ms_per_step).abs() < 1e-9 && (sum - 10.0).abs() < 1e-9);
    assert_eq!((found.work_samples, steps.wall_ms_per_step), (200, 10.0));
    let [low, high] = steps.cpu_ms_per_step_interval;
    assert!(low < 10.0 && 10.0 < high && high - low < 4.0, "{low} to {high}");
    let named: Vec<&str> = found.functions.iter().map(|function| &*function.name).collect();
    assert!(!named.contains(&"sim::load") && named.contains(&"sim::act"), "{named:?}");
    assert!(found.bottlenecks.iter().all(|found| found.name != "sim::read"));
    let parts: Vec<_> =
        found.parts.iter().map(|part| (part.part, part.mostly.as_deref())).collect();
    let expected = [(crate::analysis::RunPart::SetUp, Some("sim::read"))];
    assert_eq!(parts[..1], expected);
    assert_eq!(
        found.statements[0],
        "Set-up took 90 ms of CPU time (81.8 % of the run), the 2 steps 20 ms (18.2 %). The figures below are of the steps."
    );
}

#[test]
fn without_steps_all_work_counts() {
    let found = summary(sketch(200), false, false);
    assert_eq!((found.outside_steps, found.steps.clone()), (None, None));
    assert!((component(&found, "load").share - 9.0 / 11.0).abs() < 1e-9);
    assert_eq!(component(&found, "load").cpu_ms_per_step, None);
    assert!(!found.statements[0].contains("took"), "{:?}", found.statements);
}

#[test]
fn few_samples_inside_steps_are_not_compared() {
    for samples in [0, 10] {
        let found = summary(sketch(samples), true, false);
        assert_eq!(found.work_samples, samples);
        let [low, high] = component(&found, "act").cpu_ms_per_step_interval.expect("steps");
        let cpu = component(&found, "act").cpu_ms_per_step.expect("steps");
        assert!(low <= cpu && cpu < high && high < 1.0, "{low} to {high}");
        let named = |text: &str| found.statements.iter().any(|found| found.contains(text));
        assert!(named("too few") && !named("sim::act"), "{:?}", found.statements);
    }
}

#[test]
fn on_a_busy_machine_the_cpu_time_of_a_step_comes_first() {
    let of_step = |is_busy| {
        let statements = summary(sketch(200), true, is_busy).statements;
        statements.into_iter().find(|text| text.contains("median")).expect("a finding on steps")
    };
    for (is_busy, cpu_first) in [(false, false), (true, true)] {
        let text = of_step(is_busy);
        let at = |part: &str| text.find(part).expect("both times are given");
        assert_eq!(at("of CPU time") < at("median"), cpu_first, "{text}");
    }
}
