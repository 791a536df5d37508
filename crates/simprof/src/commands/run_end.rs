//! The end of `simprof run`: its status, the reasons for it, and what the terminal shows.

use anyhow::Result;
use simprof_model::{Notice, NoticeId, Phase, ProblemCause, Run, RunProblem, RunStatus, Status};

use crate::console::{self, message};
use crate::exit::{Completion, describe_error};
use crate::failures;
use crate::folder::now_ms;
use crate::session::Session;
use crate::text::relative;

/// File with the cross-reference of all phases.
pub const CROSS_REFERENCE: &str = "CROSS_REFERENCE.md";

/// Marks the run as ended, however it ended, and reports failures and the location of the results.
///
/// # Errors
/// Returns the error that ended the phases, or an error if the manifest cannot be written.
pub fn conclude(session: &mut Session<'_>, outcome: Result<()>) -> Result<Completion> {
    session.folder.clear_scratch();
    let interrupted = session.processes.is_cancelled();
    let error = outcome.as_ref().err().map(describe_error);
    let (stopped, over_budget) = (session.stopped.clone(), session.budget.reason());
    let marked = session.folder.update(|run| {
        close_open_phases(run, interrupted, error.as_deref());
        run.ended_ms = Some(now_ms());
        let error = stopped.as_deref().or(error.as_deref());
        run.problems = problems(run, interrupted, error, over_budget.as_deref());
        run.status = status(run);
    });
    // The reason why the run was stopped has already been reported. Errors that follow from it are
    // not reported.
    if session.stopped.is_none() {
        outcome?;
        marked?;
    }
    // Notices have reported the other problems.
    let problems = session.folder.run().problems.iter();
    for problem in problems.filter(|problem| problem.cause == ProblemCause::Measurements) {
        console::error(&problem.text);
    }
    if let Err(problem) = report_results(session) {
        console::error(&problem.text);
        session.folder.update(|run| {
            run.problems.push(problem);
            run.status = status(run);
        })?;
    }
    let is_ok = session.folder.run().status == RunStatus::Ok;
    Ok(if is_ok { Completion::Success } else { Completion::WithFailures })
}

/// Returns every reason why the run is not ok. `error` ended it early; `over_budget` is the reason of measurements that were
/// skipped for lack of time.
fn problems(
    run: &Run,
    interrupted: bool,
    error: Option<&str>,
    over_budget: Option<&str>,
) -> Vec<RunProblem> {
    let interruption = interrupted
        .then(|| RunProblem::new(ProblemCause::Interrupted, "The user interrupted the run."));
    let error = error.map(|text| RunProblem::new(ProblemCause::Stopped, text));
    let mut all = run.phases.iter().flat_map(|record| &record.measurements);
    let over_budget = over_budget
        .filter(|reason| all.any(|measurement| measurement.reason.as_deref() == Some(reason)))
        .map(|reason| RunProblem::new(ProblemCause::Budget, reason));
    let known: Vec<String> =
        error.iter().chain(&over_budget).map(|problem| problem.text.clone()).collect();
    let measurements = failures::lines(&run.phases, &known)
        .into_iter()
        .map(|line| RunProblem::new(ProblemCause::Measurements, line));
    let measurements: Vec<RunProblem> = measurements.collect();
    let steps = unseen_steps(run)
        .map(|notice| RunProblem::new(ProblemCause::StepsNeverSeen, notice.text.clone()));
    interruption
        .into_iter()
        .chain(error)
        .chain(over_budget)
        .chain(measurements)
        .chain(steps)
        .collect()
}

/// Returns the notice that nothing of what the spec calls a step was seen, if a phase has it.
fn unseen_steps(run: &Run) -> Option<&Notice> {
    let mut notices = run.phases.iter().flat_map(|record| &record.notices);
    notices.find(|notice| notice.id.is_step_never_seen())
}

/// Gives every phase that did not end the status skipped or partial, with the reason.
fn close_open_phases(run: &mut Run, interrupted: bool, error: Option<&str>) {
    let reason = if interrupted { "interrupted" } else { error.unwrap_or("not reached") };
    for record in run.phases.iter_mut().filter(|record| record.status.is_none()) {
        let parts = record.measurements.iter().map(|measurement| measurement.status);
        let status = Status::of_parts(parts.chain([Status::Skipped]));
        record.status = Some(status);
        let text = format!("This phase was not completed: {reason}.");
        record.notices.push(Notice::new(NoticeId::PhaseCutShort, text));
    }
}

/// Returns the status of a run that has ended. It is ok exactly if there is no problem.
fn status(run: &Run) -> RunStatus {
    let combined = Status::of_parts(run.phases.iter().filter_map(|record| record.status));
    let has = |cause| run.problems.iter().any(|problem| problem.cause == cause);
    match combined {
        _ if has(ProblemCause::Interrupted) => RunStatus::Interrupted,
        Status::Ok if run.problems.is_empty() => RunStatus::Ok,
        Status::Ok | Status::Partial => RunStatus::Partial,
        _ => RunStatus::Failed,
    }
}

/// Reports the main results and where the reports are.
///
/// # Errors
/// Returns a problem if the name of the folder cannot be printed to standard output, where scripts read it.
fn report_results(session: &Session<'_>) -> Result<(), RunProblem> {
    let evidence = &session.evidence;
    let macro_ = evidence.macro_.as_ref().map(|(summary, _)| &summary.default.statements);
    let component = evidence.component.as_ref().map(|summary| &summary.statements);
    let line = evidence.line.as_ref().map(|summary| &summary.statements);
    let memory = evidence.line.as_ref().and_then(|summary| summary.memory.as_ref()?.headline());
    let system = evidence.system.as_ref().map(|summary| &summary.statements);
    let first = |statements: Option<&Vec<String>>| statements.and_then(|all| all.first().cloned());
    // The parts of the run, the largest component and the first function, as far as there are such statements.
    let of_macro = macro_.into_iter().flatten().take(3);
    let of_macro = of_macro.map(|statement| (Phase::Macro, Some(statement.clone())));
    let later = [
        (Phase::Component, first(component)),
        (Phase::Line, first(line)),
        (Phase::Line, memory),
        (Phase::System, first(system)),
    ];
    message("");
    for (phase, statement) in of_macro.chain(later) {
        if let Some(statement) = statement {
            message(&format!("  {} {statement}", phase.number()));
        }
    }
    let folder = relative(session.path());
    let phases = session.folder.run().phases.iter().map(|record| record.phase);
    let reports =
        phases.map(|phase| format!("{}/PHASE{}_REPORT.md", phase.folder(), phase.number()));
    let reports = reports.chain([CROSS_REFERENCE.to_owned()]);
    let written: Vec<String> =
        reports.filter(|report| session.path().join(report).exists()).collect();
    if written.is_empty() {
        message("");
        console::error(&format!("no report was written to {}", folder.display()));
    } else {
        message(&format!("\nsimprof: reports in {}: {}", folder.display(), written.join(", ")));
    }
    match console::print(&format!("{}\n", folder.display())) {
        // A closed pipe does not change the outcome of the run.
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            let text = format!("cannot write the name of the folder to standard output: {error}");
            Err(RunProblem::new(ProblemCause::FolderNotPrinted, text))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::processes::fake::manifest;

    fn ended(status: Status, ids: &[NoticeId]) -> Run {
        let mut run = manifest(&[Phase::Macro, Phase::System]);
        for record in &mut run.phases {
            record.status = Some(status);
            record.notices = ids.iter().map(|&id| Notice::new(id, "text")).collect();
        }
        run
    }

    #[test]
    fn the_status_is_ok_exactly_if_there_is_no_problem() {
        use ProblemCause::{Interrupted, StepsNeverSeen, Stopped};
        let unseen: &[NoticeId] = &[NoticeId::StepFunctionNotCalled];
        for (phases, ids, interrupted, error, causes, expected) in [
            (Status::Ok, &[][..], false, None, vec![], RunStatus::Ok),
            (Status::Ok, &[NoticeId::StepSeenOnce][..], false, None, vec![], RunStatus::Ok),
            (Status::Ok, unseen, false, None, vec![StepsNeverSeen], RunStatus::Partial),
            (Status::Ok, &[], false, Some("full"), vec![Stopped], RunStatus::Partial),
            (Status::Skipped, &[], false, Some("full"), vec![Stopped], RunStatus::Failed),
            (
                Status::Partial,
                unseen,
                true,
                None,
                vec![Interrupted, StepsNeverSeen],
                RunStatus::Interrupted,
            ),
        ] {
            let mut run = ended(phases, ids);
            run.problems = problems(&run, interrupted, error, None);
            let found: Vec<ProblemCause> = run.problems.iter().map(|one| one.cause).collect();
            assert_eq!((found, status(&run)), (causes, expected), "{run:?}");
        }
    }
}
