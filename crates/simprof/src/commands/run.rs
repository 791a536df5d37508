//! `simprof run`: the four phases, from the spec to the reports.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use simprof_model::{
    Mode, Notice, NoticeId, Phase, PhaseRecord, RUN_SCHEMA, Run, RunStatus, Status, Value,
    write_atomically,
};
use simprof_record::Cancel;
use simprof_record::sample::Recorder;
use simprof_report::analysis::ComponentRules;
use simprof_report::document::cross_reference_report;

use crate::cli::RunArgs;
use crate::console::{self, say};
use crate::exit::{Ended, Wrong, describe};
use crate::failures;
use crate::folder::{RunFolder, Scratch, now_ms};
use crate::memory;
use crate::phases;
use crate::plan::{self, Plan, Request};
use crate::progress::Progress;
use crate::runner::{Runner, with_mend};
use crate::session::{Evidence, Session};
use crate::spec::{Config, FILE_NAME, REFERENCE, Spec, Strictness, Target};

/// File that joins the phases.
const CROSS_REFERENCE: &str = "CROSS_REFERENCE.md";

/// Runs what the arguments ask for.
///
/// # Errors
/// Where the command or the spec is wrong, or results cannot be written.
pub fn run(arguments: &RunArgs) -> Result<Ended> {
    let (mut spec, strictness) = spec(arguments)?;
    for assignment in &arguments.set {
        spec.set(assignment)?;
    }
    let recorder = recorder(&arguments.recorder)?;
    let mut plan = plan::plan(spec, &request(arguments, strictness)?)?;
    let rules = rules(&plan.spec)?;
    if arguments.plan {
        return print_plan(&mut plan, recorder);
    }
    let cancel = cancel_on_signals()?;
    build(&plan)?;
    let mut runner = Runner::new(&plan.target, recorder, cancel)?;
    find(&plan, &runner)?;
    let without_memory = memory::check(&mut plan, &runner)?;
    configure(&plan, &mut runner)?;
    let manifest = manifest(&plan, &runner)?;
    let folder = RunFolder::create(&arguments.output_dir, manifest)?;
    for original in runner.originals() {
        let name = phases::file_stem(&original.name().to_string_lossy());
        folder.keep_configuration(&name, original.text())?;
    }
    say(&format!("simprof: results go to {}", shown(folder.path()).display()));
    let mut session = Session {
        plan: &plan,
        folder,
        runner,
        progress: Progress::new(),
        rules,
        evidence: Evidence::default(),
        stopped: None,
    };
    if let Some(reason) = without_memory {
        let text = format!("Memory was not recorded: {reason}.");
        session.notice(Phase::Line, Notice::new(NoticeId::MemoryNotRecorded, text));
    }
    let outcome = all_phases(&mut session);
    conclude(&mut session, outcome)
}

/// Prints what would run, without what the target is known not to allow.
fn print_plan(plan: &mut Plan, recorder: Recorder) -> Result<Ended> {
    let runner = Runner::new(&plan.target, recorder, Cancel::new())?;
    if let Some(reason) = memory::check(plan, &runner)? {
        say(&format!("simprof: note: memory will not be recorded: {reason}"));
    }
    console::print(&plan.describe())?;
    Ok(Ended::Well)
}

/// The spec to use, and how strictly braces in its command are read: a command that was typed may
/// hold braces of its own.
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
    leave_out_unused(&mut spec);
    Ok((spec, Strictness::Literal))
}

/// A command that was typed need not use the parameters of a spec that is written for another: what it does
/// not use is not swept.
fn leave_out_unused(spec: &mut Spec) {
    leave_out_unread(&mut spec.target);
    let Target { command, environment, config, .. } = &spec.target;
    let told = command.iter().chain(environment.values());
    let texts: Vec<&String> = told.chain(config.iter().flat_map(Config::texts)).collect();
    let used = |name: &str| {
        let placeholder = format!("{{{name}}}");
        texts.iter().any(|text| text.contains(&placeholder))
    };
    let unused: Vec<String> = spec.parameters.keys().filter(|name| !used(name)).cloned().collect();
    if unused.is_empty() {
        return;
    }
    let names = unused.join(", ");
    say(&format!(
        "simprof: note: the command does not use {names} of the spec, so nothing is swept over it"
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

/// Nor need it read the configuration files of that spec.
fn leave_out_unread(target: &mut Target) {
    let told: Vec<&String> = target.command.iter().chain(target.environment.values()).collect();
    let is_read = |config: &Config| config.is_reached(&target.config, &told);
    let (read, unread): (Vec<_>, Vec<_>) = target.config.iter().cloned().partition(is_read);
    for Config { file, placeholder, .. } in unread {
        say(&format!(
            "simprof: note: the command does not use {{{placeholder}}} of the spec, so nothing is set in {}",
            file.display()
        ));
    }
    target.config = read;
}

fn recorder(name: &str) -> Result<Recorder> {
    const KNOWN: [&str; 3] = ["auto", "cycles", "cpu-clock"];
    match name {
        "auto" => Ok(Recorder::Auto),
        "cycles" => Ok(Recorder::Cycles),
        "cpu-clock" => Ok(Recorder::CpuClock),
        _ => {
            Err(Wrong(format!("there is no recorder `{name}`; there are: {}", KNOWN.join(", ")))
                .into())
        }
    }
}

fn request(arguments: &RunArgs, strictness: Strictness) -> Result<Request> {
    Ok(Request {
        mode: if arguments.quick { Mode::Quick } else { Mode::Full },
        phases: arguments.phases.clone(),
        components: arguments.components.clone(),
        functions: arguments.functions.clone(),
        memory: memory::wanted(arguments)?,
        timeout: arguments.timeout.map(Duration::from_secs_f64),
        rate_hz: arguments.rate,
        seed: arguments.seed,
        repeats: arguments.repeats,
        strictness,
    })
}

fn rules(spec: &Spec) -> Result<ComponentRules> {
    ComponentRules::new(
        spec.components.iter().map(|(name, patterns)| (name.clone(), patterns.clone())),
    )
    .map_err(|error| Wrong(format!("[components]: {}", crate::replicate::describe(&error))).into())
}

/// A flag that SIGINT, SIGTERM and SIGHUP set; a second SIGINT ends simprof at once, and its
/// guardian ends the target.
fn cancel_on_signals() -> Result<Cancel> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let cancel = Cancel::new();
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGHUP])
        .context("cannot listen for signals")?;
    let flag = cancel.clone();
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        for signal in signals.forever() {
            if flag.is_cancelled() {
                // The default action: a person who asks twice means it.
                let _ = signal_hook::low_level::emulate_default_handler(signal);
            }
            flag.cancel();
            say("simprof: stopping; what was measured is kept (press again to stop at once)");
        }
    })?;
    Ok(cancel)
}

/// Looks for the target's program before there is a folder of results; component benchmarks by
/// themselves do not need it.
fn find(plan: &Plan, runner: &Runner) -> Result<()> {
    if plan.phases == [Phase::Component] && !plan.benchmarks.is_empty() {
        return Ok(());
    }
    let found = runner.find(&plan.target.command, &plan.target.defaults);
    found.map_err(|error| Wrong(with_mend(&error)).into())
}

/// Reads configuration files and tries what is to be set in them, for every point of the plan.
fn configure(plan: &Plan, runner: &mut Runner) -> Result<()> {
    for (command, parameters) in plan.points() {
        runner.read_configuration(command)?;
        runner.try_configuration(command, parameters)?;
    }
    Ok(())
}

/// Runs the build command of the spec, with its output shown.
fn build(plan: &Plan) -> Result<()> {
    let Some((program, arguments)) = plan.target.build.split_first() else { return Ok(()) };
    let shown = plan.target.build.join(" ");
    say(&format!("simprof: building with {shown}"));
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
            "target.build: `{shown}` {status}; mend the build, or remove `build` from the spec"
        );
    }
    Ok(())
}

fn manifest(plan: &Plan, runner: &Runner) -> Result<Run> {
    let record = |&phase: &Phase| {
        PhaseRecord::waiting(phase, plan.processes(phase), plan.estimate_s(phase).unwrap_or(0.0))
    };
    let scratch = Scratch { work: PathBuf::from("{scratch}"), copies: PathBuf::new() };
    Ok(Run {
        schema: RUN_SCHEMA.to_owned(),
        simprof_version: env!("CARGO_PKG_VERSION").to_owned(),
        name: String::new(),
        status: RunStatus::Running,
        pid: std::process::id(),
        pid_start_ticks: crate::commands::status::start_ticks(std::process::id()),
        created_ms: now_ms(),
        updated_ms: now_ms(),
        ended_ms: None,
        arguments: std::env::args_os()
            .skip(1)
            .map(|argument| argument.to_string_lossy().into_owned())
            .collect(),
        target: runner.argv(&plan.target.command, &plan.target.defaults, plan.seed, &scratch),
        target_name: plan.target.name.clone(),
        seed: plan.seed,
        mode: plan.mode,
        machine: simprof_record::machine(),
        spec: toml::to_string(&plan.spec).context("the spec as TOML")?,
        phases: plan.phases.iter().map(record).collect(),
        notices: Vec::new(),
    })
}

/// The phases in order, then the file that joins them.
fn all_phases(session: &mut Session<'_>) -> Result<()> {
    for notice in session.folder.run().machine.notices.clone() {
        session.progress.say(&format!("simprof: note: {notice}"));
    }
    for phase in session.plan.phases.clone() {
        phases::run(session, phase)?;
    }
    let evidence = &session.evidence;
    let text = cross_reference_report(
        evidence.macro_.as_ref().map(|(summary, _)| summary),
        evidence.component.as_ref(),
        evidence.line.as_ref(),
        evidence.system.as_ref(),
    );
    write_atomically(&session.path().join(CROSS_REFERENCE), text.as_bytes())?;
    Ok(())
}

/// Marks the run as ended, whatever ended it, and says what failed and where the results are.
fn conclude(session: &mut Session<'_>, outcome: Result<()>) -> Result<Ended> {
    session.folder.clear_scratch();
    let interrupted = session.runner.cancelled();
    let error = outcome.as_ref().err().map(describe);
    let marked = session.folder.update(|run| {
        close_open_phases(run, interrupted, error.as_deref());
        run.ended_ms = Some(now_ms());
        run.status = status(run, interrupted, error.is_some());
    });
    // Once it has been said why the run was stopped, what follows from that need not be said.
    if session.stopped.is_none() {
        outcome?;
        marked?;
    }
    for line in failures::lines(&session.folder.run().phases, session.stopped.as_deref()) {
        say(&format!("simprof: {line}"));
    }
    let told = say_results(session);
    let well = session.folder.run().status == RunStatus::Ok && session.stopped.is_none() && told;
    Ok(if well { Ended::Well } else { Ended::WithFailures })
}

/// A phase that did not end is skipped or partial, with the reason: nothing is silently missing.
fn close_open_phases(run: &mut Run, interrupted: bool, error: Option<&str>) {
    let reason = if interrupted { "interrupted" } else { error.unwrap_or("not reached") };
    for record in run.phases.iter_mut().filter(|record| record.status.is_none()) {
        let parts = record.measurements.iter().map(|measurement| measurement.status);
        let status = Status::of_parts(parts.chain([Status::Skipped]));
        record.status = Some(status);
        let text = format!("This phase did not end: {reason}.");
        record.notices.push(Notice::new(NoticeId::PhaseCutShort, text));
    }
}

fn status(run: &Run, interrupted: bool, failed: bool) -> RunStatus {
    let whole = Status::of_parts(run.phases.iter().filter_map(|record| record.status));
    match whole {
        _ if interrupted => RunStatus::Interrupted,
        Status::Ok if !failed => RunStatus::Ok,
        Status::Ok | Status::Partial => RunStatus::Partial,
        _ => RunStatus::Failed,
    }
}

/// Says what came out and where it is; false where the folder's name could not be handed to a script that waits for it.
fn say_results(session: &Session<'_>) -> bool {
    let evidence = &session.evidence;
    let macro_ = evidence.macro_.as_ref().map(|(summary, _)| &summary.default.statements);
    let component = evidence.component.as_ref().map(|summary| &summary.statements);
    let line = evidence.line.as_ref().map(|summary| &summary.statements);
    let memory = evidence.line.as_ref().and_then(|summary| summary.memory.as_ref()?.headline());
    let system = evidence.system.as_ref().map(|summary| &summary.statements);
    let first = |statements: Option<&Vec<String>>| statements.and_then(|all| all.first().cloned());
    let said = [
        (Phase::Macro, first(macro_)),
        (Phase::Component, first(component)),
        (Phase::Line, first(line)),
        (Phase::Line, memory),
        (Phase::System, first(system)),
    ];
    say("");
    for (phase, statement) in said {
        if let Some(statement) = statement {
            say(&format!("  {} {statement}", phase.number()));
        }
    }
    let folder = shown(session.path());
    let reports = session
        .plan
        .phases
        .iter()
        .map(|phase| format!("{}/PHASE{}_REPORT.md", phase.folder(), phase.number()));
    let reports = reports.chain([CROSS_REFERENCE.to_owned()]);
    let written: Vec<String> =
        reports.filter(|report| session.path().join(report).exists()).collect();
    if written.is_empty() {
        say(&format!("\nsimprof: no report could be written to {}", folder.display()));
    } else {
        say(&format!("\nsimprof: reports in {}: {}", folder.display(), written.join(", ")));
    }
    match console::print(&format!("{}\n", folder.display())) {
        // The run is over and its outcome is known, whether or not somebody reads on.
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            say(&format!(
                "simprof: the folder's name cannot be written to standard output: {error}"
            ));
            false
        }
        _ => true,
    }
}

/// A path as short as it can be written from here.
fn shown(path: &Path) -> PathBuf {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(&here).map_or_else(|_| path.to_owned(), Path::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_recorder_lists_the_known_ones() {
        assert_eq!(recorder("cycles").expect("known"), Recorder::Cycles);
        let error = recorder("perf").expect_err("unknown").to_string();
        assert!(error.contains("cpu-clock"), "{error}");
    }

    #[test]
    fn a_typed_command_leaves_out_what_it_does_not_use() {
        let text = "[parameters]\na = { default = 1, sweep = [1, 2] }\nb = { default = 1, sweep = [1], with = { a = 2 } }\n\
                    [phase1]\ncases = [{ a = 3 }, { b = 3 }]\n";
        let mut spec = Spec::parse(text, "spec").unwrap_or_else(|error| panic!("{error}"));
        spec.target.command = vec!["./prog".into(), "--b={b}".into()];
        leave_out_unused(&mut spec);
        assert_eq!(spec.parameters.keys().collect::<Vec<_>>(), ["b"]);
        assert_eq!(spec.phase1.cases.len(), 1);
        assert!(spec.parameters["b"].with.is_empty());
        spec.check().unwrap_or_else(|error| panic!("{error}"));
    }

    #[test]
    fn the_reference_plan_is_whole() {
        let spec = Spec::parse(REFERENCE, "reference").expect("valid");
        for mode in [Mode::Quick, Mode::Full] {
            let request = Request {
                mode,
                phases: vec![],
                components: vec![],
                functions: vec![],
                memory: (mode == Mode::Full)
                    .then_some(memory::MemoryPlan { interval_bytes: None, asked: None }),
                timeout: None,
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
            assert!(total <= limit, "{mode:?} is estimated at {total} s");
            for component in ["spatial", "observation", "database"] {
                assert!(plan.benchmarks.iter().any(|plan| plan.benchmark.component == component));
            }
        }
    }
}
