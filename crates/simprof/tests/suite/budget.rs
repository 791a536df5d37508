//! A budget leaves out the largest sizes and reports them.

use crate::support::{Workspace, has_notice, shows_notice};

/// A program that sleeps. The largest size does not fit into 2 s after the others, however fast the machine is.
const SPEC: &str = "[target]\ncommand = [\"sleep\", \"{n}\"]\n\
                    [parameters]\nn = { default = 0.1, sweep = [1.6, 0.8, 0.4, 0.2, 0.1] }\n";

#[test]
fn a_size_that_does_not_fit_into_the_budget_is_skipped_and_reported() {
    let workspace = Workspace::new();
    workspace.write("simprof.toml", SPEC);
    let done = workspace.simprof(&["run", "--quick", "--phase", "4", "--budget", "2s"]);
    done.assert_status(1);
    let manifest = workspace.manifest();
    assert_eq!((&manifest["status"], &manifest["budget_s"]), (&"partial".into(), &2.0.into()));
    let measurements = manifest["phases"][0]["measurements"].as_array().expect("measurements");
    let find = |name: &str| {
        let found = measurements.iter().find(|measurement| measurement["name"] == name);
        found.unwrap_or_else(|| panic!("{name}: {measurements:#?}"))
    };
    assert_eq!(find("n=0.1")["status"], "ok");
    let largest = find("n=1.6");
    assert_eq!(largest["status"], "skipped");
    assert!(largest["reason"].as_str().is_some_and(|reason| reason.contains("2 s")), "{largest:#}");
    let summary = workspace.json("phase4/phase4_summary.json");
    assert!(has_notice(&summary, "budget_used_up"), "{summary:#}");
    assert!(shows_notice(&workspace.text("phase4/PHASE4_REPORT.md"), &summary, "budget_used_up"));
    done.assert_reports(&["n=1.6", "--budget"]);
}

#[test]
fn only_a_quick_run_has_a_budget_by_default() {
    let workspace = Workspace::new();
    for (flags, budget_s) in [(&["--quick"][..], Some(60.0)), (&[], None)] {
        let arguments = [&["run", "--phase", "4"], flags, &["--", "true"]].concat();
        workspace.simprof(&arguments).assert_status(0);
        assert_eq!(workspace.manifest()["budget_s"].as_f64(), budget_s);
        assert_eq!(workspace.json("phase4/phase4_summary.json")["budget_s"].as_f64(), budget_s);
    }
}
