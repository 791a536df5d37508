//! Python programs whose answer is known beforehand: shares, lines, native functions beneath lines.

use std::sync::OnceLock;

use serde_json::Value;

use crate::support::{
    Done, FAST, Place, marked_line, python, python_program, python_with_packages, sampled,
};

/// The machine's Python.
fn python_path() -> &'static str {
    static PATH: OnceLock<String> = OnceLock::new();
    PATH.get_or_init(|| python().to_str().expect("text").to_owned())
}

fn simprof(place: &Place, phase: &[&str], command: &[&str]) -> Done {
    let mut arguments = vec!["run"];
    arguments.extend(phase);
    arguments.extend(FAST);
    arguments.push("--");
    arguments.extend(command);
    place.simprof(&arguments)
}

/// The row of a function in a summary.
fn function<'s>(summary: &'s Value, name: &str) -> &'s Value {
    let rows = summary["functions"].as_array().expect("functions");
    rows.iter().find(|row| row["name"] == name).unwrap_or_else(|| panic!("no {name} in {rows:#?}"))
}

fn share(row: &Value, which: &str) -> f64 {
    row[which].as_f64().unwrap_or_else(|| panic!("no {which} in {row:#}"))
}

/// Asserts that `part` of `whole`, both shares of `samples`, are three quarters.
fn assert_three_quarters(part: f64, whole: f64, samples: f64) {
    let count = |share: f64| (share * samples).round() as u64;
    // Wide enough not to fail by chance in a lifetime of runs.
    let interval = simprof_stats::binomial_interval(count(part), count(whole), 0.999);
    let interval = interval.expect("counts");
    assert!(interval.lo <= 0.75 && 0.75 <= interval.hi, "{part} of {whole}: {interval:?}");
    assert!(interval.hi - interval.lo < 0.1, "there are enough samples to tell: {interval:?}");
}

#[test]
fn python_functions_of_three_to_one_are_shown_three_to_one() {
    let place = Place::new();
    let program = python_program("three_to_one.py");
    if !sampled(&simprof(&place, &["--phase", "1"], &[python_path(), &program, "6000"])) {
        return;
    }
    let summary = place.json("phase1/phase1_summary.json");
    let samples = share(&summary["profile"], "samples");
    let [three, one] = ["three_to_one.three", "three_to_one.one"].map(|name| {
        let row = function(&summary, name);
        assert_eq!(row["file"], program, "{row:#}");
        share(row, "total_share")
    });
    assert!(three + one > 0.8, "little else takes time: {three} + {one}");
    assert_three_quarters(three, three + one, samples);
    let account = &summary["profile"]["python"];
    let lost = share(account, "lost") + share(account, "unreadable");
    assert!(lost <= 0.01 * share(account, "samples"), "{account:#}");
}

#[test]
fn the_lines_of_python_functions_are_exact() {
    let place = Place::new();
    let program = python_program("three_to_one.py");
    let command = [python_path(), &program, "6000"];
    let phase = ["--phase", "3", "--function", "three_to_one.three"];
    if !sampled(&simprof(&place, &phase, &command)) {
        return;
    }
    let summary = place.json("phase3/phase3_summary.json");
    let lines = summary["lines"].as_array().expect("lines");
    let of_three = lines.iter().filter(|line| line["function"] == "three_to_one.three");
    // From the line of `def` to that of `return`.
    let hot = marked_line("three_to_one.py", "# THREE");
    for line in of_three {
        let number = line["line"].as_u64().expect("a line");
        assert!((hot - 3..=hot + 1).contains(&number), "{line:#}");
    }
    assert_eq!(lines[0]["line"], hot, "{:#}", lines[0]);
}

#[test]
fn numpy_is_shown_beneath_the_lines_that_call_it() {
    let place = Place::new();
    let program = python_program("numpy_lines.py");
    let command = [&*python_with_packages(), &program, "4000"];
    let phase = ["--phase", "3", "--function", "numpy_lines.work"];
    if !sampled(&simprof(&place, &phase, &command)) {
        return;
    }
    let summary = place.json("phase3/phase3_summary.json");
    let lines = summary["lines"].as_array().expect("lines");
    let of = |mark| {
        let number = marked_line("numpy_lines.py", mark);
        lines.iter().find(|line| line["line"] == number).unwrap_or_else(|| panic!("{lines:#?}"))
    };
    let [most, least] =
        [of("THREE QUARTERS"), of("A QUARTER")].map(|line| share(line, "cpu_share"));
    assert_three_quarters(most, most + least, 2000.0);
}
