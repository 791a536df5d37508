//! The spans of time that the steps of a run cover, by process.

use std::collections::HashMap;

use simprof_model::{Profile, Steps, ThreadId, merged_spans};

/// The position of a moment relative to steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Window {
    /// Before the first step.
    Before,
    /// In a step.
    Inside,
    /// After the first step began and before the last one ended, but in no step.
    Between,
    /// After the last step.
    After,
}

/// The steps of one run.
#[derive(Debug, Clone, Default)]
pub struct RunSteps {
    /// Start of the run, CLOCK_MONOTONIC, ns.
    pub start_ns: u64,
    /// Its steps.
    pub steps: Steps,
}

/// The spans of the steps of several runs.
///
/// A process that marks steps is inside a step while one of its own steps runs, with all its threads: the thread that marks
/// a step often lets others work for it. A process that marks none works for those that do, so it is inside a step while
/// any step runs.
#[derive(Debug)]
pub(super) struct StepSpans {
    runs: Vec<RunSpans>,
}

#[derive(Debug)]
struct RunSpans {
    start_ns: u64,
    /// Spans of the processes that mark steps.
    by_process: HashMap<u32, Spans>,
    all: Spans,
    /// When each step began, in order.
    begins: Vec<u64>,
}

/// Disjoint spans of time in order.
#[derive(Debug, Default)]
struct Spans(Vec<(u64, u64)>);

impl StepSpans {
    /// `runs` are in order of time.
    pub(super) fn new(profile: &Profile, runs: &[RunSteps]) -> Self {
        let processes: HashMap<u32, u32> =
            profile.threads.iter().map(|thread| (thread.tid, thread.pid)).collect();
        let spans = |run: &RunSteps| {
            let mut by_process: HashMap<u32, Vec<(u64, u64)>> = HashMap::new();
            for step in &run.steps.steps {
                if let Some(pid) = step.thread.and_then(|tid| processes.get(&tid)) {
                    by_process.entry(*pid).or_default().push((step.begin_ns, step.end_ns));
                }
            }
            let mut begins: Vec<u64> = run.steps.steps.iter().map(|step| step.begin_ns).collect();
            begins.sort_unstable();
            RunSpans {
                start_ns: run.start_ns,
                by_process: by_process
                    .into_iter()
                    .map(|(pid, spans)| (pid, Spans(merged_spans(spans))))
                    .collect(),
                all: Spans(run.steps.spans()),
                begins,
            }
        };
        Self { runs: runs.iter().map(spans).collect() }
    }

    /// Returns the window of a moment of a thread.
    pub(super) fn window(&self, profile: &Profile, thread: ThreadId, time_ns: u64) -> Window {
        self.of(profile, thread, time_ns).map_or(Window::Before, |spans| spans.window(time_ns))
    }

    /// Returns the time between `begin_ns` and `end_ns` in which a thread is inside steps, ns.
    pub(super) fn inside_ns(
        &self,
        profile: &Profile,
        thread: ThreadId,
        begin_ns: u64,
        end_ns: u64,
    ) -> u64 {
        self.of(profile, thread, end_ns).map_or(0, |spans| spans.overlap(begin_ns, end_ns))
    }

    /// Returns the position of the step that began last before a moment, among the steps of its run.
    pub(super) fn position(&self, time_ns: u64) -> usize {
        let begins = self.run(time_ns).map(|run| run.begins.as_slice()).unwrap_or_default();
        begins.partition_point(|&begin| begin <= time_ns).saturating_sub(1)
    }

    /// Returns the largest number of steps of a run.
    pub(super) fn steps_of_run(&self) -> usize {
        self.runs.iter().map(|run| run.begins.len()).max().unwrap_or(0)
    }

    fn run(&self, time_ns: u64) -> Option<&RunSpans> {
        let after = self.runs.partition_point(|run| run.start_ns <= time_ns);
        self.runs.get(after.saturating_sub(1))
    }

    fn of(&self, profile: &Profile, thread: ThreadId, time_ns: u64) -> Option<&Spans> {
        let run = self.run(time_ns)?;
        let pid = profile.threads.get(thread.index()).map(|thread| thread.pid);
        Some(pid.and_then(|pid| run.by_process.get(&pid)).unwrap_or(&run.all))
    }
}

impl Spans {
    /// A moment at the end of a step is not in it.
    fn window(&self, time_ns: u64) -> Window {
        let after = self.0.partition_point(|&(begin, _)| begin <= time_ns);
        match after.checked_sub(1).map(|last| self.0[last]) {
            None => Window::Before,
            Some((_, end)) if time_ns < end => Window::Inside,
            Some(_) if after == self.0.len() => Window::After,
            Some(_) => Window::Between,
        }
    }

    fn overlap(&self, begin_ns: u64, end_ns: u64) -> u64 {
        let first = self.0.partition_point(|&(_, end)| end <= begin_ns);
        self.0[first..]
            .iter()
            .take_while(|&&(begin, _)| begin < end_ns)
            .map(|&(begin, end)| end.min(end_ns) - begin.max(begin_ns))
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_step_is_not_in_it() {
        let spans = Spans(vec![(90, 95), (100, 130), (200, 250)]);
        let windows: Vec<Window> =
            [89, 90, 95, 129, 130, 249, 250].map(|time| spans.window(time)).into();
        use Window::{After, Before, Between, Inside};
        assert_eq!(windows, [Before, Inside, Between, Inside, Between, Inside, After]);
        assert_eq!(Spans::default().window(1), Before);
    }

    #[test]
    fn overlaps_are_summed() {
        let spans = Spans(vec![(100, 130), (200, 250)]);
        for (begin, end, expected) in
            [(0, 50, 0), (0, 1000, 80), (110, 210, 30), (130, 200, 0), (220, 230, 10)]
        {
            assert_eq!(spans.overlap(begin, end), expected, "{begin} to {end}");
        }
    }
}
