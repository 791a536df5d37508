//! Phase 3: where the target is slow.

use anyhow::Result;
use simprof_model::{FunctionKind, Measurement, Notice, NoticeId, Phase, Profile, Status};
use simprof_report::analysis::{
    self, CalleeCost, FollowStep, FunctionSet, Origin, RunSplit, SpinKind, bottlenecks,
    follow_wrappers, function_lines, functions, hot_lines, sort_by_total, split_run,
};
use simprof_report::annotate::{MemoryLines, annotate_with_memory, annotated_file_name};
use simprof_report::document::line_report;
use simprof_report::summary::{
    Bottleneck, ChosenBy, ComponentSummary, FEW_SAMPLES, FunctionLines, Head, LineCost,
    LineSummary, LoopLines, PartSummary, TimeShares, profile_summary, share_interval,
    waiting_lines,
};
use simprof_report::{ReportError, format};

use super::record::record;
use super::source_text::{of_row, source, source_line};
use crate::plan::Case;
use crate::session::Session;

const PHASE: Phase = Phase::Line;

/// Maximum number of functions taken from phase 1.
const FROM_MACRO: usize = 8;
/// Maximum number of functions of the component that grows fastest according to phase 2.
const FROM_COMPONENT: usize = 2;
/// Maximum number of library functions that are the heaviest callees of bottlenecks.
const FROM_LIBRARIES: usize = 3;
/// Minimum share of CPU time of such a function.
const LIBRARY_SHARE_MIN: f64 = 0.1;
/// Part of a wrapper's time from which it is followed into a library.
const CHARGED_OF_WRAPPER: f64 = 0.25;
/// Share of CPU time below which the known lines do not show where the program is slow.
const LINES_KNOWN: f64 = 0.5;
/// Number of lines in the ranked list over all functions.
const HOTTEST: usize = 20;
/// Maximum number of callees listed for a line.
const CALLEES: usize = 3;
/// Share below which a line or a callee is omitted, because it would be shown as 0.0 %.
const MIN_SHARE: f64 = 0.0005;

/// A function to annotate.
#[derive(Debug, Clone, PartialEq)]
struct Chosen {
    asked: String,
    by: ChosenBy,
    phase1_share: Option<f64>,
    /// Part of its total time that is charged to it, 0 to 1. The rest is charged to other functions of the author's.
    charged: f64,
}

/// The recordings of this phase.
#[derive(Debug, Clone, Copy)]
struct Recordings<'a> {
    /// The program's work.
    profile: &'a Profile,
    /// Everything, also set-up and tear-down.
    whole: &'a Profile,
    memory: Option<&'a MemoryLines>,
    runs: usize,
}

/// Records the target again and annotates the source of selected functions.
///
/// # Errors
/// Returns an error if results cannot be written.
pub fn run(session: &mut Session<'_>) -> Result<()> {
    session.begin(PHASE, 1 + usize::from(session.plan.memory.is_some()))?;
    let parameters = session.plan.target.defaults.clone();
    let recorded = record(session, PHASE, &Case { name: "default".into(), parameters }, 0)?;
    // Written before allocations are recorded, so that an error there cannot lose it.
    if let Some(profile) = &recorded.profile {
        super::macro_::write_profile(session, PHASE, "", profile, &recorded.steps)?;
    }
    let split = recorded.profile.as_ref().map(|profile| split_run(profile, &recorded.steps));
    let work = split.as_ref().map(|split| &split.work);
    let memory = match session.plan.memory {
        Some(plan) => super::allocations::run(session, plan, work, &source_line, 1)?,
        None => None,
    };
    let runs = recorded.wall_ns.len();
    let mut annotated = Vec::new();
    if let (Some(profile), Some(whole)) = (work, &recorded.profile) {
        let allocated = memory.as_ref().map(|memory| MemoryLines::new(&memory.profile));
        let recordings = Recordings { profile, whole, memory: allocated.as_ref(), runs };
        for chosen in choose(session, profile) {
            annotate(session, recordings, &chosen, &mut annotated)?;
        }
    }
    let lines = match work {
        _ if !session.plan.functions.is_empty() => hottest_of(&annotated),
        Some(profile) => hottest(profile, runs),
        None => Vec::new(),
    };
    session.end(PHASE, &outcome(&lines, split.as_ref()))?;
    let mut summary = summary(session, split.as_ref(), runs, annotated, lines);
    let files = memory.as_ref().map(|memory| memory.files.clone()).unwrap_or_default();
    if let Some(memory) = memory {
        summary.add_memory(&memory.profile, memory.summary);
    }
    session.write(PHASE, "phase3_summary.json", &super::csv::json(&summary)?)?;
    let report = line_report(&summary, &session.folder.run().machine, &files);
    session.write(PHASE, "PHASE3_REPORT.md", report.as_bytes())?;
    session.evidence.line = Some(summary);
    Ok(())
}

/// Describes the result of the phase in one line.
fn outcome(lines: &[LineCost], split: Option<&RunSplit>) -> String {
    if split.is_some_and(has_few_samples) {
        return "too few samples to compare lines".to_owned();
    }
    let of = of_steps(split);
    let first = lines.first().map(|line| cost_of(line, "", of));
    first.unwrap_or_else(|| "no line is known".to_owned())
}

/// Returns `sim.c:9 takes 12.3 % of CPU time`, or what of it is spinning. `function` follows the line, `of` the time.
fn cost_of(line: &LineCost, function: &str, of: &str) -> String {
    let place = format!("{}:{}", short(&line.file), line.lines());
    let share = line.cpu_share * 100.0;
    if let Some(kind) = SpinKind::of_name(&line.function) {
        return format!("{place}: {share:.1} % of CPU time{of} is {}", kind.describe());
    }
    let callee = line.callees.first().and_then(|callee| callee.split_once(" ("));
    let spins = callee.and_then(|(name, _)| SpinKind::of_name(name));
    let spins = spins.map_or_else(String::new, |kind| format!(", mostly {}", kind.describe()));
    format!("{place}{function} takes {share:.1} % of CPU time{of}{spins}")
}

/// Returns the summary without memory.
fn summary(
    session: &Session<'_>,
    split: Option<&RunSplit>,
    runs: usize,
    functions: Vec<FunctionLines>,
    lines: Vec<LineCost>,
) -> LineSummary {
    let run = session.folder.run();
    let profile = split.map(|split| &split.work);
    let waits = profile.map(|profile| waiting_lines(profile, runs, HOTTEST));
    LineSummary {
        head: Head::new(run, run.phase(PHASE).expect("the phase is planned")),
        profile: profile.map(|profile| profile_summary(&profile.provenance, runs)),
        parts: split.map(|split| PartSummary::all(split, runs)).unwrap_or_default(),
        waits: waits.unwrap_or_default(),
        statements: statements(&functions, &lines, split, session.plan.functions.is_empty()),
        functions,
        lines,
        memory: None,
    }
}

/// Selects functions: those that the flags name; without such flags, those that phases 1 and 2 found
/// and those that the spec names.
fn choose(session: &Session<'_>, profile: &Profile) -> Vec<Chosen> {
    let by_name = |asked: &String| Chosen {
        asked: asked.clone(),
        by: ChosenBy::Name,
        phase1_share: None,
        charged: 1.0,
    };
    if !session.plan.functions.is_empty() {
        return session.plan.functions.iter().map(by_name).collect();
    }
    let mut chosen = from_macro(session, profile);
    for function in from_component(session) {
        if !chosen.iter().any(|known| known.asked == function.asked) {
            chosen.push(function);
        }
    }
    chosen.extend(session.plan.spec.phase3.functions.iter().map(by_name));
    chosen
}

fn from_macro(session: &Session<'_>, profile: &Profile) -> Vec<Chosen> {
    if let Some((summary, _)) = &session.evidence.macro_ {
        let found = &summary.default.bottlenecks;
        let chosen =
            found.iter().take(FROM_MACRO).map(|found| from_bottleneck(found, ChosenBy::Macro));
        return chosen.chain(from_libraries(found)).collect();
    }
    let mut costs = functions(profile);
    sort_by_total(&mut costs);
    bottlenecks(&costs, FROM_MACRO)
        .by_charged
        .into_iter()
        .map(|cost| Chosen {
            charged: cost.charged_share / cost.total_share,
            asked: cost.name,
            by: ChosenBy::Recording,
            phase1_share: None,
        })
        .collect()
}

fn from_bottleneck(found: &Bottleneck, by: ChosenBy) -> Chosen {
    Chosen {
        asked: found.name.clone(),
        by,
        phase1_share: Some(found.total_share),
        charged: found.share / found.total_share,
    }
}

/// Selects the heaviest callees of the bottlenecks.
fn from_libraries(found: &[Bottleneck]) -> Vec<Chosen> {
    let libraries = found.iter().filter_map(|found| found.heaviest_callee.as_ref());
    let mut libraries: Vec<_> =
        libraries.filter(|library| library.share >= LIBRARY_SHARE_MIN).collect();
    libraries.sort_by(|a, b| b.share.total_cmp(&a.share));
    let chosen = libraries.into_iter().take(FROM_LIBRARIES).map(|library| Chosen {
        asked: library.name.clone(),
        by: ChosenBy::Library,
        phase1_share: None,
        charged: 1.0,
    });
    chosen.collect()
}

/// Selects the functions with the most time of the component whose time grows fastest.
fn from_component(session: &Session<'_>) -> Vec<Chosen> {
    let (Some(component), Some((macro_, _))) =
        (&session.evidence.component, &session.evidence.macro_)
    else {
        return Vec::new();
    };
    let Some(name) = steepest(component) else { return Vec::new() };
    macro_
        .default
        .bottlenecks
        .iter()
        .filter(|bottleneck| bottleneck.component == name)
        .take(FROM_COMPONENT)
        .map(|found| from_bottleneck(found, ChosenBy::Component))
        .collect()
}

fn steepest(summary: &ComponentSummary) -> Option<String> {
    let timed = summary.laws.iter().filter(|law| law.metric.ends_with("_ns"));
    let lower = timed.filter_map(|law| Some((law.component.clone()?, law.exponent_interval?[0])));
    lower.max_by(|a, b| a.1.total_cmp(&b.1)).map(|(component, _)| component)
}

/// Follows a function through wrappers to the function that does its work, and annotates that.
fn annotate(
    session: &mut Session<'_>,
    recordings: Recordings<'_>,
    chosen: &Chosen,
    found: &mut Vec<FunctionLines>,
) -> Result<()> {
    let Recordings { profile, whole, memory, runs } = recordings;
    let set = match FunctionSet::matching(profile, &chosen.asked) {
        Ok(set) if !set.is_empty() => set,
        Ok(_) => return not_found(session, chosen, None),
        Err(error) => return not_found(session, chosen, Some(&error)),
    };
    // A function that was requested by name is also examined if it runs only outside of the program's work.
    let is_work = function_lines(profile, &set, &set).is_some();
    let profile = if is_work || chosen.by != ChosenBy::Name { profile } else { whole };
    let chain = followed(profile, &set, chosen);
    if chain.last().is_some_and(|last| found.iter().any(|known| known.name == last.name)) {
        return Ok(());
    }
    let asked = set.clone();
    let work = match chain.last() {
        Some(last) if chain.len() > 1 => FunctionSet::from_ids(profile, &last.ids),
        _ => set,
    };
    // A function that only waits has no CPU samples and cannot be annotated.
    let Some(lines) = function_lines(profile, &work, &asked) else {
        return not_found(session, chosen, None);
    };
    let mut taken: Vec<String> = found.iter().filter_map(|known| known.annotated.clone()).collect();
    let has_lines = lines.lines.iter().any(|line| line.line.is_some());
    if chosen.by == ChosenBy::Library && !has_lines {
        return Ok(());
    }
    let annotated = has_lines.then(|| annotated_file_name(&lines.function, &mut taken));
    if let Some(name) = &annotated {
        let text = annotate_with_memory(&lines, "CPU time", memory, &source);
        session.write(PHASE, name, text.as_bytes())?;
    }
    let samples = profile.samples.len() as u64;
    found.push(FunctionLines {
        asked: chosen.asked.clone(),
        chosen_by: chosen.by,
        name: lines.function.clone(),
        module: module_of(profile, &work),
        is_kernel: is_kernel(profile, &work),
        followed: chain.iter().rev().skip(1).rev().map(|step| step.name.clone()).collect(),
        total_share: lines.total_share,
        is_outside_work: !is_work,
        interval: interval(lines.total_share, samples),
        phase1_share: chosen.phase1_share.filter(|_| chain.len() == 1),
        time: lines.time.as_ref().and_then(|time| TimeShares::new(time, runs)),
        annotated,
        lines: line_costs(&lines, samples, runs),
    });
    Ok(())
}

/// Returns the wrappers from a function on, and the function that they lead to.
///
/// They are not followed into a library if most of the function's time is charged to other functions of the author's, which are
/// examined themselves: `main` may call them through a library.
fn followed(profile: &Profile, set: &FunctionSet, chosen: &Chosen) -> Vec<FollowStep> {
    let mut chain = follow_wrappers(profile, set);
    let leaves = chain.last().is_some_and(|last| last.origin != Origin::Own);
    if leaves && chosen.charged < CHARGED_OF_WRAPPER {
        chain.truncate(1);
    }
    chain
}

fn is_kernel(profile: &Profile, functions: &FunctionSet) -> bool {
    functions.ids().any(|id| profile.function(id).kind == FunctionKind::Kernel)
}

fn module_of(profile: &Profile, functions: &FunctionSet) -> Option<String> {
    functions.ids().find_map(|id| profile.function_module(id)).map(str::to_owned)
}

/// Reports a function without samples. It is a failure if a flag named the function, and otherwise
/// only a notice.
fn not_found(
    session: &mut Session<'_>,
    chosen: &Chosen,
    error: Option<&ReportError>,
) -> Result<()> {
    let reason = match error {
        Some(error) => format!("`{}` cannot be searched for: {error}.", chosen.asked),
        None => format!(
            "No sample contains a function that matches `{}`: it took no time, was inlined, or has another name (see phase1_summary.json).",
            chosen.asked
        ),
    };
    if chosen.by != ChosenBy::Name || !session.plan.functions.contains(&chosen.asked) {
        session.notice(PHASE, Notice::new(NoticeId::FunctionNotFound, reason));
        return Ok(());
    }
    let measurement = Measurement {
        name: format!("function {}", chosen.asked),
        component: None,
        operation: None,
        parameters: session.plan.target.defaults.clone(),
        status: Status::Failed,
        reason: Some(reason),
        replicates: Vec::new(),
    };
    session.keep(PHASE, &measurement, 1);
    Ok(())
}

fn interval(share: f64, samples: u64) -> [f64; 2] {
    share_interval((share * samples as f64).round() as u64, samples)
}

fn line_costs(lines: &analysis::FunctionLines, samples: u64, runs: usize) -> Vec<LineCost> {
    let known = lines.lines.iter().filter_map(|line| Some((line, line.file.as_ref()?, line.line?)));
    known
        .map(|(line, file, number)| LineCost {
            function: lines.function.clone(),
            file: file.clone(),
            line: number,
            in_loop: line.in_loop.as_ref().map(LoopLines::new),
            cpu_share: line.total_share,
            self_share: Some(line.local_share),
            interval: interval(line.total_share, samples),
            callees: named(&line.callees),
            time: line.time.as_ref().and_then(|time| TimeShares::new(time, runs)),
            natives: named(&line.natives),
            text: of_row(file, number, line.in_loop.as_ref()),
            alloc_bytes: None,
            alloc_count: None,
            leaked_bytes: None,
        })
        .collect()
}

/// Returns the first callees with their shares.
fn named(callees: &[CalleeCost]) -> Vec<String> {
    let name = |callee: &CalleeCost| format!("{} ({:.1} %)", callee.name, callee.share * 100.0);
    let is_shown = |callee: &&CalleeCost| callee.share >= MIN_SHARE;
    callees.iter().filter(is_shown).take(CALLEES).map(name).collect()
}

/// Returns the lines of the program's own code with the most CPU time. Lines of an interpreter are
/// omitted, because nothing there can be changed.
fn hottest(profile: &Profile, runs: usize) -> Vec<LineCost> {
    let samples = profile.samples.len() as u64;
    let known = hot_lines(profile, usize::MAX)
        .into_iter()
        .filter(|line| !line.interpreter)
        .take(HOTTEST)
        .filter_map(|line| Some((line.file.clone()?, line.line?, line)));
    known
        .map(|(file, number, line)| LineCost {
            text: of_row(&file, number, line.in_loop.as_ref()),
            function: line.function,
            file,
            line: number,
            in_loop: line.in_loop.as_ref().map(LoopLines::new),
            cpu_share: line.share,
            self_share: None,
            interval: interval(line.share, samples),
            callees: Vec::new(),
            time: line.time.and_then(|time| TimeShares::new(&time, runs)),
            natives: Vec::new(),
            alloc_bytes: None,
            alloc_count: None,
            leaked_bytes: None,
        })
        .collect()
}

/// Returns the lines with the most CPU time of the requested functions, each line once.
fn hottest_of(found: &[FunctionLines]) -> Vec<LineCost> {
    let mut lines: Vec<LineCost> = Vec::new();
    for line in found.iter().flat_map(|function| &function.lines) {
        match lines
            .iter_mut()
            .find(|known| known.file == line.file && known.lines() == line.lines())
        {
            Some(known) if known.cpu_share < line.cpu_share => known.clone_from(line),
            Some(_) => {}
            None => lines.push(line.clone()),
        }
    }
    lines.sort_by(|a, b| b.cpu_share.total_cmp(&a.cpu_share));
    lines.truncate(HOTTEST);
    lines
}

fn statements(
    found: &[FunctionLines],
    lines: &[LineCost],
    split: Option<&RunSplit>,
    is_whole_program: bool,
) -> Vec<String> {
    let of = of_steps(split);
    let few = split.filter(|split| has_few_samples(split)).map(|split| {
        let samples = split.work.samples.len();
        format!(
            "Samples of the program's work{of}: {samples}, too few to compare lines. Give the run more steps."
        )
    });
    let is_shown = |line: &&LineCost| few.is_none() && line.cpu_share >= MIN_SHARE;
    let hottest = lines.iter().take(3).filter(is_shown).map(|line| {
        let text = format::quoted_line(line.text.as_deref().unwrap_or_default());
        let text = if text.is_empty() { String::new() } else { format!(": {text}") };
        format!("{}{text}", cost_of(line, &format!(" in {}", line.function), of))
    });
    let followed = found.iter().filter(|function| !function.followed.is_empty()).map(|function| {
        format!("{} is a wrapper, which was followed to {}.", function.asked, function.name)
    });
    let differs = found.iter().filter_map(|function| {
        let before = function.phase1_share.filter(|_| function.followed.is_empty())?;
        let [low, high] = function.interval;
        let apart = (function.total_share - before).abs() > 2.0 * (high - low);
        apart.then(|| {
            format!(
                "{} took {:.1} % in phase 1 and {:.1} % here: its share varies between runs by more than sampling explains.",
                function.name,
                before * 100.0,
                function.total_share * 100.0
            )
        })
    });
    let unknown = split.filter(|_| few.is_none() && is_whole_program).and_then(unknown_lines);
    few.clone().into_iter().chain(unknown).chain(hottest).chain(followed).chain(differs).collect()
}

/// Returns that most of the time has no lines, or `None` if it has.
fn unknown_lines(split: &RunSplit) -> Option<String> {
    let lines = hot_lines(&split.work, usize::MAX);
    let known = lines.iter().filter(|line| line.file.is_some() && line.line.is_some());
    let known: f64 = known.map(|line| line.share).sum();
    (known < LINES_KNOWN).then(|| {
        format!(
            "Lines are known for only {} of CPU time{}: the rest is in code without debug information. Build it with `-g` (C, C++) or \
             `debug = \"limited\"` in the Cargo profile (Rust). The sections below name the modules.",
            format::share(known),
            of_steps(Some(split)),
        )
    })
}

/// Returns ` inside steps` if shares are of the steps.
fn of_steps(split: Option<&RunSplit>) -> &'static str {
    if split.is_some_and(|split| split.steps > 0) { " inside steps" } else { "" }
}

fn has_few_samples(split: &RunSplit) -> bool {
    (split.work.samples.len() as u64) < FEW_SAMPLES
}

fn short(file: &str) -> &str {
    file.rsplit('/').next().unwrap_or(file)
}
