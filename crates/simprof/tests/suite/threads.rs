//! What threads do: ready to run, in the kernel, waiting, spinning, idle.

use serde_json::Value;

use crate::support::{
    Workspace, c_program, c_program_with, marked_line, python_program, record_stacks, sampled,
};

/// Records a program in phase 1. Returns the summary, or `None` where sampling is not permitted.
fn summary(command: &[&str]) -> Option<Value> {
    let workspace = Workspace::new();
    sampled(&record_stacks(&workspace, command))
        .then(|| workspace.json("phase1/phase1_summary.json"))
}

/// Returns whether a mean over runs is about `threads`. A thread of one run can miss the criterion by which it is counted.
fn about(value: &Value, threads: f64) -> bool {
    (number(value, "threads") - threads).abs() < 0.5
}

fn number(value: &Value, field: &str) -> f64 {
    value[field].as_f64().unwrap_or_else(|| panic!("no {field} in {value:#}"))
}

/// Returns the row of a table with this value of a field and this line.
fn row<'s>(table: &'s Value, (field, text): (&str, &str), line: u64) -> &'s Value {
    let rows = table.as_array().expect("a table");
    let found = rows.iter().find(|row| row[field] == text && row["line"] == line);
    found.unwrap_or_else(|| panic!("no {text} at line {line} in {table:#}"))
}

#[test]
fn processes_that_share_a_cpu_are_ready_to_run_and_do_not_wait() {
    let Some(summary) = summary(&[&c_program("threads"), "one-cpu"]) else { return };
    let time = &summary["thread_time"];
    // Each of three has the CPU for a third of its time, or for less if other programs use it too.
    assert!(number(time, "runnable_share") > 0.4, "{time:#}");
    assert!(number(time, "waiting_share") < 0.2, "{time:#}");
    assert!(number(time, "native_share") > 5.0 * number(time, "kernel_share"), "{time:#}");
}

#[test]
fn the_kernels_work_is_a_part_of_its_own() {
    let Some(summary) = summary(&[&c_program("threads"), "kernel"]) else { return };
    let time = &summary["thread_time"];
    assert!(number(time, "kernel_share") > 5.0 * number(time, "native_share"), "{time:#}");
    assert!(number(time, "waiting_share") < 0.2, "{time:#}");
}

#[test]
fn waits_of_native_threads_have_cause_line_and_call() {
    let workspace = Workspace::new();
    let file = workspace.text_path("saved");
    let Some(summary) = summary(&[&c_program("threads"), "queue", &file]) else { return };
    if summary["profile"]["kernel"] != true {
        return;
    }
    let of = |cause, mark| row(&summary["waits"], ("cause", cause), marked_line("threads.c", mark));
    let (lock, sleep, sync) = (of("lock", "QUEUES"), of("sleep", "SLEEPS"), of("io", "SYNCS"));
    assert_eq!((&lock["function"], &sync["function"]), (&"critical".into(), &"save".into()));
    assert!(lock["call"].as_str().expect("a call").contains("mutex_lock"), "{lock:#}");
    assert!(sleep["call"].as_str().expect("a call").contains("usleep"), "{sleep:#}");
    assert!(sync["call"].as_str().expect("a call").contains("fdatasync"), "{sync:#}");
    assert!(about(lock, 3.0) && about(sleep, 3.0), "{lock:#} {sleep:#}");
    // While one sleeps and holds the lock, the others wait for it: in all, as long as the sleeps if each thread takes all
    // its turns at once, and twice as long if the threads alternate.
    assert!(number(lock, "wait_s") > 0.6 * number(sleep, "wait_s"), "{lock:#} {sleep:#}");
    let groups = summary["threads"].as_array().expect("groups");
    let queue = groups.iter().find(|group| group["function"] == "queues").expect("a group");
    assert!(about(queue, 3.0) && queue["idle"] == false, "{queue:#}");
}

#[test]
fn a_spin_lock_is_no_work_and_is_charged_to_the_line_that_takes_it() {
    let Some(summary) = summary(&[&c_program("threads"), "spin-lock"]) else { return };
    let spinning = row(&summary["spinning"], ("kind", "lock"), marked_line("threads.c", "SPINS"));
    assert_eq!(spinning["function"], "needs");
    let share = number(spinning, "cpu_share");
    assert!(share > 0.02, "{spinning:#}");
    let bottlenecks = summary["bottlenecks"].as_array().expect("bottlenecks");
    assert_eq!(bottlenecks[0]["name"], "compute", "{bottlenecks:#?}");
    let charged: f64 = bottlenecks.iter().map(|row| number(row, "share")).sum();
    assert!(charged + share < 1.001, "{charged} + {share}");
}

#[test]
fn a_thread_at_a_barrier_of_openmp_is_charged_to_the_parallel_region() {
    let Some(program) = c_program_with("openmp", "openmp", &["-fopenmp"]) else { return };
    let workspace = Workspace::new();
    let mut command =
        workspace.command(&["run", "--phase", "1", "--quick", "--rate", "5000", "--", &program]);
    command.env("OMP_NUM_THREADS", "2").env("OMP_WAIT_POLICY", "active");
    if !sampled(&workspace.done(command)) {
        return;
    }
    let summary = workspace.json("phase1/phase1_summary.json");
    let lines = summary["spinning"].as_array().expect("lines");
    // Compilers give the call of the runtime library the line of the pragma or that of the function.
    let spinning = lines.iter().find(|line| line["function"] == "region").expect("the region");
    assert_eq!(spinning["kind"], "barrier", "{spinning:#}");
    let after = marked_line("openmp.c", "REGION") - spinning["line"].as_u64().expect("a line");
    assert!(after <= 1, "{spinning:#}");
    assert!(number(spinning, "cpu_share") > 0.1, "{spinning:#}");
    let bottlenecks = summary["bottlenecks"].as_array().expect("bottlenecks");
    assert_eq!(bottlenecks[0]["name"], "compute", "{bottlenecks:#?}");
    assert!(bottlenecks.iter().all(|row| !row["name"].as_str().expect("a name").starts_with('[')));
}

#[test]
fn idle_threads_are_set_apart_and_do_not_make_the_tracer_look_wrong() {
    let workspace = Workspace::new();
    let program = python_program("background.py");
    let python = simprof_testkit::python().text();
    let done = workspace.simprof(&["run", "--phase", "1", "--", python, &program]);
    if !sampled(&done) {
        return;
    }
    let summary = workspace.json("phase1/phase1_summary.json");
    let idle = &summary["idle_threads"];
    assert!(about(idle, 3.0), "{idle:#}");
    assert_eq!(idle["time"]["causes"][0]["cause"], "sleep", "{idle:#}");
    let waits = summary["waits"].as_array().expect("waits");
    assert!(waits.iter().all(|wait| wait["function"] != "background.wait"), "{waits:#?}");
    let functions = summary["calls"]["functions"].as_array().expect("calls were counted");
    let work = functions.iter().find(|row| row["function"] == "background.work").expect("work");
    assert_eq!(work["distorted"], false, "{work:#}");
}
