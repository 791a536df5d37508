//! The time that a run may take, and whether there is time for another process.

use std::fmt;
use std::time::{Duration, Instant};

/// The budget of a quick run.
pub const QUICK: Duration = Duration::from_secs(60);

/// The budget of a run, divided among its phases. It only prevents processes from starting; it never ends one.
pub struct Budget {
    limit: Option<Duration>,
    /// Returns the time since the start of the run.
    clock: Box<dyn Fn() -> Duration>,
    /// Time since the start at which the running phase has used up its share.
    phase_end: Duration,
    /// Whether the running phase has started a process. Its first one is always allowed.
    has_started: bool,
    /// Time that is kept for later processes of the running phase.
    aside: Duration,
}

/// The least time that a process is expected to take.
const SHORTEST: Duration = Duration::from_millis(1);

impl Budget {
    /// Creates a budget that begins now. `None` does not limit the run.
    pub fn new(limit: Option<Duration>) -> Self {
        let began = Instant::now();
        Self::with_clock(limit, move || began.elapsed())
    }

    /// Creates a budget with a clock that returns the time since the start of the run.
    pub fn with_clock(limit: Option<Duration>, clock: impl Fn() -> Duration + 'static) -> Self {
        let phase_end = limit.unwrap_or(Duration::MAX);
        let clock = Box::new(clock);
        Self { limit, clock, phase_end, has_started: false, aside: Duration::ZERO }
    }

    /// Returns whether the run is limited.
    pub fn is_limited(&self) -> bool {
        self.limit.is_some()
    }

    /// Begins a phase. Its share of the time that is left is that of `weight` in the sum of `weight` and `later`, the weights of
    /// the later phases. Time that it does not use is left for them.
    pub fn begin_phase(&mut self, weight: f64, later: f64) {
        (self.has_started, self.aside) = (false, Duration::ZERO);
        let Some(limit) = self.limit else { return };
        let now = (self.clock)();
        let share = if later > 0.0 { weight / (weight + later) } else { 1.0 };
        self.phase_end = now + limit.saturating_sub(now).mul_f64(share);
    }

    /// Records that the running phase starts a process.
    pub fn start_process(&mut self) {
        self.has_started = true;
    }

    /// Keeps this much of the share of the running phase for processes that run later. Zero releases it.
    pub fn set_aside(&mut self, time: Duration) {
        self.aside = time;
    }

    /// Returns why the running phase may not start a process that takes about `expected`, or `None` if it may. If nothing is known
    /// about its time, it may start as long as the share of the phase is not used up.
    pub fn refusal(&self, expected: Option<Duration>) -> Option<String> {
        let needed = expected.unwrap_or(SHORTEST).saturating_add(self.aside);
        let end = (self.clock)().saturating_add(needed);
        if self.has_started && end > self.phase_end { self.reason() } else { None }
    }

    /// Returns the reason for what the budget leaves out. `None` if the run is not limited.
    pub fn reason(&self) -> Option<String> {
        Some(format!("the phase used up its share of the budget of {}", describe(self.limit?)))
    }

    /// Returns the time that the running phase has left. `None` if the run is not limited.
    pub fn phase_time_left(&self) -> Option<Duration> {
        self.limit.map(|_| self.phase_end.saturating_sub((self.clock)()))
    }
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { limit, phase_end, has_started, aside, clock: _ } = self;
        f.debug_struct("Budget")
            .field("limit", limit)
            .field("phase_end", phase_end)
            .field("has_started", has_started)
            .field("aside", aside)
            .finish_non_exhaustive()
    }
}

/// Returns a budget for people: `60 s`.
pub fn describe(limit: Duration) -> String {
    format!("{} s", limit.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn budget(limit: Option<Duration>) -> (Budget, Rc<Cell<Duration>>) {
        let time = Rc::new(Cell::new(Duration::ZERO));
        let clock = Rc::clone(&time);
        (Budget::with_clock(limit, move || clock.get()), time)
    }

    #[test]
    fn a_phase_has_its_share_of_the_time_that_is_left() {
        let (mut budget, time) = budget(Some(s(60)));
        budget.begin_phase(1.0, 2.0);
        assert_eq!(budget.phase_time_left(), Some(s(20)));
        budget.start_process();
        assert_eq!(budget.refusal(Some(s(20))), None);
        assert!(budget.refusal(Some(s(21))).is_some());
        time.set(s(10));
        budget.begin_phase(1.0, 1.0);
        assert_eq!(budget.phase_time_left(), Some(s(25)), "unused time is left for later phases");
        budget.begin_phase(0.0, 0.0);
        assert_eq!(budget.phase_time_left(), Some(s(50)), "the last phase has all of it");
    }

    #[test]
    fn the_first_process_of_a_phase_is_always_allowed() {
        let (mut budget, time) = budget(Some(s(60)));
        time.set(s(300));
        for _ in 0..2 {
            budget.begin_phase(1.0, 1.0);
            assert_eq!(budget.refusal(Some(s(300))), None);
            budget.start_process();
            assert!(budget.refusal(None).is_some());
        }
    }

    #[test]
    fn time_is_kept_for_later_processes_of_a_phase() {
        let (mut budget, _) = budget(Some(s(60)));
        budget.begin_phase(1.0, 0.0);
        budget.start_process();
        budget.set_aside(s(20));
        assert_eq!(budget.refusal(Some(s(40))), None);
        assert!(budget.refusal(Some(s(41))).is_some());
        budget.set_aside(Duration::ZERO);
        assert_eq!(budget.refusal(Some(s(60))), None);
    }

    #[test]
    fn without_a_limit_everything_is_allowed() {
        let (mut budget, time) = budget(None);
        time.set(s(1_000_000));
        budget.begin_phase(1.0, 1.0);
        budget.start_process();
        assert_eq!(budget.refusal(Some(Duration::MAX)), None);
        assert_eq!((budget.phase_time_left(), budget.reason()), (None, None));
    }
}
