//! Progress on standard error: bars with the time left on a terminal, plain lines otherwise.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::console::{self, message};

/// Minimum time between two plain lines within a phase.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// Shows the progress of a run.
#[derive(Debug)]
pub struct Progress {
    terminal: bool,
    bar: Option<ProgressBar>,
    phase: Phase,
}

/// The running phase.
#[derive(Debug)]
struct Phase {
    began: Instant,
    printed: Instant,
    planned: usize,
    done: usize,
    /// Its share of the budget, if that is limited.
    limit: Option<Duration>,
}

impl Progress {
    /// Creates a progress display. It shows bars if standard error is a terminal and
    /// nothing is logged to it.
    pub fn new() -> Self {
        let now = Instant::now();
        let terminal = std::io::stderr().is_terminal() && !crate::logging::is_on();
        let phase = Phase { began: now, printed: now, planned: 0, done: 0, limit: None };
        Self { terminal, bar: None, phase }
    }

    /// Starts a phase of `planned` units of work that is to end within `limit`.
    pub fn begin(&mut self, title: &str, planned: usize, limit: Option<Duration>) {
        let now = Instant::now();
        self.phase = Phase { began: now, printed: now, planned, done: 0, limit };
        if self.terminal {
            let bar = ProgressBar::new(planned as u64).with_style(style());
            bar.set_prefix(title.to_owned());
            bar.enable_steady_tick(Duration::from_millis(200));
            self.bar = Some(bar);
        } else {
            console::heading(&format!("{title}: started"));
        }
    }

    /// Adds `units` of work to the running phase.
    pub fn plan_more(&mut self, units: usize) {
        self.phase.planned += units;
        if let Some(bar) = &self.bar {
            bar.inc_length(units as u64);
        }
    }

    /// Shows what is running.
    pub fn current(&mut self, what: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(what.to_owned());
        }
    }

    /// Sets the number of finished units. `what` is the measurement that finished last.
    pub fn advance(&mut self, done: usize, what: &str) {
        self.phase.done = done.min(self.phase.planned);
        if let Some(bar) = &self.bar {
            bar.set_position(self.phase.done as u64);
        } else if self.phase.printed.elapsed() >= LINE_INTERVAL {
            self.phase.printed = Instant::now();
            let (done, planned) = (self.phase.done, self.phase.planned);
            message(&format!("  {done} of {planned}{}: {what}", self.time_left()));
        }
    }

    /// Reports above the bar what the user should know.
    pub fn note(&self, text: &str) {
        self.above(|| console::note(text));
    }

    /// Reports a failure above the bar.
    pub fn error(&self, text: &str) {
        self.above(|| console::error(text));
    }

    fn above(&self, print: impl FnOnce()) {
        match &self.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    /// Ends the phase and prints its outcome.
    pub fn end(&mut self, title: &str, outcome: &str) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        let seconds = self.phase.began.elapsed().as_secs_f64();
        console::heading(&format!("{title}: {outcome} ({seconds:.1} s)"));
    }

    fn time_left(&self) -> String {
        let Phase { began, planned, done, limit, .. } = self.phase;
        if done == 0 {
            return String::new();
        }
        let elapsed = began.elapsed();
        let left = elapsed.as_secs_f64() * (planned - done) as f64 / done as f64;
        let left_in_budget = limit.map(|limit| limit.saturating_sub(elapsed).as_secs_f64());
        let left = left_in_budget.map_or(left, |limit| left.min(limit));
        format!(", about {left:.0} s left")
    }
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("{prefix} [{bar:24}] {pos}/{len} {eta} left  {wide_msg}")
        .expect("the template is well formed")
        .progress_chars("=> ")
}
