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
    let done = workspace.simprof(&["run", "--phase", "4", "--quick", "--repeats", "3"]);
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
