use proptest::prelude::*;
use simprof_model::{Step, Steps, WaitCause};

use super::*;
use crate::testing::Sketch;

const IMPORT: &str = "p:importlib._bootstrap._find_and_load%<frozen importlib._bootstrap>";

/// One run, that starts at 0, with steps from and to these times by thread `thread`.
fn run(spans: &[(u64, u64, Option<u32>)]) -> RunSteps {
    let step = |(index, &(begin_ns, end_ns, thread))| Step {
        index,
        begin_ns,
        end_ns,
        population: None,
        thread,
    };
    let steps = (0..).zip(spans).map(step).collect();
    RunSteps { start_ns: 0, steps: Steps { steps, lost: 0, source: "marks".into() } }
}

/// Ten steps of 10 ns from time 100 on.
fn ten_steps() -> RunSteps {
    let spans: Vec<_> = (0..10).map(|step| (100 + 10 * step, 110 + 10 * step, Some(1))).collect();
    run(&spans)
}

fn weights(split: &RunSplit) -> Vec<(RunPart, u64)> {
    split.parts.iter().map(|cost| (cost.part, cost.weight)).collect()
}

#[test]
fn a_run_is_split_by_its_steps() {
    let profile = Sketch::new()
        .sample("_start~/lib/ld-linux.so > relocate~/lib/ld-linux.so", 1)
        .sample("main > load", 5)
        .sample(&format!("main > {IMPORT} > p:sim.<module>"), 2)
        .sample("main > load > llvm::compile", 3)
        .at(100)
        .sample("main > step", 20)
        .at(150)
        .sample("main > pause", 4)
        .at(210)
        .sample("main > step", 20)
        .at(250)
        .sample("main > save", 6)
        .finish();
    let spans = [(100, 120, None), (200, 250, None), (205, 210, None)];
    let split = split_run(&profile, &[run(&spans)]);
    let expected = [
        (RunPart::StartUp, 1),
        (RunPart::Imports, 2),
        (RunPart::Compilation, 3),
        (RunPart::SetUp, 5),
        (RunPart::Steps, 40),
        (RunPart::BetweenSteps, 4),
        (RunPart::TearDown, 6),
    ];
    assert_eq!(weights(&split), expected);
    assert_eq!((split.steps, split.work.total_weight()), (3, 40));
    assert!((split.ms_per_step().expect("there are steps") - 40e-6 / 3.0).abs() < 1e-15);
    let main = |part| split.parts.iter().find(|cost| cost.part == part).expect("it").mostly.clone();
    assert_eq!(main(RunPart::SetUp).as_deref(), Some("load"));
}

#[test]
fn what_happens_once_inside_steps_is_a_part_of_its_own() {
    let numba = "p:Dispatcher._compile_for_args%/site-packages/numba/core/dispatcher.py";
    let mut sketch = Sketch::new()
        .at(103)
        .sample(&format!("main > p:sim.step@3 > {IMPORT} > p:scipy.<module>"), 50)
        .sample(&format!("main > p:sim.step@4 > {numba}"), 30);
    for step in 0..10 {
        sketch = sketch.at(105 + 10 * step).sample("main > p:sim.step@5", 7);
    }
    let split = split_run(&sketch.finish(), &[ten_steps()]);
    let expected =
        [(RunPart::Steps, 70), (RunPart::ImportsInSteps, 50), (RunPart::CompilationInSteps, 30)];
    assert_eq!(weights(&split), expected);
}

#[test]
fn an_import_that_every_step_repeats_is_work_of_the_steps() {
    let mut sketch = Sketch::new();
    for step in 0..10 {
        let import = format!("main > p:sim.step@3 > {IMPORT} > p:find_spec");
        sketch = sketch.at(105 + 10 * step).sample(&import, 7);
    }
    assert_eq!(weights(&split_run(&sketch.finish(), &[ten_steps()])), [(RunPart::Steps, 70)]);
}

#[test]
fn a_program_that_an_import_runs_has_work() {
    let mut sketch = Sketch::new();
    for step in 0..10 {
        let stack = format!("p:<string> > {IMPORT} > p:sim.<module>@9 > p:sim.step");
        sketch = sketch.at(105 + 10 * step).sample(&stack, 7);
    }
    assert_eq!(weights(&split_run(&sketch.finish(), &[ten_steps()])), [(RunPart::Steps, 70)]);
}

#[test]
fn each_process_has_its_own_steps() {
    let profile = Sketch::new()
        .on_process(1, 11)
        .at(120)
        .sample("main > step", 1)
        .on_process(2, 21)
        .at(130)
        .sample("main > load", 2)
        .at(230)
        .sample("main > step", 4)
        .on_process(1, 11)
        .at(240)
        .sample("main > save", 8)
        // Another thread of a process that marks steps, and a process that marks none.
        .on_process(2, 22)
        .at(250)
        .sample("helper", 16)
        .on_process(3, 31)
        .at(150)
        .sample("helper", 32)
        .finish();
    let spans = [(100, 200, Some(11)), (220, 300, Some(21))];
    let split = split_run(&profile, &[run(&spans)]);
    let expected = [(RunPart::SetUp, 2), (RunPart::Steps, 1 + 4 + 16 + 32), (RunPart::TearDown, 8)];
    assert_eq!(weights(&split), expected);
}

#[test]
fn runs_are_split_one_by_one() {
    let profile = Sketch::new()
        .at(50)
        .sample("load", 1)
        .at(105)
        .sample("step", 2)
        .at(1050)
        .sample("load", 4)
        .at(1105)
        .sample("step", 8)
        .finish();
    let mut later = run(&[(1100, 1110, Some(1))]);
    later.start_ns = 1000;
    let split = split_run(&profile, &[run(&[(100, 110, Some(1))]), later]);
    assert_eq!(weights(&split), [(RunPart::SetUp, 5), (RunPart::Steps, 10)]);
}

#[test]
fn waits_are_cut_at_the_ends_of_steps() {
    let wait = |end, ns| {
        let profile = Sketch::new().at(end).wait("p:sim.step", WaitCause::Sleep, ns).finish();
        let work = split_run(&profile, &[run(&[(100, 200, None)])]).work;
        work.waits.iter().map(|wait| wait.weight_ns).collect::<Vec<_>>()
    };
    assert_eq!(wait(110, 90), [10], "it began before the step");
    assert_eq!(wait(150, 20), [20]);
    assert_eq!(wait(240, 60), [20], "it ended after the step");
    assert_eq!(wait(90, 90), [0; 0]);
}

#[test]
fn without_steps_the_start_and_the_end_of_a_program_are_not_its_work() {
    let profile = Sketch::new()
        .sample("_start > k:__x64_sys_execve", 1)
        .sample("_start > Py_RunMain > pymain_init", 2)
        .sample(&format!("p:sim.<module>@1 > {IMPORT} > p:numpy.<module>"), 4)
        .sample("p:sim.<module>@2 > p:sim.run", 8)
        .sample("_start > Py_RunMain > Py_FinalizeEx", 16)
        .wait(&format!("p:sim.<module>@1 > {IMPORT}"), WaitCause::Io, 5)
        .wait("p:sim.<module>@2 > p:sim.run", WaitCause::Io, 6)
        .finish();
    let split = split_run(&profile, &[run(&[])]);
    let expected = [
        (RunPart::StartUp, 3),
        (RunPart::Imports, 4),
        (RunPart::Program, 8),
        (RunPart::TearDown, 16),
    ];
    assert_eq!(weights(&split), expected);
    assert_eq!((split.steps, split.ms_per_step()), (0, None));
    assert_eq!(split.work.waits.iter().map(|wait| wait.weight_ns).sum::<u64>(), 6);
}

#[test]
fn the_work_is_listed_even_without_samples() {
    let profile = Sketch::new().sample("load", 5).finish();
    let split = split_run(&profile, &[ten_steps()]);
    assert_eq!(weights(&split), [(RunPart::SetUp, 5), (RunPart::Steps, 0)]);
}

#[test]
fn other_parts_are_grouped_under_a_frame() {
    let profile = Sketch::new()
        .sample("main > load > read", 1)
        .sample("main > load", 2)
        .sample("", 4)
        .at(105)
        .sample("main > step", 8)
        .finish();
    let split = split_run(&profile, &[ten_steps()]);
    let grouped = split.grouped(&profile, false);
    let stack = |stack| {
        let frames = grouped.frames_from_leaf(stack);
        let names = frames.map(|frame| grouped.function_name(grouped.frame(frame).function));
        names.collect::<Vec<_>>().join(" < ")
    };
    let found: Vec<(String, u64)> =
        grouped.samples.iter().map(|sample| (stack(sample.stack), sample.weight)).collect();
    let expected = [
        ("read < load < main < [set-up]", 1),
        ("load < main < [set-up]", 2),
        ("[set-up]", 4),
        ("step < main", 8),
    ];
    assert_eq!(found, expected.map(|(stack, weight)| (stack.to_owned(), weight)));
    assert_eq!(grouped.stacks.len(), profile.stacks.len() + 4, "each stack is moved once");
}

proptest! {
    #[test]
    fn the_parts_are_the_whole(
        samples in prop::collection::vec((0_u64..300, 1_u64..100, 0_usize..4), 1..50),
        spans in prop::collection::vec((0_u64..300, 0_u64..60, prop::option::of(1_u32..4)), 0..8),
    ) {
        let stacks = ["main > work", "p:sim.<module> > p:sim.step", "_dl_start", ""];
        let import = format!("p:sim.step > {IMPORT} > p:x.<module>");
        let mut sketch = Sketch::new();
        for &(time, weight, stack) in &samples {
            let stack = if stack == 3 { import.as_str() } else { stacks[stack] };
            sketch = sketch.on_process(1, 1 + (time % 3) as u32).at(time).sample(stack, weight);
        }
        let profile = sketch.finish();
        let spans: Vec<_> = spans.into_iter().map(|(begin, ns, tid)| (begin, begin + ns, tid)).collect();
        let split = split_run(&profile, &[run(&spans)]);
        let sum: u64 = split.parts.iter().map(|cost| cost.weight).sum();
        prop_assert_eq!(sum, profile.total_weight());
        let shares: f64 = split.parts.iter().map(|cost| cost.share).sum();
        prop_assert!((shares - 1.0).abs() < 1e-9);
        prop_assert_eq!(split.grouped(&profile, false).total_weight(), profile.total_weight());
        let work = split.parts.iter().find(|cost| cost.part.is_work()).expect("the work");
        prop_assert_eq!(work.weight, split.work.total_weight());
    }
}
