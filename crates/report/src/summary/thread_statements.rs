//! The findings of phase 1 on what threads do.

use simprof_model::WaitCause;

use super::macro_::CaseSummary;
use super::thread_time::{SpinningLine, TimeShares, WaitingLine};
use crate::analysis::SpinKind;
use crate::format;

/// Share of the threads' time, or of CPU time for spinning, from which a part is a finding.
const SHARE_MIN: f64 = 0.05;

/// CPU time divided by wall time, below which a target whose threads are unknown may be waiting.
const BUSY: f64 = 0.8;

/// Returns the findings, one sentence each. `when` says which time of threads is meant, such as `Inside steps`.
pub(super) fn thread_statements(summary: &CaseSummary, when: &str) -> Vec<String> {
    let Some(time) = &summary.thread_time else { return unknown(summary).into_iter().collect() };
    let several = summary.threads.iter().map(|group| group.threads).sum::<f64>() > 1.0;
    let who = match (several, &summary.idle_threads) {
        (false, _) => "the thread spends its",
        (true, None) => "all threads together spend their",
        (true, Some(_)) => "all threads that are not idle together spend their",
    };
    let mix = format!("{when}, {who} time as follows: {}.", time.describe());
    let parts = [runnable(time), gil(time), longest_wait(&summary.waits), idle(summary)];
    let spinning = SpinKind::ALL.into_iter().filter_map(|kind| spins(kind, &summary.spinning));
    [mix].into_iter().chain(spinning).chain(parts.into_iter().flatten()).collect()
}

/// Without records of the scheduler, only the sum of CPU times is known.
fn unknown(summary: &CaseSummary) -> Option<String> {
    let busy = summary.cpu_s / summary.wall_s;
    (summary.wall_s > 0.0 && busy < BUSY).then(|| {
        format!(
            "The target's CPU time is {:.0} % of its wall time. It is unknown whether it waits for the rest or is ready to run \
             without a CPU.",
            100.0 * busy
        )
    })
}

fn runnable(time: &TimeShares) -> Option<String> {
    (time.runnable_share >= SHARE_MIN).then(|| {
        format!(
            "Threads are ready to run but have no CPU for {} of their time: other programs use the CPUs, there are more threads \
             than CPUs, or a quota stops them. This is not waiting.",
            format::share(time.runnable_share)
        )
    })
}

fn gil(time: &TimeShares) -> Option<String> {
    (time.gil_share >= SHARE_MIN).then(|| {
        format!(
            "Threads wait {} of their time for the interpreter's lock (GIL): more threads do not make the Python code faster.",
            format::share(time.gil_share)
        )
    })
}

fn longest_wait(waits: &[WaitingLine]) -> Option<String> {
    let other = |wait: &&WaitingLine| wait.cause != WaitCause::Interpreter;
    let wait = waits.iter().find(other).filter(|wait| wait.share >= SHARE_MIN)?;
    let call = wait.call.as_ref().map_or_else(String::new, |call| format!(", in {call}"));
    let place = match wait.unknown_place {
        Some(reason) => format!("at an unknown place ({})", reason.describe()),
        None => format!("in {}{}", wait.function, at(wait.file.as_deref(), wait.line)),
    };
    Some(format!(
        "The longest wait is {place}: {} of the time of all threads, {}{call}.",
        format::share(wait.share),
        purpose(wait.cause)
    ))
}

/// Returns what a wait is for, as the end of a sentence.
fn purpose(cause: WaitCause) -> &'static str {
    match cause {
        WaitCause::Interpreter => "for the GIL",
        WaitCause::Synchronisation => "for other threads",
        WaitCause::Sleep => "asleep",
        WaitCause::Events => "for events",
        WaitCause::Io => "for I/O",
        WaitCause::Child => "for child processes",
        WaitCause::Lock => "for a lock",
        WaitCause::Barrier => "at a barrier",
        WaitCause::Other => "for an unknown cause",
    }
}

fn spins(kind: SpinKind, lines: &[SpinningLine]) -> Option<String> {
    let of_kind = || lines.iter().filter(|line| line.kind == kind);
    let share: f64 = of_kind().map(|line| line.cpu_share).sum();
    let most = of_kind().next().filter(|_| share >= SHARE_MIN)?;
    let place = match (&*most.function, most.line) {
        ("", None) => {
            let library = most.library.as_ref();
            library.map_or_else(String::new, |library| {
                format!(": {} in {library}", format::share(most.cpu_share))
            })
        }
        (function, line) => {
            let place = format!("{function}{}", at(most.file.as_deref(), line));
            format!(": {} at {}", format::share(most.cpu_share), place.trim())
        }
    };
    Some(format!("{} of CPU time is {}, not work{place}.", format::share(share), kind.describe()))
}

fn idle(summary: &CaseSummary) -> Option<String> {
    let idle = summary.idle_threads.as_ref()?;
    let verb = if idle.threads == 1.0 { "is" } else { "are" };
    let number = format::threads(idle.threads);
    Some(format!(
        "{number} {verb} idle while others work, and not included above: {}.",
        idle.time.describe()
    ))
}

/// Returns ` (heat.c:9)`.
fn at(file: Option<&str>, line: Option<u32>) -> String {
    let name = file.and_then(|file| file.rsplit('/').next());
    match (name, line) {
        (Some(name), Some(line)) => format!(" ({name}:{line})"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(time: Option<TimeShares>) -> CaseSummary {
        CaseSummary { wall_s: 10.0, cpu_s: 2.0, thread_time: time, ..CaseSummary::default() }
    }

    #[test]
    fn a_target_without_a_cpu_is_not_said_to_wait_unless_it_is_known() {
        let [one] = &thread_statements(&case(None), "")[..] else { panic!("one statement") };
        assert!(one.contains("20 % of its wall time") && one.contains("unknown"), "{one}");
        let preempted =
            TimeShares { runnable_share: 0.8, native_share: 0.2, ..TimeShares::default() };
        let found = thread_statements(&case(Some(preempted)), "inside steps");
        assert!(found[1].contains("no CPU for 80 % of their time"), "{found:?}");
        assert!(found.iter().all(|text| !text.contains("wait is")), "{found:?}");
    }

    #[test]
    fn spinning_is_named_with_its_line() {
        let line = |kind, line, cpu_share| SpinningLine {
            kind,
            function: "relax".to_owned(),
            file: Some("src/heat.c".to_owned()),
            line,
            library: None,
            cpu_share,
        };
        let mut summary = case(Some(TimeShares::default()));
        summary.spinning = vec![
            line(SpinKind::Barrier, Some(9), 0.6),
            line(SpinKind::Barrier, Some(15), 0.2),
            line(SpinKind::Lock, Some(17), 0.01),
        ];
        let found = thread_statements(&summary, "");
        let expected =
            "80 % of CPU time is spinning at a barrier, not work: 60 % at relax (heat.c:9).";
        assert!(found.contains(&expected.to_owned()), "{found:?}");
        assert!(found.iter().all(|text| !text.contains("lock")), "{found:?}");
    }

    #[test]
    fn idle_threads_are_reported_apart() {
        let time = TimeShares { waiting_share: 1.0, ..TimeShares::default() };
        let mut summary = case(Some(TimeShares::default()));
        for (threads, begin) in
            [(3.0, "3 threads are"), (1.0, "1 thread is"), (0.9, "0.9 threads on average are")]
        {
            let time = time.clone();
            summary.idle_threads = Some(super::super::IdleThreads { threads, time });
            let found = thread_statements(&summary, "");
            assert!(found.iter().any(|text| text.starts_with(begin)), "{found:?}");
        }
    }
}
