//! Wrong specs and flags: exit status 2, one error that names the thing and the fix, and nothing is run. Also errors that appear
//! only later, with exit status 1.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use crate::support::{Done, Workspace};

/// Runs with a spec and further arguments. `COMMAND` in the spec is replaced by a valid command.
fn run(spec: &str, arguments: &[&str]) -> Done {
    let workspace = Workspace::new();
    workspace.write("bad.toml", &spec.replace("COMMAND", "command = [\"touch\", \"it-ran\"]"));
    let done = workspace.simprof(&[&["run", "--quick", "--spec", "bad.toml"], arguments].concat());
    assert!(!workspace.path("it-ran").exists(), "nothing was run: {done:#?}");
    assert!(!workspace.path("profiling_results").exists(), "nothing was measured: {done:#?}");
    done
}

/// Asserts that each spec is refused with an error that contains all of the words.
fn assert_refused(cases: &[(&str, &[&str], &[&str])]) {
    for (spec, arguments, words) in cases {
        let done = run(spec, arguments);
        done.assert_status(2);
        for word in *words {
            assert!(done.stderr.contains(word), "{word:?} for {spec}: {done:#?}");
        }
        let count = |word: &str| done.stderr.matches(word).count();
        assert_eq!(count("os error 2)"), count("(os error 2)").min(1), "printed once: {done:#?}");
        assert!(!done.stderr.contains("panicked"), "{done:#?}");
    }
}

#[test]
fn a_spec_that_cannot_be_read_is_refused() {
    let workspace = Workspace::new();
    for path in ["missing.toml", "."] {
        let done = workspace.simprof(&["run", "--spec", path]);
        done.assert_status(2);
        done.assert_reports(&["cannot read the spec", path]);
        assert_eq!(done.stderr.matches("os error").count(), 1, "printed once: {done:#?}");
    }
}

#[test]
fn arguments_that_are_not_utf8_are_refused() {
    let workspace = Workspace::new();
    let not_utf8 = OsStr::from_bytes(b"n\xffm");
    let mut command = workspace.command(&["run", "--quick", "--phase", "1", "--", "true"]);
    command.arg(not_utf8);
    let done = workspace.done(command);
    done.assert_status(2);
    done.assert_reports(&["the argument n\u{fffd}m is not UTF-8", "script"]);
    // The name of a folder need not be UTF-8.
    let mut command = workspace.command(&["run", "--quick", "--phase", "1", "--output-dir"]);
    command.arg(not_utf8).args(["--", "true"]);
    let done = workspace.done(command);
    done.assert_status(0);
    done.assert_reports(&["reports in n\u{fffd}m/", "phase1/PHASE1_REPORT.md"]);
}

#[test]
fn wrong_keys_and_types_are_refused() {
    assert_refused(&[
        (
            "[target]\ncomand = ['x']\n",
            &[],
            &["bad.toml", "line 2", "`comand`", "did you mean `command`"],
        ),
        ("[targt]\n", &[], &["`targt`", "did you mean `target`"]),
        (
            "[target]\nCOMMAND\n[readiness]\nsteps_per_secnd = 1\n",
            &[],
            &["did you mean `steps_per_second`"],
        ),
        ("[target]\ncommand = 'x'\n", &[], &["line 2", "command = 'x'", "expected a sequence"]),
        ("[target]\nCOMMAND\ntimeout_s = 'long'\n", &[], &["line 3", "invalid type"]),
        ("[target]\nCOMMAND\ntimeout_s = -1\n", &[], &["target.timeout_s", "above 0"]),
        ("[target]\nCOMMAND\n[parameters]\nn = 3\n", &[], &["line 4"]),
        ("[target\n", &[], &["line 1"]),
        ("[target]\nCOMMAND\nstep = { output = '(' }\n", &[], &["step pattern", "`(`"]),
        ("[target]\nCOMMAND\n[components]\na = ['[z']\n", &[], &["[components]", "[z"]),
        ("[target]\ncommand = []\n", &[], &["no command to profile", "after `--`"]),
    ]);
}

#[test]
fn wrong_placeholders_and_parameters_are_refused() {
    let swept = "[target]\nCOMMAND\n[parameters]\nn = { default = 1, sweep = [1, 2] }\n";
    let used = "[target]\ncommand = ['touch', '{agnts}']\n[parameters]\nagents = { default = 1 }\n";
    assert_refused(&[
        (used, &[], &["target.command", "`{agnts}`", "did you mean `agents`"]),
        ("[target]\ncommand = ['touch', '{n']\n", &[], &["{n"]),
        (swept, &[], &["`n` is swept", "{n}", "put the placeholder"]),
        (
            "[target]\nCOMMAND\n[parameters]\nseed = { default = 1 }\n",
            &[],
            &["`seed`", "rename the parameter"],
        ),
        (
            "[target]\nCOMMAND\n[phase4]\ntimelines = [{ m = 1 }]\n[parameters]\nn = { default = 1 }\n",
            &[],
            &["no parameter `m`"],
        ),
    ]);
}

#[test]
fn wrong_flags_are_refused() {
    let spec = "[target]\ncommand = ['touch', 'it-ran', '{agents}']\n[parameters]\n\
                agents = { default = 1 }\n[components]\nspatial = ['x']\n";
    assert_refused(&[
        (spec, &["--set", "agent=3"], &["no parameter `agent`", "did you mean `agents`"]),
        (spec, &["--set", "agents"], &["`agents`", "name=value"]),
        (spec, &["--component", "spatail"], &["`spatail`", "did you mean `spatial`"]),
        (spec, &["--recorder", "perf"], &["`perf`", "cpu-clock"]),
        (spec, &["--phase", "5"], &["'5'", "--phase"]),
        (spec, &["--timeout", "-1"], &["'-1'", "--timeout"]),
        (spec, &["--timeout", "soon"], &["'soon'", "--timeout"]),
        (spec, &["--rate", "0"], &["'0'", "--rate"]),
        (spec, &["--repeats", "0"], &["'0'", "--repeats"]),
        (spec, &["--seed", "x"], &["'x'", "--seed"]),
        (spec, &["--quik"], &["--quik", "--quick"]),
    ]);
}

#[test]
fn a_failed_build_is_reported() {
    let workspace = Workspace::new();
    workspace.write("simprof.toml", "[target]\ncommand = ['true']\nbuild = ['false']\n");
    let done = workspace.simprof(&["run", "--quick"]);
    done.assert_status(1);
    done.assert_reports(&["target.build", "`false`", "fix the build"]);
    workspace
        .write("simprof.toml", "[target]\ncommand = ['true']\nbuild = ['simprof-test-nowhere']\n");
    let done = workspace.simprof(&["run", "--quick"]);
    done.assert_status(1);
    done.assert_reports(&["target.build", "`simprof-test-nowhere`", "PATH"]);
    assert!(!workspace.path("profiling_results").exists(), "nothing was measured");
}

#[test]
fn a_requested_function_without_samples_is_reported() {
    use crate::support::{FAST, c_program, sampling_allowed};
    let workspace = Workspace::new();
    let program = c_program("inlined");
    let mut arguments = vec!["run", "--phase", "3", "--function", "no_such_function"];
    arguments.extend(FAST);
    arguments.extend(["--", &program, "40"]);
    let done = workspace.simprof(&arguments);
    // Only the recording shows whether the function exists.
    done.assert_status(1);
    if sampling_allowed() {
        done.assert_reports(&["function no_such_function failed", "has another name"]);
        let count = done.stderr.matches("matches `no_such_function`").count();
        assert_eq!(count, 1, "printed once: {done:#?}");
        assert_eq!(workspace.json("phase3/phase3_summary.json")["status"], "partial");
    }
}
