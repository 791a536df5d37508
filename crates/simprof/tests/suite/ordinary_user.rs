//! Runs of an ordinary user without privileges.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use simprof_testkit::is_root;

use crate::support::{FAST, Workspace, c_program, sampled};

/// The id of the user `nobody`.
const NOBODY: &str = "65534";

/// Returns a command that runs simprof as an ordinary user: as `nobody` if the tests run as root.
fn command(workspace: &Workspace, arguments: &[&str]) -> Command {
    if !is_root() {
        return workspace.command(arguments);
    }
    let simprof = workspace.text_path("simprof");
    if !workspace.path("simprof").exists() {
        // Other users may not be able to read the folder in which it was built.
        workspace.copy_program(env!("CARGO_BIN_EXE_simprof"), "simprof");
        std::fs::set_permissions(workspace.path(""), PermissionsExt::from_mode(0o777))
            .expect("chmod");
    }
    let mut all = vec!["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups", &simprof];
    all.extend(arguments);
    workspace.program("setpriv", &all)
}

/// Copies a C program into the workspace, where every user can execute it. Returns its path.
fn own(workspace: &Workspace, name: &str) -> String {
    workspace.copy_program(c_program(name), name);
    format!("./{name}")
}

#[test]
fn all_four_phases_work_and_report_that_the_kernel_is_not_sampled() {
    let workspace = Workspace::new();
    let program = own(&workspace, "inlined");
    let mut arguments = vec!["run"];
    arguments.extend(FAST);
    arguments.extend(["--", &program, "40"]);
    let done = workspace.done(command(&workspace, &arguments));
    if !sampled(&done) {
        return;
    }
    let summary = workspace.json("phase1/phase1_summary.json");
    let profile = &summary["profile"];
    let event = profile["event"].as_str().expect("an event");
    let kernel = profile["kernel"].as_bool().expect("a flag");
    assert_eq!(event.ends_with(":u"), !kernel, "{profile:#}");
    let paranoid =
        std::fs::read_to_string("/proc/sys/kernel/perf_event_paranoid").expect("a level");
    if paranoid.trim().parse::<i32>().expect("a number") >= 2 {
        assert!(!kernel, "{profile:#}");
        assert!(profile["fallbacks"].to_string().contains("perf_event_paranoid"), "{profile:#}");
        let report = workspace.text("phase1/PHASE1_REPORT.md");
        assert!(report.contains(event), "the report names the sampled event");
    }
    let lines = workspace.json("phase3/phase3_summary.json");
    assert_eq!(lines["lines"][0]["function"], "smooth", "{lines:#}");
    let doctor = workspace.done(command(&workspace, &["doctor"]));
    doctor.assert_status(0);
    assert!(doctor.stdout.contains("perf_event_paranoid"), "{doctor:#?}");
}

#[test]
fn a_target_that_ignores_signals_leaves_no_process() {
    let workspace = Workspace::new();
    let program = own(&workspace, "trouble");
    let arguments =
        ["run", "--quick", "--phase", "4", "--timeout", "1", "--", &program, "stubborn"];
    let done = workspace.done(command(&workspace, &arguments));
    done.assert_status(1);
    done.assert_reports(&["timed out", "did not end within 1 s"]);
    workspace.assert_nothing_left();
}

#[test]
fn a_folder_of_another_user_is_refused() {
    if !is_root() {
        eprintln!("only root can make a folder of another user");
        return;
    }
    let workspace = Workspace::new();
    std::fs::create_dir(workspace.path("closed")).expect("a folder");
    let arguments = ["run", "--quick", "--output-dir", "closed", "--", "true"];
    let done = workspace.done(command(&workspace, &arguments));
    done.assert_status(2);
    done.assert_reports(&[
        "cannot write results to",
        "closed",
        "Permission denied",
        "--output-dir",
    ]);
    assert_eq!(done.stderr.lines().count(), 1, "{done:#?}");
}
