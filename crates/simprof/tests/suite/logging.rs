//! The log of what simprof itself does: off by default, enabled by -v, -vv or SIMPROF_LOG.

use crate::support::{Done, Workspace};

const RUN: [&str; 6] = ["run", "--quick", "--phase", "4", "--", "true"];

fn run(verbosity: &[&str], variable: Option<&str>) -> Done {
    let workspace = Workspace::new();
    let mut command = workspace.command(&[verbosity, &RUN].concat());
    command.env_remove("SIMPROF_LOG");
    if let Some(filters) = variable {
        command.env("SIMPROF_LOG", filters);
    }
    let done = workspace.done(command);
    done.assert_status(0);
    done
}

#[test]
fn nothing_is_logged_by_default() {
    for variable in [None, Some("off")] {
        let done = run(&[], variable);
        assert!(!done.stderr.contains("[info") && !done.stderr.contains("[debug"), "{done:#?}");
    }
}

#[test]
fn processes_and_files_are_logged_on_request() {
    for (verbosity, variable) in [(&["-v"][..], None), (&[], Some("info"))] {
        let done = run(verbosity, variable);
        done.assert_reports(&["[info simprof::runner", "starting true"]);
        done.assert_reports(&["[info simprof_record", "started", "/true as process"]);
        done.assert_reports(&["[info simprof_record", "ended after"]);
        done.assert_reports(&["[info simprof", "wrote", "PHASE4_REPORT.md"]);
        assert!(!done.stderr.contains("[debug"), "{done:#?}");
    }
    run(&["-vv"], None).assert_reports(&["[debug simprof"]);
}

#[test]
fn the_variable_selects_a_part_of_simprof() {
    let done = run(&[], Some("simprof_record=info"));
    done.assert_reports(&["[info simprof_record", "started"]);
    assert!(!done.stderr.contains("[info simprof]") && !done.stderr.contains("[info simprof::"));
}
