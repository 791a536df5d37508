//! Live bytes at ticks. A tick ends with a step; in a run without steps it ends after an interval of time.
//!
//! The number of ticks is bounded: when it reaches the maximum, ticks are merged in pairs.

use simprof_model::HeapTick;

use super::estimate::Weighted;

/// Number of ticks at which they are merged in pairs.
pub const TICKS: usize = 512;
/// Initial width of a tick in a run without steps, ns.
const WIDTH_NS: u64 = 10_000_000;

/// The ticks so far.
#[derive(Debug)]
pub struct Ticks {
    done: Vec<HeapTick>,
    current: Current,
    /// Number of steps per tick; 0 in a run without steps.
    steps_per_tick: u64,
    /// Width of a tick in a run without steps, ns.
    width_ns: u64,
    /// End of the current tick in a run without steps, ns; 0 before the first event.
    due_ns: u64,
}

/// Sums of the tick that has not ended yet.
#[derive(Debug, Clone, Copy, Default)]
struct Current {
    steps: u64,
    allocated: f64,
    allocations: f64,
    in_steps: f64,
    in_steps_allocations: f64,
    temporary: f64,
    population: Option<u64>,
}

/// Whether the ticks were merged when one ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TickEnd {
    /// A tick has ended.
    Ended,
    /// A tick has ended, and then all ticks were merged in pairs.
    Merged,
}

impl Default for Ticks {
    fn default() -> Self {
        Self {
            done: Vec::new(),
            current: Current::default(),
            steps_per_tick: 0,
            width_ns: WIDTH_NS,
            due_ns: 0,
        }
    }
}

impl Ticks {
    /// Returns the position of the current tick.
    pub fn position(&self) -> u32 {
        u32::try_from(self.done.len()).expect("at most TICKS")
    }

    /// Returns the ticks that have ended.
    pub fn done(&self) -> &[HeapTick] {
        &self.done
    }

    /// Counts an allocation in the current tick. `is_in_step` is whether a step runs.
    pub fn add_allocated(&mut self, weighted: Weighted, is_in_step: bool) {
        self.current.allocated += weighted.bytes();
        self.current.allocations += weighted.count();
        if is_in_step {
            self.current.in_steps += weighted.bytes();
            self.current.in_steps_allocations += weighted.count();
        }
    }

    /// Counts the end of a temporary allocation in the current tick.
    pub fn add_temporary(&mut self, weighted: Weighted) {
        self.current.temporary += weighted.bytes();
    }

    /// Begins a step. The first step discards all ticks so far, which were intervals of time. From then on, ticks are steps.
    /// Returns whether it was the first step.
    pub fn begin_step(&mut self) -> bool {
        let first = self.steps_per_tick == 0;
        if first {
            self.done.clear();
            self.current = Current::default();
            self.steps_per_tick = 1;
        }
        first
    }

    /// Ends a step. Returns whether its tick ends too.
    pub fn end_step(&mut self, population: Option<u64>) -> bool {
        self.current.steps += 1;
        self.current.population = population;
        self.current.steps >= self.steps_per_tick
    }

    /// Returns the end of the current tick if it is an interval of time that ends at or before `time_ns`. `None` if ticks are
    /// steps.
    pub fn due(&mut self, time_ns: u64) -> Option<u64> {
        if self.steps_per_tick > 0 {
            return None;
        }
        if self.due_ns == 0 {
            self.due_ns = time_ns.saturating_add(self.width_ns);
        }
        (self.due_ns <= time_ns).then_some(self.due_ns)
    }

    /// Ends the current tick. If this merges the ticks, the caller must merge all [`LiveHistory`] values too.
    pub fn end(&mut self, end_ns: u64, live: f64) -> TickEnd {
        let Current {
            steps,
            allocated,
            allocations,
            in_steps,
            in_steps_allocations,
            temporary,
            population,
        } = std::mem::take(&mut self.current);
        self.done.push(HeapTick {
            end_ns,
            steps,
            allocated_bytes: allocated.round() as u64,
            allocations: allocations.round() as u64,
            in_steps_bytes: in_steps.round() as u64,
            in_steps_allocations: in_steps_allocations.round() as u64,
            temporary_bytes: temporary.round() as u64,
            live_bytes: live.max(0.0).round() as u64,
            population,
        });
        self.due_ns = end_ns.saturating_add(self.width_ns);
        if self.done.len() < TICKS {
            return TickEnd::Ended;
        }
        self.done = self.done.chunks(2).map(merged).collect();
        self.steps_per_tick *= 2;
        self.width_ns = self.width_ns.saturating_mul(2);
        self.due_ns = end_ns.saturating_add(self.width_ns);
        TickEnd::Merged
    }
}

/// Merges one or two neighbouring ticks.
fn merged(pair: &[HeapTick]) -> HeapTick {
    let last = *pair.last().expect("chunks are not empty");
    let sum = |part: fn(&HeapTick) -> u64| pair.iter().map(part).sum();
    HeapTick {
        steps: sum(|tick| tick.steps),
        allocated_bytes: sum(|tick| tick.allocated_bytes),
        allocations: sum(|tick| tick.allocations),
        in_steps_bytes: sum(|tick| tick.in_steps_bytes),
        in_steps_allocations: sum(|tick| tick.in_steps_allocations),
        temporary_bytes: sum(|tick| tick.temporary_bytes),
        ..last
    }
}

/// Live bytes of one site over the ticks: the ticks at which they changed, in order, with the new value.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LiveHistory(Vec<(u32, f64)>);

impl LiveHistory {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Adds the live bytes at the end of a tick. Ticks must be added in order.
    pub fn push(&mut self, tick: u32, live: f64) {
        self.0.push((tick, live));
    }

    /// Merges the history as the ticks were merged: of each pair, the later value stays.
    pub fn merge(&mut self) {
        let mut merged: Vec<(u32, f64)> = Vec::with_capacity(self.0.len());
        for &(tick, live) in &self.0 {
            match merged.last_mut() {
                Some(last) if last.0 == tick / 2 => last.1 = live,
                _ => merged.push((tick / 2, live)),
            }
        }
        self.0 = merged;
    }

    /// Returns the most live bytes at any tick.
    pub fn max(&self) -> f64 {
        self.0.iter().map(|(_, live)| *live).fold(0.0, f64::max)
    }

    /// Adds the live bytes to a series with one value per tick.
    pub fn add_to(&self, series: &mut [f64]) {
        for (position, &(tick, live)) in self.0.iter().enumerate() {
            let end = self.0.get(position + 1).map_or(series.len(), |next| next.0 as usize);
            let span = series.get_mut(tick as usize..end.max(tick as usize));
            span.into_iter().flatten().for_each(|value| *value += live);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn live_histories_follow_merges() {
        let mut history = LiveHistory::default();
        for (tick, live) in [(1, 5.0), (2, 7.0), (3, 8.0), (6, 0.0)] {
            history.push(tick, live);
        }
        let series = |history: &LiveHistory, ticks| {
            let mut series = vec![1.0; ticks];
            history.add_to(&mut series);
            series
        };
        assert_eq!(series(&history, 8), [1.0, 6.0, 8.0, 9.0, 9.0, 9.0, 1.0, 1.0]);
        history.merge();
        assert_eq!(series(&history, 4), [6.0, 9.0, 9.0, 1.0]);
        assert_eq!(series(&history, 1), [6.0], "the series is shorter than the history");
    }

    #[test]
    fn ticks_are_intervals_of_time_until_the_first_step() {
        let mut ticks = Ticks::default();
        assert_eq!(ticks.due(1000), None);
        assert_eq!(ticks.due(1000 + WIDTH_NS), Some(1000 + WIDTH_NS));
        assert_eq!(ticks.end(1000 + WIDTH_NS, 5.4), TickEnd::Ended);
        assert_eq!((ticks.done()[0].live_bytes, ticks.done()[0].steps), (5, 0));
        assert!(ticks.begin_step() && !ticks.begin_step());
        assert!(ticks.done().is_empty());
        assert_eq!(ticks.due(u64::MAX), None);
        assert!(ticks.end_step(Some(3)));
        ticks.end(9, 1.0);
        assert_eq!(ticks.done()[0].population, Some(3));
    }

    #[test]
    fn ticks_are_merged_when_there_are_many_steps() {
        let mut ticks = Ticks::default();
        let mut merges = 0;
        ticks.begin_step();
        for step in 0..5 * TICKS as u64 {
            ticks.add_allocated(Weighted::new(10, 1), step % 2 == 0);
            if ticks.end_step(Some(step)) {
                merges += u32::from(ticks.end(step, step as f64) == TickEnd::Merged);
            }
        }
        let done = ticks.done();
        assert!(merges == 3 && done.len() < TICKS, "{merges} {}", done.len());
        assert!(done.iter().all(|tick| tick.steps == 8 && tick.allocated_bytes == 80));
        assert!(
            done.iter().all(|tick| (tick.in_steps_bytes, tick.in_steps_allocations) == (40, 4))
        );
        assert_eq!(done[2].population, Some(23));
        assert_eq!(done[2].live_bytes, 23);
    }
}
