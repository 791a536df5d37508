//! Memory in phase 3, on programs whose allocations are known: leaks, short-lived allocations, peaks, and targets that cannot be
//! recorded.

use std::process::Command;

use serde_json::Value;
use simprof_model::HeapProfile;

use crate::support::{
    Done, Workspace, c_program, c_program_with, has_notice, marked_line, python_program,
    python_with_packages, rust_program_with, sampling_allowed, shows_notice,
};

/// Runs phase 3 with memory.
fn run(workspace: &Workspace, options: &[&str], command: &[&str]) -> Done {
    let mut arguments = vec!["run", "--phase", "3", "--quick", "--rate", "5000", "--memory"];
    arguments.extend(options);
    arguments.push("--");
    arguments.extend(command);
    workspace.simprof(&arguments)
}

/// Runs phase 3 like [`run`] and returns the memory part of the summary. The run must succeed, unless the machine does not allow
/// sampling.
fn recorded(workspace: &Workspace, options: &[&str], command: &[&str]) -> Value {
    let done = run(workspace, options, command);
    done.assert_status(if sampling_allowed() { 0 } else { 1 });
    memory(workspace)
}

fn memory(workspace: &Workspace) -> Value {
    let summary = workspace.json("phase3/phase3_summary.json");
    assert!(summary["memory"].is_object(), "{summary:#}");
    summary["memory"].clone()
}

fn report(workspace: &Workspace) -> String {
    workspace.text("phase3/PHASE3_REPORT.md")
}

/// Returns the entry of a list for a marked line of a program.
fn at<'s>(memory: &'s Value, list: &str, program: &str, mark: &str) -> &'s Value {
    find(memory, list, program, mark)
        .unwrap_or_else(|| panic!("{mark} is not in {list}: {:#}", memory[list]))
}

fn find<'s>(memory: &'s Value, list: &str, program: &str, mark: &str) -> Option<&'s Value> {
    let line = marked_line(program, mark);
    let is = |entry: &&Value| {
        let file = entry["file"].as_str().unwrap_or_default();
        entry["line"] == line && file.ends_with(program)
    };
    memory[list].as_array().expect(list).iter().find(is)
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("a number: {value:#}"))
}

/// Returns whether an interval of the summary contains a number.
fn holds(interval: &Value, truth: f64) -> bool {
    (number(&interval[0])..=number(&interval[1])).contains(&truth)
}

/// Returns whether a 95 % interval, widened to twice its width, contains a number. For a correct estimate that fails in one run of
/// ten thousand.
fn nearly_holds(interval: &Value, truth: f64) -> bool {
    let (low, high) = (number(&interval[0]), number(&interval[1]));
    let half = (high - low) / 2.0;
    (low - half..=high + half).contains(&truth)
}

/// Returns whether one of the sentences contains all of `words`.
fn has_statement(sentences: &Value, words: &[&str]) -> bool {
    let sentences = sentences.as_array().expect("sentences").iter();
    let mut texts = sentences.map(|sentence| sentence.as_str().expect("a sentence"));
    texts.any(|text| words.iter().all(|word| text.contains(word)))
}

const C: &str = "memory.c";
const PY: &str = "memory.py";
const STEPS: u64 = 120;

/// Returns the bytes of all temporaries of a step of `memory.c`.
fn churned() -> u64 {
    (0..400).map(|i| 1500 + i).sum()
}

/// Returns the largest number of agents that are alive at once in `memory.c`, and the number that it creates.
fn agents() -> (u64, u64) {
    let (mut most, mut made, mut alive) = (0, 0, 0);
    for step in 0..STEPS {
        let wanted = 1000 + step * 37 % 400;
        made += u64::saturating_sub(wanted, alive);
        alive = wanted;
        most = most.max(alive);
    }
    (most, made)
}

#[test]
fn a_leak_of_forty_kilobytes_a_step_is_named_with_its_line_and_rate() {
    let workspace = Workspace::new();
    let program = c_program("memory");
    let steps = STEPS.to_string();
    let memory =
        recorded(&workspace, &["--memory-interval", "4096"], &[&program, "simulate", &steps]);
    assert_eq!(memory["steps"], STEPS, "{memory:#}");
    let leak = at(&memory, "leaks", C, "LEAK LINE");
    assert_eq!((&leak["verdict"], &leak["per"]), (&"growing".into(), &"step".into()), "{leak:#}");
    assert!(holds(&leak["rate_interval"], 40_000.0), "{leak:#}");
    let width = number(&leak["rate_interval"][1]) - number(&leak["rate_interval"][0]);
    assert!(width < 8_000.0, "the interval is narrow: {leak:#}");
    assert_eq!(memory["leaks"].as_array().expect("leaks").len(), 1, "nothing else: {memory:#}");
    let line = format!("memory.c:{}", marked_line(C, "LEAK LINE"));
    assert!(has_statement(&memory["statements"], &[&line]), "{memory:#}");
    let report = report(&workspace);
    for words in ["malloc(LEAK)", "memory_leaked.svg"] {
        assert!(report.contains(words), "{words}: {report}");
    }
    for file in ["memory.svg", "memory_leaked.svg", "memory_peak.svg", "memory.pb.gz"] {
        assert!(workspace.latest("phase3").join(file).is_file(), "{file}");
    }
}

#[test]
fn a_program_started_through_the_loader_is_recorded_by_line() {
    let workspace = Workspace::new();
    let command = ["/lib64/ld-linux-x86-64.so.2", &c_program("memory"), "simulate", "60"];
    let memory = recorded(&workspace, &["--memory-interval", "4096"], &command);
    let leak = at(&memory, "leaks", C, "LEAK LINE");
    assert!(nearly_holds(&leak["rate_interval"], 40_000.0), "{leak:#}");
}

#[test]
fn exact_figures_are_correct_to_the_byte() {
    let workspace = Workspace::new();
    let program = c_program("memory");
    let steps = STEPS.to_string();
    let memory = recorded(&workspace, &["--memory-interval", "1"], &[&program, "simulate", &steps]);
    assert_eq!((&memory["interval_bytes"], &memory["lost"]), (&1.into(), &0.into()), "{memory:#}");
    let (most, made) = agents();
    let expected = [
        ("LEAK LINE", STEPS * 40_000, STEPS),
        ("CHURN LINE", STEPS * churned(), STEPS * 400),
        ("AGENT LINE", made * 3000, made),
        ("PEAK LINE", 64 << 20, 1),
    ];
    for (mark, bytes, count) in expected {
        let allocated = &at(&memory, "lines", C, mark)["allocated"];
        assert_eq!((&allocated["bytes"], &allocated["count"]), (&bytes.into(), &count.into()));
        assert_eq!(allocated["bytes_interval"][0], allocated["bytes_interval"][1]);
    }
    // The program allocates nothing else. The C library allocates a little at start.
    let bytes: u64 = expected.iter().map(|row| row.1).sum();
    let count: u64 = expected.iter().map(|row| row.2).sum();
    let allocated = &memory["allocated"];
    let other_bytes = number(&allocated["bytes"]) - bytes as f64;
    assert!((0.0..1000.0).contains(&other_bytes), "{other_bytes}: {memory:#}");
    let other_count = number(&allocated["count"]) - count as f64;
    assert!((0.0..10.0).contains(&other_count), "{other_count}: {memory:#}");
    let temporary = STEPS * churned() + (64 << 20);
    assert_eq!(memory["temporary"]["bytes"], temporary, "{memory:#}");
    // The peak is after two thirds of the steps.
    let step = STEPS * 2 / 3;
    assert_eq!(memory["peak_step"], step, "{memory:#}");
    let agents = &at(&memory, "lines", C, "AGENT LINE")["peak"]["count"];
    assert_eq!(agents, 1000 + step * 37 % 400);
    assert!(agents.as_u64() <= Some(most));
    assert_eq!(at(&memory, "lines", C, "LEAK LINE")["peak"]["bytes"], (step + 1) * 40_000);
    assert_eq!(at(&memory, "lines", C, "LEAK LINE")["live"]["bytes"], STEPS * 40_000);
    assert_eq!(memory["per_step"]["allocations"], count as f64 / STEPS as f64, "{memory:#}");
}

#[test]
fn estimates_at_the_default_rate_lie_in_their_intervals() {
    let workspace = Workspace::new();
    let program = c_program("memory");
    let default = (512 << 10).to_string();
    let memory =
        recorded(&workspace, &["--memory-interval", &default], &[&program, "simulate", "600"]);
    let leak = &at(&memory, "lines", C, "LEAK LINE")["allocated"];
    // A 95 % interval misses the truth in one run of twenty, an interval of twice the width in one of ten thousand.
    let within = |amount: &Value, of: &str, truth: f64| {
        let interval = &amount[format!("{of}_interval")];
        let half = (number(&interval[1]) - number(&interval[0])) / 2.0;
        assert!(half > 0.0 && half < number(&amount[of]), "an estimate: {amount:#}");
        assert!((number(&amount[of]) - truth).abs() <= 2.0 * half, "{truth}: {amount:#}");
    };
    within(leak, "bytes", 600.0 * 40_000.0);
    within(leak, "count", 600.0);
    let churn = &at(&memory, "lines", C, "CHURN LINE")["allocated"];
    within(churn, "bytes", 600.0 * churned() as f64);
    within(churn, "count", 600.0 * 400.0);
    // A single block of 128 times the interval is practically always sampled.
    assert_eq!(at(&memory, "lines", C, "PEAK LINE")["allocated"]["count"], 1);
}

#[test]
fn a_short_run_with_few_samples_is_repeated_with_more() {
    let workspace = Workspace::new();
    let memory = recorded(&workspace, &[], &[&c_program("memory"), "simulate", "120"]);
    let interval = memory["interval_bytes"].as_u64().expect("bytes");
    assert!((2..512 << 10).contains(&interval), "{interval}");
    let summary = workspace.json("phase3/phase3_summary.json");
    assert!(has_notice(&summary, "memory_sampled_again"), "{summary:#}");
    let measurements = workspace.manifest()["phases"][0]["measurements"].clone();
    let of_memory = measurements.as_array().expect("measurements").iter();
    let mut of_memory = of_memory.filter(|measurement| measurement["name"] == "memory");
    let replicates = of_memory.next().expect("the measurement")["replicates"].clone();
    assert_eq!(replicates.as_array().expect("replicates").len(), 2);
    let leak = at(&memory, "leaks", C, "LEAK LINE");
    assert!(nearly_holds(&leak["rate_interval"], 40_000.0), "{leak:#}");
}

#[test]
fn temporaries_of_a_loop_are_short_lived_and_kept_blocks_are_not() {
    let workspace = Workspace::new();
    let program = c_program("memory");
    let steps = STEPS.to_string();
    let memory =
        recorded(&workspace, &["--memory-interval", "4096"], &[&program, "simulate", &steps]);
    let churn = at(&memory, "churn", C, "CHURN LINE");
    assert!((number(&churn["per_step"]) - 400.0).abs() < 40.0, "{churn:#}");
    assert_eq!(memory["churn"].as_array().expect("churn").len(), 1, "{memory:#}");
    if sampling_allowed() {
        let (share, times) = (number(&churn["cpu_share"]), number(&churn["speed_up"]));
        assert!(share > 0.0 && (times - 1.0 / (1.0 - share)).abs() < 1e-9, "{churn:#}");
    }
    let line = format!("memory.c:{}", marked_line(C, "CHURN LINE"));
    assert!(has_statement(&memory["statements"], &[&line]), "{memory:#}");
    assert!(report(&workspace).contains(&line), "{}", report(&workspace));
}

#[test]
fn growth_with_the_population_is_not_a_leak() {
    let workspace = Workspace::new();
    let program = c_program("memory");
    let steps = STEPS.to_string();
    let memory = recorded(&workspace, &["--memory-interval", "1"], &[&program, "simulate", &steps]);
    assert!(find(&memory, "leaks", C, "AGENT LINE").is_none(), "it grows with the population");
    let per_agent = number(&memory["per_step"]["live_bytes_per_agent"]);
    let alive = 1000 + (STEPS - 1) * 37 % 400;
    let truth = 3000.0 + (STEPS * 40_000) as f64 / alive as f64;
    assert!((per_agent - truth).abs() < 1.0, "{per_agent} for {truth}");

    let memory = recorded(&workspace, &["--memory-interval", "1"], &[&program, "growing", &steps]);
    let leak = at(&memory, "leaks", C, "AGENT LINE");
    assert_eq!(
        leak["verdict"], "confounded",
        "growth and population cannot be separated: {leak:#}"
    );
    let line = at(&memory, "lines", C, "AGENT LINE");
    assert_eq!(line["leaked_bytes"], 0, "{line:#}");
}

#[test]
fn printed_steps_have_memory_figures() {
    let workspace = Workspace::new();
    let program = c_program("memory");
    let spec = format!(
        "[target]\ncommand = [{program:?}, \"print\", \"60\"]\nstep = {{ output = '^step (\\d+) of' }}\n"
    );
    workspace.write("simprof.toml", &spec);
    let arguments = ["run", "--phase", "3", "--quick", "--rate", "5000", "--memory-interval", "1"];
    workspace.simprof(&arguments).assert_status(if sampling_allowed() { 0 } else { 1 });
    let memory = memory(&workspace);
    // A printed line begins a step, so the end of the last step is unknown.
    assert_eq!(memory["steps"], 59, "{memory:#}");
    let leak = at(&memory, "leaks", C, "LEAK LINE");
    assert!(holds(&leak["rate_interval"], 40_000.0) && leak["per"] == "step", "{leak:#}");
    let temporary = &at(&memory, "lines", C, "CHURN LINE")["temporary"];
    let share = number(&temporary["bytes"]) / (60 * churned()) as f64;
    assert!(share > 0.9, "blocks that are freed at once are temporary: {share}");
}

#[test]
fn annotated_source_shows_memory_and_time() {
    if !sampling_allowed() {
        return;
    }
    let workspace = Workspace::new();
    let program = c_program("memory");
    let options = ["--memory-interval", "1", "--function", "churn"];
    recorded(&workspace, &options, &[&program, "simulate", "120"]);
    let summary = workspace.json("phase3/phase3_summary.json");
    let text = workspace.text(&format!(
        "phase3/{}",
        summary["functions"][0]["annotated"].as_str().expect("annotated source")
    ));
    let line = text.lines().find(|line| line.contains("CHURN LINE")).expect("the line is shown");
    let bytes = simprof_report::format::bytes((120 * churned()) as f64);
    assert_eq!(line.matches(&bytes).count(), 2, "allocated, all of it temporary: {line}");
    let costs = summary["functions"][0]["lines"].as_array().expect("lines");
    let number = marked_line(C, "CHURN LINE");
    if let Some(cost) = costs.iter().find(|cost| cost["line"] == number) {
        assert_eq!((&cost["alloc_count"], &cost["leaked_bytes"]), (&(120 * 400).into(), &0.into()));
    }
}

#[test]
fn a_python_leak_is_at_its_line_with_native_callees() {
    let workspace = Workspace::new();
    let (python, program) = (python_with_packages(), python_program(PY));
    let spec = format!(
        "[target]\ncommand = [{python:?}, {program:?}, \"80\", \"numpy\"]\nstep = \"__main__:Model.step\"\n"
    );
    workspace.write("simprof.toml", &spec);
    let arguments =
        ["run", "--phase", "3", "--quick", "--rate", "1000", "--memory-interval", "4096"];
    workspace.simprof(&arguments).assert_status(if sampling_allowed() { 0 } else { 1 });
    let memory = memory(&workspace);
    assert_eq!(memory["steps"], 80, "{memory:#}");
    let leak = at(&memory, "leaks", PY, "LEAK LINE");
    // The buffer with its terminating zero, the bytearray object, and its entry in the list.
    assert!(nearly_holds(&leak["rate_interval"], 40_001.0 + 56.0 + 8.0), "{leak:#}");
    assert!(leak["function"].as_str().expect("a name").ends_with("Model.leak"), "{leak:#}");
    assert_eq!(
        leak["text"].as_str().map(str::trim),
        Some("KEPT.append(bytearray(40_000))  # LEAK LINE")
    );
    let churn = at(&memory, "churn", PY, "CHURN LINE");
    // The buffers of 300 bytearrays with their terminating zeros, and small objects.
    let bytes = 80.0 * f64::from((0..300).map(|i| 5001 + i).sum::<i32>());
    assert!((1.0..1.1).contains(&(number(&churn["short"]["bytes"]) / bytes)), "{churn:#}");
    // NumPy's buffers of 8 MB: one is kept, another is freed in the line that made it.
    let field = at(&memory, "lines", PY, "FIELD LINE");
    assert!((number(&field["allocated"]["bytes"]) / 640e6 - 1.0).abs() < 0.02, "{field:#}");
    let sum = at(&memory, "lines", PY, "SUM LINE");
    assert!(
        number(&sum["temporary"]["bytes"]) > 0.95 * number(&sum["allocated"]["bytes"]),
        "{sum:#}"
    );
    let interpreters = memory["interpreters"].as_array().expect("interpreters");
    assert!(
        interpreters
            .iter()
            .any(|name| name.as_str().is_some_and(|name| name.starts_with("CPython 3")))
    );
    assert!(
        callees_of(&workspace, "Model.field").iter().any(|name| name.contains("numpy")
            || name.contains("PyArray")
            || name.contains("array")),
        "{:?}",
        callees_of(&workspace, "Model.field")
    );
}

/// Returns the names of all callees of a function in the stacks of allocations.
fn callees_of(workspace: &Workspace, function: &str) -> Vec<String> {
    let heap: HeapProfile =
        serde_json::from_str(&workspace.text("phase3/memory.json")).expect("a profile");
    let mut names = Vec::new();
    for site in &heap.sites {
        let of_site: Vec<&str> = heap
            .tables
            .frames_from_leaf(site.stack)
            .map(|id| heap.tables.function_name(heap.tables.frame(id).function))
            .collect();
        if let Some(at) = of_site.iter().position(|name| name.ends_with(function)) {
            names.extend(of_site[..at].iter().map(|name| (*name).to_owned()));
        }
    }
    names
}

#[test]
fn memory_without_an_allocator_is_reported_as_unrecorded() {
    let workspace = Workspace::new();
    let done = run(&workspace, &[], &[&c_program("memory"), "pool"]);
    let memory = memory(&workspace);
    let unexplained = "heap_growth_unexplained";
    assert!(shows_notice(&done.stderr, &memory, unexplained), "{done:#?}");
    assert!(number(&memory["explained_share"]) < 0.5, "{memory:#}");
    assert!(shows_notice(&report(&workspace), &memory, unexplained), "{}", report(&workspace));
    let memory = recorded(&workspace, &[], &[&c_program("memory"), "simulate", "200"]);
    assert!(!has_notice(&memory, unexplained), "{memory:#}");
}

#[test]
fn important_memory_findings_are_printed() {
    let workspace = Workspace::new();
    let exact = ["--memory-interval", "1"];
    let leak = format!("memory.c:{}", marked_line(C, "LEAK LINE"));
    run(&workspace, &exact, &[&c_program("memory"), "mark", "120"]).assert_reports(&[&leak]);
    let done = run(&workspace, &exact, &["env", "-i", &c_program("memory"), "pool"]);
    let memory = memory(&workspace);
    assert!(has_notice(&memory, "heap_processes_unrecorded"), "{memory:#}");
    done.assert_reports(&["1 of the target's processes"]);
}

#[test]
fn a_custom_allocator_is_recorded_through_its_shim() {
    let workspace = Workspace::new();
    let shim = rust_program_with("own_allocator", "own_allocator-shim", &["--cfg", "shim"]);
    let memory = recorded(&workspace, &["--memory-interval", "1"], &[&shim]);
    let kept = at(&memory, "lines", "own_allocator.rs", "KEPT LINE");
    assert_eq!(kept["allocated"]["count"], 500, "{kept:#}");
    assert_eq!(kept["live"]["bytes"], 500 * 70_000, "{kept:#}");
    let bare = rust_program_with("own_allocator", "own_allocator-bare", &[]);
    let memory = recorded(&workspace, &["--memory-interval", "1"], &[&bare]);
    let line = find(&memory, "lines", "own_allocator.rs", "KEPT LINE");
    assert!(line.is_none_or(|line| line["allocated"]["count"] != 500), "{line:#?}");
}

#[test]
fn a_killed_target_keeps_its_memory_results() {
    let workspace = Workspace::new();
    let steps = STEPS.to_string();
    let done =
        run(&workspace, &["--memory-interval", "1"], &[&c_program("memory"), "killed", &steps]);
    done.assert_status(1);
    let memory = memory(&workspace);
    assert_eq!(at(&memory, "lines", C, "LEAK LINE")["live"]["bytes"], STEPS * 40_000);
    assert!(find(&memory, "leaks", C, "LEAK LINE").is_some());
    let measurements = workspace.manifest()["phases"][0]["measurements"].clone();
    let of_memory = measurements.as_array().expect("measurements").iter();
    let mut of_memory = of_memory.filter(|measurement| measurement["name"] == "memory");
    let one = of_memory.next().expect("the measurement");
    assert_eq!(one["status"], "failed", "{one:#}");
    assert!(one["reason"].as_str().expect("a reason").contains("SIGKILL"), "{one:#}");
    let line = format!("memory.c:{}", marked_line(C, "LEAK LINE"));
    assert!(report(&workspace).contains(&line), "{}", report(&workspace));
}

#[test]
fn an_incomplete_memory_recording_is_reported() {
    let workspace = Workspace::new();
    let options = ["--memory-interval", "1", "--timeout", "1"];
    run(&workspace, &options, &[&c_program("trouble"), "hang"]).assert_status(1);
    assert!(memory(&workspace)["interval_bytes"] == 1, "the summary has the interval");
    let summary = workspace.json("phase3/phase3_summary.json");
    assert!(has_notice(&summary, "memory_recorded_in_part"), "{summary:#}");
    let text = report(&workspace);
    assert!(shows_notice(&text, &summary, "memory_recorded_in_part"), "{text}");
}

#[test]
fn the_behaviour_of_a_target_is_unchanged() {
    let workspace = Workspace::new();
    let program = c_program("memory");
    for (mode, status) in [("outcomes", 3), ("exhausted", 7)] {
        let plain = Command::new(&program).arg(mode).output().expect("it runs");
        assert_eq!(plain.status.code(), Some(status));
        for interval in ["1", "524288"] {
            run(&workspace, &["--memory-interval", interval], &[&program, mode]).assert_status(1);
            assert_eq!(workspace.text("phase3/memory.out").as_bytes(), plain.stdout, "{mode}");
            assert_eq!(workspace.text("phase3/memory.err").as_bytes(), plain.stderr, "{mode}");
            let measurements = workspace.json("phase3/phase3_summary.json")["measurements"].clone();
            let measurements = measurements.as_array().expect("measurements").clone();
            let memory =
                measurements.iter().find(|one| one["name"] == "memory").expect("it is there");
            let reason = memory["reason"].as_str().expect("a reason");
            let words = format!("measured; the program exited with status {status}");
            assert!(reason.contains(&words), "{memory:#}");
        }
        if mode == "exhausted" {
            // Failed allocations are not counted. Later successful ones are.
            run(&workspace, &["--memory-interval", "1"], &[&program, mode]);
            let memory = memory(&workspace);
            let line = at(&memory, "lines", C, "AFTERWARDS");
            assert_eq!(line["allocated"]["bytes"], 100_000, "{memory:#}");
        }
    }
}

/// Asserts that an impossible request is refused before the run: one line, exit status 2.
fn assert_refused(workspace: &Workspace, options: &[&str], program: &str, words: &[&str]) {
    let mut arguments = vec!["run"];
    arguments.extend(options);
    arguments.extend(["--", program]);
    let done = workspace.simprof(&arguments);
    done.assert_status(2);
    done.assert_reports(words);
    assert_eq!(done.stderr.lines().count(), 1, "{done:#?}");
    assert!(!workspace.path("profiling_results").exists(), "nothing was measured");
}

#[test]
fn targets_that_cannot_be_recorded_are_refused_with_reason_and_fix() {
    let workspace = Workspace::new();
    let options = ["--phase", "3", "--memory"];
    let static_program =
        c_program_with("memory", "memory-static", &["-static"]).expect("a static C library");
    let words = ["--memory: ", static_program.as_str(), "linked statically", "link it dynamically"];
    assert_refused(&workspace, &options, &static_program, &words);
    let options_by_interval = ["--phase", "3", "--memory-interval", "64K"];
    assert_refused(
        &workspace,
        &options_by_interval,
        &static_program,
        &["--memory-interval: ", static_program.as_str()],
    );
    assert_refused(&workspace, &["--plan", "--memory"], &static_program, &words);
    let plan = workspace.simprof(&["run", "--plan", "--", &static_program]);
    plan.assert_status(0);
    plan.assert_reports(&["allocations will not be recorded", "link it dynamically"]);
    assert!(!plan.stdout.contains("allocations"), "{plan:#?}");
    match c_program_with("memory", "memory-checked", &["-fsanitize=address"]) {
        Some(checked) => {
            let words = [checked.as_str(), "sanitizer", "without `-fsanitize`"];
            assert_refused(&workspace, &options, &checked, &words);
        }
        None => eprintln!("no AddressSanitizer here: its refusal is not tested"),
    }
}

#[test]
fn doctor_reports_whether_allocations_can_be_recorded() {
    let workspace = Workspace::new();
    let row = |program: &str| {
        let done = workspace.simprof(&["doctor", "--json", "--", program]);
        done.assert_status(0);
        let rows: Vec<Value> = serde_json::from_str(&done.stdout).expect("JSON");
        rows.into_iter().find(|row| row["name"] == "allocations of the target")
    };
    assert_eq!(row(&c_program("memory")).expect("doctor reports it")["state"], "ok");
    let static_program =
        c_program_with("memory", "memory-static", &["-static"]).expect("a static C library");
    let static_row = row(&static_program).expect("doctor reports it");
    assert_eq!(static_row["state"], "missing");
    for field in ["detail", "fix"] {
        assert_ne!(static_row[field], "", "{static_row:#}");
    }
    assert!(row("./nowhere").is_none(), "another row reports that it does not exist");
}

#[test]
fn a_run_of_all_phases_continues_if_memory_cannot_be_recorded() {
    let workspace = Workspace::new();
    let static_program =
        c_program_with("memory", "memory-static", &["-static"]).expect("a static C library");
    let arguments =
        ["run", "--rate", "5000", "--repeats", "1", "--", &static_program, "simulate", "50"];
    workspace.simprof(&arguments).assert_status(if sampling_allowed() { 0 } else { 1 });
    let summary = workspace.json("phase3/phase3_summary.json");
    assert!(shows_notice(&report(&workspace), &summary, "memory_not_recorded"), "{summary:#}");
    assert!(summary["memory"].is_null(), "{summary:#}");
    let memory = summary["measurements"].as_array().expect("measurements").iter();
    assert_eq!(memory.filter(|one| one["name"] == "memory").count(), 0, "memory was not planned");
}

#[test]
fn a_run_of_all_phases_records_memory_and_plans_it() {
    let workspace = Workspace::new();
    let program = c_program("memory");
    let command = ["--", &program, "simulate", "100"];
    let plan = |flags: &[&str]| {
        let mut arguments = vec!["run", "--plan"];
        arguments.extend(flags);
        arguments.extend(command);
        workspace.simprof(&arguments).stdout
    };
    let words = "record allocations, one byte in 512 KiB";
    assert!(plan(&[]).contains(words), "{}", plan(&[]));
    assert!(!plan(&["--phase", "3"]).contains("allocation"));
    assert!(plan(&["--memory-interval", "1"]).contains("record every allocation"));
    assert!(plan(&["--memory-interval", "64K"]).contains("one byte in 64 KiB"));
    let mut arguments = vec!["run", "--rate", "5000"];
    arguments.extend(command);
    workspace.simprof(&arguments).assert_status(if sampling_allowed() { 0 } else { 1 });
    assert!(find(&memory(&workspace), "leaks", C, "LEAK LINE").is_some());
    let status = workspace.simprof(&["status"]).stdout;
    for words in ["2 of 2", "phase3/memory.svg", "phase3/memory.json"] {
        assert!(status.contains(words), "{words}: {status}");
    }
}

#[test]
fn flags_that_make_no_sense_are_refused() {
    let workspace = Workspace::new();
    for (options, words) in [
        (&["--phase", "1", "--memory"][..], &["--memory", "phase 3", "add `--phase 3`"][..]),
        (&["--phase", "4", "--memory-interval", "1"], &["--memory-interval", "phase 3"]),
    ] {
        assert_refused(&workspace, options, "true", words);
    }
    for interval in ["0", "-1", "lots", "99999999999999", "1X"] {
        let joined = format!("--memory-interval={interval}");
        for flags in [&[joined.as_str()][..], &["--memory-interval", interval]] {
            let done = workspace.simprof(&[&["run"], flags, &["--", "true"]].concat());
            done.assert_status(2);
            done.assert_reports(&["--memory-interval", interval, "a number of bytes", "512K"]);
            assert!(!workspace.path("profiling_results").exists(), "nothing was measured");
        }
    }
}

#[test]
fn a_setuid_target_is_refused() {
    // Only root can give a file to another user. If root runs it, it has the rights of that user.
    if !simprof_testkit::is_root() {
        eprintln!("not root: a setuid program of another user cannot be made");
        return;
    }
    let workspace = Workspace::new();
    workspace.copy_program(c_program("memory"), "other");
    for (what, arguments) in [("chown", ["65534:65534", "other"]), ("chmod", ["4755", "other"])] {
        assert_eq!(workspace.done(workspace.program(what, &arguments)).status, Some(0));
    }
    let words = ["other", "other rights than its user", "run a copy of it"];
    assert_refused(&workspace, &["--phase", "3", "--memory"], "./other", &words);
}
