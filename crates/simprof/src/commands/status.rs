//! `simprof status`: the progress of a run, its failures and its files.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use simprof_model::{PhaseRecord, ProblemCause, Run, RunProblem, RunStatus, Status};

use crate::cli::StatusArgs;
use crate::console::print;
use crate::exit::{Completion, UsageError};
use crate::folder::{LATEST, MANIFEST, now_ms, read};

/// Time between two reads of the manifest with `--follow`.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// Prints the status of a run.
///
/// # Errors
/// Returns an error if there is no run or its manifest cannot be read.
pub fn run(arguments: &StatusArgs) -> Result<Completion> {
    let manifest = find(&arguments.folder)?;
    let mut run: Run = read(&manifest)?;
    if arguments.json {
        print(&(serde_json::to_string(&run)? + "\n"))?;
        return Ok(ended(&run));
    }
    if arguments.follow {
        run = follow(run, &manifest)?;
    }
    print(&describe(&run, &manifest))?;
    Ok(ended(&run))
}

/// Prints a line whenever the run has advanced, until it has ended. Returns its last state.
fn follow(mut run: Run, manifest: &Path) -> Result<Run> {
    let mut last = Vec::new();
    while run.status == RunStatus::Running && is_alive(&run) {
        let line = progress_line(&run);
        let position = position(&run);
        if position != last {
            print(&(line + "\n"))?;
            last = position;
        }
        std::thread::sleep(POLL_INTERVAL);
        run = read(manifest)?;
    }
    Ok(run)
}

/// Returns how far the run is, without the time left, which changes continuously.
fn position(run: &Run) -> Vec<(usize, String, Option<Status>)> {
    run.phases.iter().map(|record| (record.done, record.current.clone(), record.status)).collect()
}

/// Describes the running phase in one line.
fn progress_line(run: &Run) -> String {
    let running =
        run.phases.iter().find(|record| record.status.is_none() && record.started_ms.is_some());
    running.map_or_else(|| "between phases".to_owned(), |record| phase_line(record, true))
}

fn ended(run: &Run) -> Completion {
    let running = run.status == RunStatus::Running && is_alive(run);
    if running || run.status == RunStatus::Ok {
        Completion::Success
    } else {
        Completion::WithFailures
    }
}

/// Returns the manifest in the folder of a run, or of the latest run in a folder of results.
fn find(folder: &Path) -> Result<PathBuf> {
    let candidates = [folder.join(MANIFEST), folder.join(LATEST).join(MANIFEST)];
    candidates.into_iter().find(|path| path.exists()).ok_or_else(|| {
        let text = format!(
            "there is no run in {}; start one with `simprof run`, or give the folder of a run",
            folder.display()
        );
        UsageError(text).into()
    })
}

/// Returns the start time of a process in clock ticks since boot. Returns `None` if it does not
/// exist or is a zombie.
pub fn start_ticks(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command name is in parentheses and can contain any character. The start time is the 20th
    // field after it.
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") { None } else { fields.nth(18)?.parse().ok() }
}

/// Returns true if the process that writes the run is alive. The start time distinguishes it from a
/// later process with the same process ID.
fn is_alive(run: &Run) -> bool {
    let ticks = start_ticks(run.pid);
    ticks.is_some() && ticks == run.pid_start_ticks
}

fn describe(run: &Run, manifest: &Path) -> String {
    let mut text = String::new();
    let folder = manifest.parent().unwrap_or(Path::new("."));
    let running = run.status == RunStatus::Running && is_alive(run);
    let _ = writeln!(text, "{}  {}", run.name, state(run));
    let _ = writeln!(text, "target  {} ({})", run.target_name, run.target.join(" "));
    let _ = writeln!(text, "folder  {}", folder.display());
    for record in &run.phases {
        let _ = writeln!(text, "{}", phase_line(record, running));
    }
    for record in &run.phases {
        failures(record, &mut text);
    }
    // Measurements are listed above.
    let is_other = |problem: &&RunProblem| problem.cause != ProblemCause::Measurements;
    for problem in run.problems.iter().filter(is_other) {
        let _ = writeln!(text, "  {}", problem.text);
    }
    let files: Vec<&String> = run.phases.iter().flat_map(|record| &record.files).collect();
    if !files.is_empty() {
        let _ = writeln!(text, "files");
        for file in files {
            let _ = writeln!(text, "  {file}");
        }
    }
    text
}

fn state(run: &Run) -> String {
    let seconds = |from: u64, to: u64| to.saturating_sub(from) / 1000;
    match run.status {
        RunStatus::Running if is_alive(run) => {
            let left = run_left_s(run).filter(|&left_s| left_s >= 1.0);
            let left =
                left.map_or_else(String::new, |left_s| format!(", about {left_s:.0} s left"));
            format!(
                "running for {} s (process {}){left}",
                seconds(run.created_ms, now_ms()),
                run.pid
            )
        }
        RunStatus::Running => format!(
            "was killed (process {}) {} s after its start; the measurements until then are complete",
            run.pid,
            seconds(run.created_ms, run.updated_ms)
        ),
        ended => {
            let name = match ended {
                RunStatus::Ok => "ok",
                RunStatus::Partial => "partial",
                RunStatus::Interrupted => "interrupted",
                RunStatus::Failed | RunStatus::Running => "failed",
            };
            format!("{name}, {} s", seconds(run.created_ms, run.ended_ms.unwrap_or(run.updated_ms)))
        }
    }
}

fn phase_line(record: &PhaseRecord, running: bool) -> String {
    let state = match (record.status, record.started_ms) {
        (Some(status), _) => status.to_string(),
        (None, None) if running => "waiting".to_owned(),
        (None, None) => "not reached".to_owned(),
        (None, Some(_)) if !running => format!("ended early: {}", record.current),
        (None, Some(started)) => {
            format!("running{}: {}", time_left(record, started), record.current)
        }
    };
    format!(
        "  {:<20} {:>4} of {:<4} {state}",
        record.phase.to_string(),
        record.done,
        record.planned
    )
}

fn time_left(record: &PhaseRecord, started_ms: u64) -> String {
    let spent_s = now_ms().saturating_sub(started_ms) as f64 * 1e-3;
    left_s(record, spent_s).map_or_else(String::new, |left_s| format!(", about {left_s:.0} s left"))
}

/// Returns the time that a phase still takes after `spent_s`; `None` if it is not known.
///
/// The time of an earlier run counts as long as it is not exceeded: the processes of a phase differ too much for the number of
/// finished ones to be better. Without it that number decides, or else the estimate.
fn left_s(record: &PhaseRecord, spent_s: f64) -> Option<f64> {
    let estimated = Some(record.estimate_s - spent_s).filter(|&left_s| left_s > 0.0);
    let from_earlier = estimated.filter(|_| record.estimate_from.is_some());
    let by_count = (record.done > 0)
        .then(|| spent_s / record.done as f64 * record.planned.saturating_sub(record.done) as f64);
    from_earlier.or(by_count).or(estimated)
}

/// Returns the time until the end of the run; `None` if it is not known for a phase.
fn run_left_s(run: &Run) -> Option<f64> {
    let open = run.phases.iter().filter(|record| record.status.is_none());
    let left = |record: &PhaseRecord| match record.started_ms {
        Some(started_ms) => left_s(record, now_ms().saturating_sub(started_ms) as f64 * 1e-3),
        None if record.planned == 0 => Some(0.0),
        None => Some(record.estimate_s).filter(|&estimate_s| estimate_s > 0.0),
    };
    open.map(left).sum()
}

fn failures(record: &PhaseRecord, text: &mut String) {
    let is_failure =
        |status: Status| matches!(status, Status::Failed | Status::TimedOut | Status::Partial);
    for measurement in
        record.measurements.iter().filter(|measurement| is_failure(measurement.status))
    {
        let reason = measurement.reason.as_deref().unwrap_or_default();
        let _ = writeln!(
            text,
            "  {}: {} {}: {reason}",
            record.phase, measurement.name, measurement.status
        );
    }
}

#[cfg(test)]
mod tests {
    use simprof_model::Phase;

    use super::*;
    use crate::processes::fake::manifest;

    #[test]
    fn the_time_of_an_earlier_run_is_preferred_until_it_is_exceeded() {
        let record = |done, estimate_s, earlier: bool| PhaseRecord {
            done,
            estimate_from: earlier.then(|| "run".to_owned()),
            ..PhaseRecord::waiting(Phase::System, 10, estimate_s)
        };
        for (record, spent_s, left_s) in [
            (record(0, 60.0, true), 15.0, Some(45.0)),
            (record(5, 60.0, true), 15.0, Some(45.0)),
            (record(5, 60.0, true), 70.0, Some(70.0)),
            (record(5, 60.0, false), 15.0, Some(15.0)),
            (record(0, 60.0, false), 15.0, Some(45.0)),
            (record(0, 0.0, false), 15.0, None),
        ] {
            assert_eq!(super::left_s(&record, spent_s), left_s, "{record:?}");
        }
    }

    #[test]
    fn the_time_of_a_run_is_that_of_its_open_phases() {
        let mut run = manifest(&[Phase::Macro, Phase::Line, Phase::System]);
        run.phases[0].status = Some(Status::Ok);
        (run.phases[1].estimate_s, run.phases[2].estimate_s) = (20.0, 30.0);
        assert_eq!(run_left_s(&run), Some(50.0));
        run.phases[2].estimate_s = 0.0;
        assert_eq!(run_left_s(&run), None);
    }

    #[test]
    fn only_existing_processes_have_a_start_time() {
        assert!(start_ticks(std::process::id()).is_some_and(|ticks| ticks > 0));
        assert_eq!(start_ticks(0), None);
    }

    #[test]
    fn a_folder_without_a_run_is_an_error_with_a_fix() {
        let folder = tempfile::tempdir().expect("a folder");
        let error = find(folder.path()).expect_err("empty").to_string();
        assert!(error.contains("simprof run"), "{error}");
    }
}
