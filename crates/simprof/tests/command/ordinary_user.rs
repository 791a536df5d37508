//! As an ordinary user, without any privilege.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::support::{FAST, Place, c_program, is_root, sampled, with_mark};

/// A user that owns nothing.
const NOBODY: &str = "65534";

/// simprof as an ordinary user: as nobody where the tests run as root.
fn command(place: &Place, arguments: &[&str]) -> Command {
    if !is_root() {
        return place.command(arguments);
    }
    let simprof = place.path("simprof");
    if !simprof.exists() {
        // The folder that it was built in may be closed to others.
        place.copy_program(env!("CARGO_BIN_EXE_simprof"), "simprof");
        std::fs::set_permissions(place.path(""), PermissionsExt::from_mode(0o777)).expect("chmod");
    }
    let simprof = simprof.to_str().expect("temporary paths are text");
    let mut all = vec!["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups", simprof];
    all.extend(arguments);
    place.program("setpriv", &all)
}

fn own(place: &Place, name: &str) -> String {
    place.copy_program(&c_program(name), name);
    format!("./{name}")
}

#[test]
fn all_four_phases_work_and_say_that_the_kernel_is_out_of_sight() {
    let place = Place::new();
    let program = own(&place, "inlined");
    let mut arguments = vec!["run"];
    arguments.extend(FAST);
    arguments.extend(["--", &program, "40"]);
    let done = place.done(command(&place, &arguments));
    if !sampled(&done) {
        return;
    }
    let summary = place.json("phase1/phase1_summary.json");
    let profile = &summary["profile"];
    let event = profile["event"].as_str().expect("an event");
    let kernel = profile["kernel"].as_bool().expect("a flag");
    assert_eq!(event.ends_with(":u"), !kernel, "{profile:#}");
    let paranoid =
        std::fs::read_to_string("/proc/sys/kernel/perf_event_paranoid").expect("a level");
    if paranoid.trim().parse::<i32>().expect("a number") >= 2 {
        assert!(!kernel, "{profile:#}");
        assert!(profile["fallbacks"].to_string().contains("perf_event_paranoid"), "{profile:#}");
        let report = place.text("phase1/PHASE1_REPORT.md");
        assert!(report.contains(event), "the report says what was sampled");
    }
    let lines = place.json("phase3/phase3_summary.json");
    assert_eq!(lines["lines"][0]["function"], "smooth", "{lines:#}");
    let doctor = place.done(command(&place, &["doctor"]));
    doctor.assert_status(0);
    assert!(doctor.stdout.contains("perf_event_paranoid"), "{doctor:#?}");
}

#[test]
fn nothing_of_a_stubborn_target_is_left() {
    let place = Place::new();
    let program = own(&place, "trouble");
    let arguments =
        ["run", "--quick", "--phase", "4", "--timeout", "1", "--", &program, "stubborn"];
    let done = place.done(command(&place, &arguments));
    done.assert_status(1);
    done.assert_says(&["timed out", "did not end within 1 s"]);
    place.assert_nothing_left();
    assert!(with_mark(&place.mark).is_empty());
}

#[test]
fn a_folder_of_another_user_is_refused() {
    if !is_root() {
        eprintln!("only root can make a folder of another user");
        return;
    }
    let place = Place::new();
    std::fs::create_dir(place.path("closed")).expect("a folder");
    let arguments = ["run", "--quick", "--output-dir", "closed", "--", "true"];
    let done = place.done(command(&place, &arguments));
    done.assert_status(2);
    done.assert_says(&["cannot write results to", "closed", "Permission denied", "--output-dir"]);
    assert_eq!(done.stderr.lines().count(), 1, "{done:#?}");
}
