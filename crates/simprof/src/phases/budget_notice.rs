//! Reports what a campaign did not measure because its budget was used up.

use simprof_measure::campaign::Planned;
use simprof_model::{Measurement, Mode, Notice, NoticeId, Phase, Status};

use crate::session::Session;
use crate::text::counted;

/// Maximum number of measurements that are named.
const NAMED: usize = 5;

/// Adds a notice to a phase if the budget left out measurements or repetitions.
pub fn add_budget_notice(
    session: &mut Session<'_>,
    phase: Phase,
    planned: &[Planned],
    measurements: &[Measurement],
) {
    let Some(reason) = session.budget.reason() else { return };
    let is_skipped = |measurement: &&Measurement| {
        measurement.status == Status::Skipped && measurement.reason.as_ref() == Some(&reason)
    };
    let skipped: Vec<&str> =
        measurements.iter().filter(is_skipped).map(|skipped| skipped.name.as_str()).collect();
    let fewer: Vec<(usize, usize)> = planned
        .iter()
        .zip(measurements)
        .filter(|(_, measurement)| measurement.status.is_ok())
        .map(|(planned, measurement)| (measurement.replicates.len(), planned.repeats))
        .filter(|(done, wanted)| done < wanted)
        .collect();
    let parts = [skipped_text(&skipped), fewer_text(&fewer)];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    if !parts.is_empty() {
        add(session, phase, &reason, &parts.join(" "));
    }
}

/// Adds a notice that the budget left out one measurement.
pub fn add_skipped_notice(session: &mut Session<'_>, phase: Phase, name: &str) {
    let Some(reason) = session.budget.reason() else { return };
    if let Some(text) = skipped_text(&[name]) {
        add(session, phase, &reason, &text);
    }
}

fn add(session: &mut Session<'_>, phase: Phase, reason: &str, what: &str) {
    let fix = match session.plan.mode {
        Mode::Quick => "Run without --quick, or with a larger --budget, to measure everything.",
        Mode::Full => "Run without --budget, or with a larger one, to measure everything.",
    };
    let text = format!("{phase}: {reason}. {what} {fix}");
    session.notice(phase, Notice::new(NoticeId::BudgetUsedUp, text));
}

fn skipped_text(names: &[&str]) -> Option<String> {
    let named = names.iter().take(NAMED).copied().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(NAMED) {
        _ if names.is_empty() => None,
        0 => Some(format!("Skipped: {named}.")),
        more => Some(format!("Skipped: {named} and {more} more.")),
    }
}

/// `fewer` are the numbers of processes of measurements: measured and planned.
fn fewer_text(fewer: &[(usize, usize)]) -> Option<String> {
    let least = fewer.iter().map(|(done, _)| done).min()?;
    let most = fewer.iter().map(|(done, _)| done).max()?;
    let wanted = fewer.iter().map(|(_, wanted)| wanted).max()?;
    let range = if least == most { least.to_string() } else { format!("{least} to {most}") };
    let have = if fewer.len() == 1 { "has" } else { "have" };
    Some(format!("{} {have} {range} of {wanted} planned processes.", counted(fewer.len(), "point")))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use simprof_record::Outcome;

    use super::*;
    use crate::phases::run;
    use crate::processes::Observed;
    use crate::processes::fake::{FakeProcesses, FakeSession, ended, plan_within, sampled};

    const SWEEP: &str = "[target]\ncommand = [\"./sim\", \"{n}\"]\n\
                         [parameters]\nn = { default = 1, sweep = [4, 1, 8, 2] }\n";

    fn lasting(seconds: u64, mut process: Observed) -> Observed {
        process.recording.wall_ns = seconds * 1_000_000_000;
        process
    }

    /// Runs phase 4 of [`SWEEP`] with a budget. Returns what was started, the measurements with their number of processes, and
    /// the texts of the notices about the budget.
    fn sweep(
        budget_s: f64,
        seconds: &[u64],
    ) -> (Vec<String>, Vec<(String, Status, usize)>, Vec<String>) {
        let plan = plan_within(SWEEP, Some(Duration::from_secs_f64(budget_s)));
        let results = seconds.iter().map(|&time| lasting(time, ended(Outcome::Exited(0))));
        let processes = FakeProcesses::new(results);
        let mut fake = FakeSession::new(&plan, &processes);
        run(&mut fake.session, Phase::System).expect("results are written");
        let record = fake.record(Phase::System);
        let row = |measurement: &Measurement| {
            let count = measurement.ok_replicates().count();
            (measurement.name.clone(), measurement.status, count)
        };
        let mut measured: Vec<_> = record.measurements.iter().map(row).collect();
        measured.sort_by(|a, b| a.0.cmp(&b.0));
        let notices = record.notices.iter().filter(|notice| notice.id == NoticeId::BudgetUsedUp);
        let notices = notices.map(|notice| notice.text.clone()).collect();
        let started = processes.started().iter().map(|started| started.argv[1].clone()).collect();
        (started, measured, notices)
    }

    #[test]
    fn a_sweep_skips_the_largest_size_and_then_repetitions() {
        // The sizes 1, 2 and 4 take 7 s. Size 8 would take 8 s more. The last process is that of the timeline.
        let (started, measured, notices) = sweep(10.5, &[1, 2, 4, 2, 1, 1]);
        assert_eq!(started, ["1", "2", "4", "2", "1", "1"]);
        let row = |name: &str, status, count| (name.to_owned(), status, count);
        assert_eq!(
            measured,
            [
                row("n=1", Status::Ok, 2),
                row("n=2", Status::Ok, 2),
                row("n=4", Status::Ok, 1),
                row("n=8", Status::Skipped, 0),
                row("timeline default", Status::Ok, 1),
            ]
        );
        assert_eq!(notices.len(), 1, "{notices:?}");
        assert!(notices[0].contains("n=8") && !notices[0].contains("n=4"), "{notices:?}");
        assert!(notices[0].contains("10.5 s") && notices[0].contains("1 to 2 of 3"), "{notices:?}");
    }

    #[test]
    fn resources_over_time_are_skipped_if_sweeps_used_up_the_budget() {
        let (started, measured, notices) = sweep(2.5, &[1, 2]);
        assert_eq!(started, ["1", "2"]);
        let skipped: Vec<&str> = measured
            .iter()
            .filter(|(_, status, _)| *status == Status::Skipped)
            .map(|(name, ..)| name.as_str())
            .collect();
        assert_eq!(skipped, ["n=4", "n=8", "timeline default"]);
        assert_eq!(notices.len(), 2, "{notices:?}");
    }

    #[test]
    fn enough_time_leaves_nothing_out() {
        let (started, measured, notices) = sweep(1000.0, &[1, 2, 4, 8, 8, 4, 2, 1, 1, 1, 1, 1, 1]);
        assert_eq!(started.len(), 13);
        assert!(measured.iter().all(|(_, status, _)| status.is_ok()), "{measured:?}");
        assert_eq!(notices, [""; 0]);
    }

    #[test]
    fn recordings_are_repeated_within_their_share_of_the_budget() {
        let plan = plan_within("[target]\ncommand = [\"./sim\"]\n", Some(Duration::from_secs(21)));
        let results = (0..2).map(|_| lasting(4, sampled(Outcome::Exited(0), 10)));
        let processes = FakeProcesses::new(results);
        let mut fake = FakeSession::new(&plan, &processes);
        run(&mut fake.session, Phase::Macro).expect("results are written");
        assert_eq!(processes.started().len(), 2, "a third run would need the time of later phases");
        assert!(fake.record(Phase::Macro).measurements[0].status.is_ok());
    }

    #[test]
    fn every_phase_makes_one_run_however_long_it_takes() {
        let plan = plan_within("[target]\ncommand = [\"./sim\"]\n", Some(Duration::from_secs(60)));
        let results = (0..3).map(|_| lasting(300, sampled(Outcome::Exited(0), 10)));
        let processes = FakeProcesses::new(results);
        let mut fake = FakeSession::new(&plan, &processes);
        for (done, phase) in Phase::ALL.into_iter().enumerate() {
            run(&mut fake.session, phase).expect("results are written");
            // Without a benchmark, phase 2 uses the recording of phase 1.
            assert_eq!(processes.started().len(), if done == 0 { 1 } else { done });
            assert!(fake.record(phase).measurements.iter().all(|one| one.status.is_ok()));
            assert!(!fake.session.has_notice(phase, NoticeId::BudgetUsedUp));
        }
    }
}
