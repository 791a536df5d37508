//! Phase 4 finds the scaling law of a program whose law is known.

use crate::support::{Workspace, c_program, has_notice};

const SIZES: &str = "[100, 200, 400, 800, 1600]";

#[test]
fn a_quadratic_law_is_found() {
    let workspace = Workspace::new();
    let program = c_program("quadratic");
    workspace.write(
        "simprof.toml",
        &format!(
            "[target]\ncommand = [{program:?}, \"{{agents}}\"]\n\
             [parameters]\nagents = {{ default = 100, sweep = {SIZES} }}\n"
        ),
    );
    let done =
        workspace.simprof(&["run", "--phase", "4", "--quick", "--budget", "1h", "--repeats", "3"]);
    done.assert_status(0);
    let summary = workspace.json("phase4/phase4_summary.json");
    let laws = summary["laws"].as_array().expect("laws");
    let law = laws
        .iter()
        .find(|law| law["metric"] == "cpu_ms" && law["parameter"] == "agents")
        .unwrap_or_else(|| panic!("{laws:#?}"));
    let bound = |index: usize| law["exponent_interval"][index].as_f64().expect("a bound");
    let (middle, half) = ((bound(0) + bound(1)) / 2.0, (bound(1) - bound(0)) / 2.0);
    // One 95 % interval in twenty misses the truth. At twice the width very few do.
    assert!((middle - 2.0).abs() <= 2.0 * half.max(0.05), "{law:#}");
    assert!(half < 0.5, "quadratic, not linear: {law:#}");
    assert_eq!(law["n"], 15, "five sizes, three processes each: {law:#}");
    let predictions = summary["predictions"].as_array().expect("predictions");
    match predictions.first() {
        Some(checked) => {
            assert_eq!(checked["value"], 3200.0, "{checked:#}");
            assert!(checked["measured"].is_number(), "a prediction is checked: {checked:#}");
        }
        // If the machine is too noisy for a prediction, a notice reports it.
        None => assert!(has_notice(&summary, "prediction_refused"), "{summary:#}"),
    }
    assert!(workspace.text("phase4/scaling-agents.svg").contains("<svg"));
    let csv = workspace.text("phase4/scaling-agents.csv");
    let walls = csv.lines().filter(|line| line.contains(",wall_ms,")).count();
    assert_eq!(walls, 15, "every sample is kept");
}

#[test]
fn laws_without_arms_are_results_and_a_later_plan_knows_the_time() {
    let workspace = Workspace::new();
    workspace.write(
        "law.sh",
        "echo \"{\\\"simprof\\\": 1, \\\"metrics\\\": {\\\"t_ns\\\": [$(($1 * $2 + $3))]}}\"\n",
    );
    let benchmark = |name: &str, factor: u32, constant: u32| {
        format!(
            "[[benchmark]]\ncomponent = \"{name}\"\noperation = \"{name}\"\n\
             command = [\"sh\", \"law.sh\", \"{factor}\", \"{{n}}\", \"{constant}\"]\n\
             baseline = {{ n = 8 }}\nsweep = {{ n = [0, 1, 2, 4, 8, 16] }}\nmetric = \"t_ns\"\n"
        )
    };
    let spec = format!(
        "[target]\ncommand = [\"true\"]\n{}{}",
        benchmark("line", 29, 7),
        benchmark("zero", 0, 0)
    );
    workspace.write("simprof.toml", &spec);
    let arguments = ["run", "--phase", "2", "--quick", "--repeats", "1"];
    workspace.simprof(&arguments).assert_status(0);
    let summary = workspace.json("phase2/phase2_summary.json");
    let law = |name: &str| {
        let laws = summary["laws"].as_array().expect("laws").iter();
        laws.clone().find(|law| law["component"] == name).unwrap_or_else(|| panic!("{summary:#}"))
    };
    let bounds = &law("line")["exponent_interval"];
    let bound = |index: usize| bounds[index].as_f64().expect("a bound");
    assert!(bound(0) <= 1.0 && 1.0 <= bound(1) && bound(1) - bound(0) < 0.2, "{bounds}");
    assert_eq!(law("line")["skipped_sizes"], serde_json::json!([0.0]));
    assert_eq!(law("zero")["exponent"], 0.0);
    assert!(has_notice(&summary, "sizes_skipped"), "{summary:#}");
    assert_eq!(summary["statements"].as_array().map(Vec::len), Some(2), "{summary:#}");
    let run = workspace.json("run.json")["name"].as_str().expect("a name").to_owned();
    let planned = workspace.simprof(&[&arguments[..], &["--plan"]].concat());
    assert!(planned.stdout.contains(&run), "{planned:#?}");
}
