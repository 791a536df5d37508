//! `simprof run`: reads the spec, runs the phases and writes the reports.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use simprof_model::{
    Mode, Notice, NoticeId, Phase, PhaseRecord, ProblemCause, RUN_SCHEMA, Run, RunProblem,
    RunStatus, Value, write_atomically,
};
use simprof_record::Cancel;
use simprof_record::sample::Recorder;
use simprof_report::analysis::ComponentRules;
use simprof_report::document::cross_reference_report;

use crate::budget::Budget;
use crate::cli::RunArgs;
use crate::commands::into::EarlierRun;
use crate::commands::run_end::{CROSS_REFERENCE, conclude};
use crate::console::{self, message};
use crate::earlier::{Earlier, earlier_times};
use crate::exit::{Completion, UsageError, describe_error};
use crate::folder::{Lock, RunFolder, Scratch, now_ms};
use crate::input;
use crate::logging::command_line;
use crate::phases;
use crate::plan::{self, Plan, Request, allocations};
use crate::progress::Progress;
use crate::runner::{Runner, with_fix};
use crate::session::{Evidence, Session};
use crate::spec::{Config, FILE_NAME, REFERENCE, Spec, Strictness, Target, is_used, written};
use crate::text::{error_chain, file_stem, relative};

/// Runs the phases that the arguments select.
///
/// # Errors
/// Returns an error if the command line or the spec is wrong, or if results cannot be written.
pub fn run(arguments: &RunArgs) -> Result<Completion> {
    let earlier = arguments
        .into
        .as_deref()
        .map(|run| EarlierRun::find(run, &arguments.output_dir))
        .transpose()?;
    let (mut spec, strictness) = match &earlier {
        Some(earlier) if arguments.command.is_empty() && arguments.spec.is_none() => {
            earlier.spec()?
        }
        _ => spec(arguments)?,
    };
    for assignment in &arguments.set {
        spec.set(assignment)?;
    }
    let recorder = recorder(&arguments.recorder)?;
    let mut plan = plan::plan(spec, &request(arguments, earlier.as_ref(), strictness)?)?;
    let rules = rules(&plan.spec)?;
    if arguments.plan {
        return print_plan(&mut plan, recorder, &arguments.output_dir);
    }
    let cancel = cancel_on_signals()?;
    build(&plan)?;
    let mut runner = Runner::new(&plan.target, recorder, cancel.clone())?;
    find_program(&plan, &runner)?;
    let no_allocations = allocations::check(&mut plan, &runner)?;
    configure(&plan, &mut runner)?;
    let times = earlier_times(&arguments.output_dir, &plan);
    let mut manifest = manifest(&plan, &runner, &times)?;
    if let Some(notice) = plan.budget_notice(&times) {
        console::note(&notice.text);
        manifest.notices.push(notice);
    }
    let (mut folder, evidence) = open_folder(arguments, earlier, manifest)?;
    for original in runner.originals() {
        let name = file_stem(&original.name().to_string_lossy());
        folder.keep_configuration(&name, original.text())?;
    }
    message(&format!("simprof: results go to {}", relative(folder.path()).display()));
    let no_input = match pass_input(&plan, &folder, &mut runner, &cancel) {
        Ok(notice) => notice,
        Err(error) => {
            let problem = RunProblem::new(ProblemCause::InputNotKept, describe_error(&error));
            folder.update(|run| {
                (run.status, run.ended_ms) = (RunStatus::Failed, Some(now_ms()));
                run.problems = vec![problem];
            })?;
            return Err(error);
        }
    };
    let mut session = Session {
        plan: &plan,
        folder,
        processes: Box::new(runner),
        progress: Progress::new(),
        rules,
        evidence,
        stopped: None,
        budget: Budget::new(plan.budget),
    };
    if let Some(reason) = no_allocations {
        let text = format!("Memory was not recorded: {reason}.");
        session.notice(Phase::Line, Notice::new(NoticeId::MemoryNotRecorded, text));
    }
    for (phase, notice) in plan.notices() {
        session.notice(phase, notice);
    }
    if let Some(notice) = no_input {
        plan.phases.iter().for_each(|&phase| session.notice(phase, notice.clone()));
    }
    let outcome = all_phases(&mut session);
    conclude(&mut session, outcome)
}

/// Creates the folder of the run, or opens that of the earlier run with what its phases found.
fn open_folder(
    arguments: &RunArgs,
    earlier: Option<EarlierRun>,
    manifest: Run,
) -> Result<(RunFolder, Evidence)> {
    let Some(mut earlier) = earlier else {
        return Ok((RunFolder::create(&arguments.output_dir, manifest)?, Evidence::default()));
    };
    let notices = earlier.check(&manifest)?;
    let lock = Lock::take(earlier.path.parent().unwrap_or(&earlier.path))?;
    earlier.set_aside(&manifest)?;
    let evidence = earlier.evidence()?;
    let mut fresh = manifest;
    for record in &mut fresh.phases {
        record.notices.extend(notices.iter().cloned());
    }
    let path = earlier.path.clone();
    Ok((RunFolder::reopen(path, lock, earlier.joined(fresh))?, evidence))
}

/// Prints the plan. Like a run, it omits allocations if the target does not support them.
fn print_plan(plan: &mut Plan, recorder: Recorder, output: &Path) -> Result<Completion> {
    let runner = Runner::new(&plan.target, recorder, Cancel::new())?;
    if let Some(reason) = allocations::check(plan, &runner)? {
        console::note(&format!("allocations will not be recorded: {reason}"));
    }
    console::print(&plan.describe(&earlier_times(output, plan)))?;
    Ok(Completion::Success)
}

/// Returns the spec to use, and how braces in its command are read: a typed command may contain
/// literal braces.
fn spec(arguments: &RunArgs) -> Result<(Spec, Strictness)> {
    let file = arguments.spec.clone().or_else(|| {
        let default = PathBuf::from(FILE_NAME);
        default.exists().then_some(default)
    });
    let mut spec = match &file {
        Some(path) => Spec::load(path)?,
        None if arguments.command.is_empty() => Spec::parse(REFERENCE, "the reference simulation")?,
        None => Spec::default(),
    };
    if arguments.command.is_empty() {
        return Ok((spec, Strictness::Strict));
    }
    spec.target.command.clone_from(&arguments.command);
    remove_unused_parameters(&mut spec);
    Ok((spec, Strictness::Literal))
}

/// Removes the parameters that a typed command does not use. The spec may have been written for
/// another command.
fn remove_unused_parameters(spec: &mut Spec) {
    remove_unused_configs(&mut spec.target);
    let Target { command, environment, config, .. } = &spec.target;
    let texts = command.iter().chain(environment.values());
    let texts: Vec<&String> = texts.chain(config.iter().flat_map(Config::texts)).collect();
    let used = |name: &str| is_used(name, texts.iter().copied());
    let unused: Vec<String> = spec.parameters.keys().filter(|name| !used(name)).cloned().collect();
    if unused.is_empty() {
        return;
    }
    let names = unused.join(", ");
    console::note(&format!(
        "these parameters of the spec are not used by the command, so they are not swept: {names}"
    ));
    let known = |set: &BTreeMap<String, Value>| set.keys().all(|name| !unused.contains(name));
    spec.phase1.cases.retain(known);
    spec.phase4.timelines.retain(known);
    spec.phase4.sweeps.retain(|sweep| known(&sweep.with) && !unused.contains(&sweep.parameter));
    spec.parameters.retain(|name, _| !unused.contains(name));
    spec.parameters
        .values_mut()
        .for_each(|parameter| parameter.with.retain(|name, _| !unused.contains(name)));
}

/// Removes the configuration files whose path is not passed to a typed command.
fn remove_unused_configs(target: &mut Target) {
    let texts: Vec<&String> = target.command.iter().chain(target.environment.values()).collect();
    let is_used = |config: &Config| config.is_reached(&target.config, &texts);
    let (used, unused): (Vec<_>, Vec<_>) = target.config.iter().cloned().partition(is_used);
    for Config { file, placeholder, .. } in unused {
        console::note(&format!(
            "the command does not contain the placeholder {} of the spec, so {} is not edited",
            written(&placeholder),
            file.display()
        ));
    }
    target.config = used;
}

fn recorder(name: &str) -> Result<Recorder> {
    const KNOWN: [&str; 3] = ["auto", "cycles", "cpu-clock"];
    match name {
        "auto" => Ok(Recorder::Auto),
        "cycles" => Ok(Recorder::Cycles),
        "cpu-clock" => Ok(Recorder::CpuClock),
        _ => Err(UsageError(format!(
            "there is no recorder `{name}`; use one of {}",
            KNOWN.join(", ")
        ))
        .into()),
    }
}

fn request(
    arguments: &RunArgs,
    earlier: Option<&EarlierRun>,
    strictness: Strictness,
) -> Result<Request> {
    let phases = match earlier {
        Some(earlier) if arguments.phases.is_empty() => earlier.missing()?,
        _ => arguments.phases.clone(),
    };
    Ok(Request {
        mode: if arguments.quick { Mode::Quick } else { Mode::Full },
        budget: arguments.budget,
        phases,
        components: arguments.components.clone(),
        functions: arguments.functions.clone(),
        memory: allocations::requested(arguments)?,
        timeout: arguments.timeout.map(Duration::from_secs_f64),
        terminal: arguments.terminal,
        keep_output: arguments.keep_output,
        rate_hz: arguments.rate,
        seed: arguments.seed,
        repeats: arguments.repeats,
        strictness,
    })
}

/// Returns the components of the spec.
pub(super) fn rules(spec: &Spec) -> Result<ComponentRules> {
    ComponentRules::new(
        spec.components.iter().map(|(name, patterns)| (name.clone(), patterns.clone())),
    )
    .map_err(|error| UsageError(format!("[components]: {}", error_chain(&error))).into())
}

/// Returns a flag that SIGINT, SIGTERM and SIGHUP set. A second signal ends simprof at once, and
/// the guardian then ends the target.
fn cancel_on_signals() -> Result<Cancel> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let cancel = Cancel::new();
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGHUP])
        .context("cannot listen for signals")?;
    let flag = cancel.clone();
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        for signal in signals.forever() {
            if flag.is_cancelled() {
                // The second signal has its default action.
                let _ = signal_hook::low_level::emulate_default_handler(signal);
            }
            flag.cancel();
            message("simprof: stopping; finished measurements are kept (press Ctrl-C again to stop at once)");
        }
    })?;
    Ok(cancel)
}

/// Checks that the target's program exists before the folder for results is created. A run of only
/// component benchmarks does not need the program.
fn find_program(plan: &Plan, runner: &Runner) -> Result<()> {
    if plan.phases == [Phase::Component] && !plan.benchmarks.is_empty() {
        return Ok(());
    }
    let result = runner.find(&plan.target.command, &plan.target.defaults);
    result.map_err(|error| UsageError(with_fix(&error)).into())
}

/// Passes the input file of the spec, or standard input, to all processes. Returns a notice if they do not get it.
fn pass_input(
    plan: &Plan,
    folder: &RunFolder,
    runner: &mut Runner,
    cancel: &Cancel,
) -> Result<Option<Notice>> {
    if let Some(file) = &plan.target.input {
        std::fs::File::open(file).map_err(|source| {
            UsageError(format!("target.input: {} cannot be read: {source}", file.display()))
        })?;
        runner.set_input(std::path::absolute(file)?);
        return Ok(None);
    }
    let (input, notice) = match input::kept(folder.path()) {
        Some(copy) => (Some(copy), None),
        None => input::keep(folder.path(), cancel)?,
    };
    if let Some(input) = input {
        runner.set_input(input);
    }
    Ok(notice)
}

/// Reads the configuration files and tries their edits for every point of the plan.
fn configure(plan: &Plan, runner: &mut Runner) -> Result<()> {
    for (command, parameters) in plan.points() {
        runner.read_configuration(command)?;
        runner.try_configuration(command, parameters)?;
    }
    Ok(())
}

/// Runs the build command of the spec and shows its output.
fn build(plan: &Plan) -> Result<()> {
    let Some((program, arguments)) = plan.target.build.split_first() else { return Ok(()) };
    let build = plan.target.build.join(" ");
    message(&format!("simprof: building with {build}"));
    log::info!("starting {}", command_line(&plan.target.build));
    let mut command = std::process::Command::new(program);
    command.args(arguments).stdout(std::io::stderr());
    if let Some(directory) = &plan.target.directory {
        command.current_dir(directory);
    }
    let status = command.status().with_context(|| {
        format!("target.build: cannot run `{program}`; is it installed and on the PATH?")
    })?;
    if !status.success() {
        anyhow::bail!(
            "target.build: `{build}` failed ({status}); fix the build, or remove `build` from the spec"
        );
    }
    Ok(())
}

/// Returns the manifest of a run that has not started. The times of earlier runs are better estimates than the plan's.
fn manifest(plan: &Plan, runner: &Runner, times: &BTreeMap<Phase, Earlier>) -> Result<Run> {
    let record = |&phase: &Phase| {
        let estimate_s = plan.estimate_s(phase).unwrap_or(0.0);
        let waiting = PhaseRecord::waiting(phase, plan.processes(phase), estimate_s);
        match times.get(&phase) {
            Some(time) => PhaseRecord {
                estimate_s: time.seconds,
                estimate_from: Some(time.run.clone()),
                ..waiting
            },
            None => waiting,
        }
    };
    let scratch = Scratch { work: PathBuf::from("{scratch}"), copies: PathBuf::new() };
    Ok(Run {
        schema: RUN_SCHEMA.to_owned(),
        simprof_version: env!("CARGO_PKG_VERSION").to_owned(),
        name: String::new(),
        status: RunStatus::Running,
        pid: std::process::id(),
        pid_start_ticks: crate::commands::status::start_ticks(std::process::id()),
        problems: Vec::new(),
        created_ms: now_ms(),
        updated_ms: now_ms(),
        ended_ms: None,
        arguments: std::env::args_os()
            .skip(1)
            .map(|argument| argument.to_string_lossy().into_owned())
            .collect(),
        joined: Vec::new(),
        target: runner.argv(&plan.target.command, &plan.target.defaults, plan.seed, &scratch),
        target_name: plan.target.name.clone(),
        seed: plan.seed,
        mode: plan.mode,
        budget_s: plan.budget.map(|budget| budget.as_secs_f64()),
        machine: simprof_record::machine(),
        spec: toml::to_string(&plan.spec).context("cannot write the spec as TOML")?,
        phases: plan.phases.iter().map(record).collect(),
        notices: Vec::new(),
    })
}

/// Runs the phases in order, then writes the cross-reference.
fn all_phases(session: &mut Session<'_>) -> Result<()> {
    for notice in session.folder.run().machine.notices.clone() {
        session.progress.note(&notice.text);
    }
    for phase in session.plan.phases.clone() {
        phases::run(session, phase)?;
    }
    let evidence = &session.evidence;
    let text = cross_reference_report(
        &session.folder.run().target_name,
        evidence.macro_.as_ref().map(|(summary, _)| summary),
        evidence.component.as_ref(),
        evidence.line.as_ref(),
        evidence.system.as_ref(),
    );
    write_atomically(&session.path().join(CROSS_REFERENCE), text.as_bytes())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::AllocationPlan;

    #[test]
    fn an_unknown_recorder_lists_the_known_ones() {
        assert_eq!(recorder("cycles").expect("known"), Recorder::Cycles);
        let error = recorder("perf").expect_err("unknown").to_string();
        assert!(error.contains("cpu-clock"), "{error}");
    }

    #[test]
    fn parameters_that_a_typed_command_does_not_use_are_removed() {
        let text = "[parameters]\na = { default = 1, sweep = [1, 2] }\nb = { default = 1, sweep = [1], with = { a = 2 } }\n\
                    [phase1]\ncases = [{ a = 3 }, { b = 3 }]\n";
        let mut spec = Spec::parse(text, "spec").unwrap_or_else(|error| panic!("{error}"));
        spec.target.command = vec!["./prog".into(), "--b={b}".into()];
        remove_unused_parameters(&mut spec);
        assert_eq!(spec.parameters.keys().collect::<Vec<_>>(), ["b"]);
        assert_eq!(spec.phase1.cases.len(), 1);
        assert!(spec.parameters["b"].with.is_empty());
        spec.check().unwrap_or_else(|error| panic!("{error}"));
    }

    #[test]
    fn the_reference_plan_covers_all_phases_in_time() {
        let spec = Spec::parse(REFERENCE, "reference").expect("valid");
        for mode in [Mode::Quick, Mode::Full] {
            let request = Request {
                mode,
                budget: None,
                phases: vec![],
                components: vec![],
                functions: vec![],
                memory: (mode == Mode::Full)
                    .then_some(AllocationPlan { interval_bytes: None, requested_by: None }),
                timeout: None,
                terminal: false,
                keep_output: 64 << 20,
                rate_hz: 1000,
                seed: 1,
                repeats: None,
                strictness: Strictness::Strict,
            };
            let plan = plan::plan(spec.clone(), &request).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(plan.phases.len(), 4);
            let limit = if mode == Mode::Quick { 60.0 } else { 600.0 };
            let total: f64 =
                plan.phases.iter().map(|&phase| plan.estimate_s(phase).expect("known")).sum();
            assert!(total <= limit, "the estimate is {total} s, the limit {limit} s");
            for component in ["spatial", "observation", "database"] {
                assert!(plan.benchmarks.iter().any(|plan| plan.benchmark.component == component));
            }
        }
    }
}
