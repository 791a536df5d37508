//! Programs whose results are known: shares, lines, wrappers, threads, depth of stacks and names.

use serde_json::{Value, json};
use simprof_model::Profile;

use crate::support::{
    Done, FAST, Workspace, assert_share, c_program, c_program_with, marked_line, record_stacks,
    rust_program, sampled, stripped, truth, truth_file,
};

/// Records a program in phase 3 and requests one function.
fn request_function(workspace: &Workspace, function: &str, command: &[&str]) -> Done {
    let mut arguments = vec!["run", "--phase", "3", "--function", function];
    arguments.extend(FAST);
    arguments.push("--");
    arguments.extend(command);
    workspace.simprof(&arguments)
}

fn profile(workspace: &Workspace) -> Profile {
    serde_json::from_str(&workspace.text("phase1/profile.json")).expect("a profile")
}

/// Returns the row of a function in the summary of phase 1.
fn function<'s>(summary: &'s Value, name: &str) -> &'s Value {
    let rows = summary["functions"].as_array().expect("functions");
    rows.iter().find(|row| row["name"] == name).unwrap_or_else(|| panic!("no {name} in {rows:#?}"))
}

#[test]
fn work_of_three_to_one_is_shown_three_to_one() {
    let workspace = Workspace::new();
    if !sampled(&record_stacks(
        &workspace,
        &[&c_program("three_to_one"), "100", &truth_file(&workspace)],
    )) {
        return;
    }
    let summary = workspace.json("phase1/phase1_summary.json");
    let [in_three, in_one] = truth(&workspace, &summary);
    let samples = summary["profile"]["samples"].as_f64().expect("samples");
    let of = |name| function(&summary, name)["total_share"].as_f64().expect("a share");
    let (three, one) = (of("three"), of("one"));
    assert!(three + one > 0.95, "nothing else takes time: {three} + {one}");
    assert_share(in_three / (in_three + in_one), three, three + one, samples);
}

#[test]
fn a_hot_inlined_function_is_named_at_its_line() {
    let workspace = Workspace::new();
    if !sampled(&request_function(&workspace, "smooth", &[&c_program("inlined"), "40"])) {
        return;
    }
    let summary = workspace.json("phase3/phase3_summary.json");
    let hottest = &summary["lines"][0];
    assert_eq!(hottest["function"], "smooth", "{hottest:#}");
    let first = marked_line("inlined.c", "HOT LOOP");
    assert_eq!(hottest["line"], first, "{hottest:#}");
    assert_eq!(hottest["loop"]["first_line"], first, "{hottest:#}");
    assert_eq!(hottest["loop"]["last_line"], marked_line("inlined.c", "HOT LINE"), "{hottest:#}");
    assert!(hottest["file"].as_str().expect("a file").ends_with("/inlined.c"), "{hottest:#}");
    assert!(hottest["cpu_share"].as_f64().expect("a share") > 0.7, "{hottest:#}");
    assert!(hottest["text"].as_str().expect("source text").contains("MIX4(MIX4("), "{hottest:#}");
    let annotated = summary["functions"][0]["annotated"].as_str().expect("annotated source");
    assert!(workspace.text(&format!("phase3/{annotated}")).contains("HOT LINE"));
}

#[test]
fn two_loops_of_a_function_are_two_rows() {
    for (executable, options) in [
        ("loops-O0", &["-O0"][..]),
        ("loops-O2", &["-O2"]),
        ("loops-unrolled", &["-O2", "-funroll-loops"]),
    ] {
        let Some(program) = c_program_with("loops", executable, options) else { continue };
        let workspace = Workspace::new();
        let mut arguments = vec!["run", "--phase", "3"];
        arguments.extend(FAST);
        // A loop without optimisation takes longer.
        arguments.extend(["--", &program, if options.contains(&"-O0") { "60" } else { "150" }]);
        if !sampled(&workspace.simprof(&arguments)) {
            return;
        }
        let summary = workspace.json("phase3/phase3_summary.json");
        let row = |lines: &Value, mark: &str| {
            let first = marked_line("loops.c", mark);
            let rows = lines.as_array().expect("lines").iter();
            let mut rows = rows.filter(|row| row["loop"]["first_line"] == first);
            let row = rows.next().unwrap_or_else(|| panic!("{executable}: {mark} in {lines:#}"));
            assert_eq!(row["loop"]["last_line"], first + 1, "{executable}: {row:#}");
            assert!(rows.next().is_none(), "{executable}: {lines:#}");
            row["cpu_share"].as_f64().expect("a share")
        };
        let samples = summary["profile"]["samples"].as_f64().expect("samples");
        for lines in [&summary["lines"], &summary["functions"][0]["lines"]] {
            let (one, three) = (row(lines, "FIRST LOOP"), row(lines, "SECOND LOOP"));
            assert!(one + three > 0.95, "{executable}: nothing else takes time: {lines:#}");
            assert_share(0.75, three, one + three, samples);
        }
        let report = workspace.text("phase3/PHASE3_REPORT.md");
        let first = marked_line("loops.c", "SECOND LOOP");
        assert!(report.contains(&format!("loops.c:{first}-{}, loop", first + 1)), "{report}");
    }
}

#[test]
fn a_requested_wrapper_leads_to_the_function_that_works() {
    let workspace = Workspace::new();
    if !sampled(&request_function(&workspace, "update_world", &[&c_program("inlined"), "40"])) {
        return;
    }
    let found = &workspace.json("phase3/phase3_summary.json")["functions"][0];
    assert_eq!(found["asked"], "update_world", "{found:#}");
    assert_eq!(found["followed"][0], "update_world", "{found:#}");
    assert_eq!(found["name"], "smooth", "{found:#}");
    assert!(workspace.text("phase3/PHASE3_REPORT.md").contains("followed to smooth"));
}

#[test]
fn sixty_four_threads_and_ten_children_are_all_seen() {
    let workspace = Workspace::new();
    if !sampled(&record_stacks(&workspace, &[&c_program("crowd")])) {
        return;
    }
    let profile = profile(&workspace);
    let used = |name: &str| {
        let is = |index: usize| profile.threads[index].name == name;
        profile.samples.iter().any(|sample| is(sample.thread.index()))
    };
    let threads = (0..64).map(|index| format!("thread-{index}"));
    let children = (0..10).map(|index| format!("child-{index}"));
    let unseen: Vec<String> = threads.chain(children).filter(|name| !used(name)).collect();
    assert!(unseen.is_empty(), "no sample of {unseen:?} in {:?}", profile.threads);
    let main = |name: &str| name == "crowd";
    let pids = |wanted: &dyn Fn(&str) -> bool| {
        let threads = profile.threads.iter().filter(|thread| wanted(&thread.name));
        threads.map(|thread| thread.pid).collect::<std::collections::BTreeSet<_>>()
    };
    let children = pids(&|name| name.starts_with("child-"));
    assert!(children.is_disjoint(&pids(&main)), "children are other processes");
    assert!(children.is_disjoint(&pids(&|name| name.starts_with("thread-"))));
}

#[test]
fn a_recursion_of_two_hundred_levels_is_unwound_completely() {
    let workspace = Workspace::new();
    if !sampled(&record_stacks(&workspace, &[&c_program("recursion"), "150000000"])) {
        return;
    }
    let profile = profile(&workspace);
    let (mut at_bottom, mut outside_main) = (0, 0);
    for sample in &profile.samples {
        let names: Vec<&str> = profile
            .frames_from_leaf(sample.stack)
            .map(|frame| profile.function_name(profile.frame(frame).function))
            .collect();
        if names.contains(&"bottom") {
            at_bottom += 1;
            assert_eq!(names.iter().filter(|name| **name == "descend").count(), 201, "{names:?}");
            assert_eq!(names.iter().filter(|name| **name == "main").count(), 1, "{names:?}");
        }
        outside_main += u64::from(!names.contains(&"main"));
    }
    assert!(at_bottom > 1000, "{at_bottom} of {} samples", profile.samples.len());
    // Some samples outside of `main` are truncated: the loader uses stack pages that are not mapped yet, which the kernel cannot copy,
    // and the start-up code of the C runtime has no unwind tables.
    assert!(
        profile.provenance.truncated <= outside_main,
        "{outside_main}: {:?}",
        profile.provenance
    );
    let descend = function(&workspace.json("phase1/phase1_summary.json"), "descend").clone();
    let total = descend["total_share"].as_f64().expect("a share");
    assert!(total > 0.9 && total <= 1.0, "a recursive function counts once: {descend:#}");
}

#[test]
fn functions_of_a_stripped_binary_are_module_and_offset() {
    let workspace = Workspace::new();
    if !sampled(&record_stacks(&workspace, &[&stripped("three_to_one"), "100"])) {
        return;
    }
    let summary = workspace.json("phase1/phase1_summary.json");
    let rows = summary["functions"].as_array().expect("functions");
    let own: Vec<&Value> = rows
        .iter()
        .filter(|row| row["module"].as_str().is_some_and(|module| module.contains("stripped")))
        .collect();
    let names = own.iter().map(|row| row["name"].as_str().expect("a name"));
    for name in names.clone() {
        let offset = name.strip_prefix("three_to_one-stripped+0x").expect(name);
        u64::from_str_radix(offset, 16).expect("an offset in hexadecimal");
    }
    assert!(names.count() >= 2, "both functions are distinguished: {rows:#?}");
    let hottest = own.iter().map(|row| row["self_share"].as_f64().expect("a share"));
    assert!(hottest.sum::<f64>() > 0.9, "{own:#?}");
}

#[test]
fn the_modules_without_lines_are_named_before_the_few_known_lines() {
    let workspace = Workspace::new();
    let mut arguments = vec!["run", "--phase", "3"];
    arguments.extend(FAST);
    let program = stripped("three_to_one");
    arguments.extend(["--", &program, "100"]);
    if !sampled(&workspace.simprof(&arguments)) {
        return;
    }
    let summary = workspace.json("phase3/phase3_summary.json");
    let first = &summary["functions"][0];
    assert_eq!(first["module"], *program, "{first:#}");
    assert_eq!((&first["is_kernel"], &first["lines"]), (&Value::from(false), &json!([])));
    let fix = summary["statements"][0].as_str().expect("a statement");
    assert!(fix.contains("`-g`"), "{summary:#}");
    assert!(workspace.text("phase3/PHASE3_REPORT.md").contains("three_to_one-stripped` has no"));
}

#[test]
fn a_rust_program_has_qualified_names_and_lines() {
    let workspace = Workspace::new();
    if !sampled(&request_function(
        &workspace,
        "world::grid::mix",
        &[&rust_program("world"), "300000"],
    )) {
        return;
    }
    let summary = workspace.json("phase3/phase3_summary.json");
    let hottest = &summary["lines"][0];
    let name = hottest["function"].as_str().expect("a function");
    assert!(name.ends_with("world::grid::mix"), "{hottest:#}");
    assert_eq!(hottest["line"], marked_line("world.rs", "HOT LINE"), "{hottest:#}");
    let workspace = Workspace::new();
    record_stacks(&workspace, &[&rust_program("world"), "300000"]).assert_status(0);
    let summary = workspace.json("phase1/phase1_summary.json");
    let is_diffuse = |row: &&Value| {
        let name = row["name"].as_str().expect("a name");
        name.contains("world::grid::Grid<") && name.ends_with("::diffuse")
    };
    let rows = summary["functions"].as_array().expect("functions");
    let diffuse = rows.iter().find(is_diffuse).unwrap_or_else(|| panic!("{rows:#?}"));
    assert!(diffuse["file"].as_str().expect("a file").ends_with("world.rs"), "{diffuse:#}");
    assert!(diffuse["total_share"].as_f64().expect("a share") > 0.9, "{diffuse:#}");
    let own = diffuse["self_share"].as_f64().expect("a share");
    assert!(own < 0.05, "its work is in the function inlined into it: {diffuse:#}");
}
