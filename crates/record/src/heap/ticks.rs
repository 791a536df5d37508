//! Live bytes at the ends of steps, or of intervals of time where there are no steps: a bounded number of them, so that two
//! neighbours become one where there are more.

use simprof_model::HeapTick;

use super::sum::Share;

/// Most ticks that are kept.
pub const TICKS: usize = 512;
/// Width of a tick of time at first, ns.
const WIDTH_NS: u64 = 10_000_000;

/// The ticks so far.
#[derive(Debug)]
pub struct Ticks {
    done: Vec<HeapTick>,
    /// The one at hand.
    current: Current,
    /// Where steps are marked, how many make a tick; else 0.
    steps_per_tick: u64,
    /// Where none are marked, how long a tick is.
    width_ns: u64,
    /// End of the tick at hand, where none are marked; 0 before the first event.
    due_ns: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Current {
    steps: u64,
    allocated: f64,
    allocations: f64,
    temporary: f64,
    population: Option<u64>,
}

/// What has become of the ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ticked {
    /// One has ended.
    Ended,
    /// One has ended, and all were merged two by two after it.
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
    /// Position of the tick at hand.
    pub fn position(&self) -> u32 {
        u32::try_from(self.done.len()).expect("at most as many as are kept")
    }

    /// The ticks.
    pub fn done(&self) -> &[HeapTick] {
        &self.done
    }

    pub fn allocated(&mut self, share: Share) {
        self.current.allocated += share.bytes();
        self.current.allocations += share.count();
    }

    pub fn temporary(&mut self, share: Share) {
        self.current.temporary += share.bytes();
    }

    /// From the first step on, ticks are steps: what came before is forgotten. Whether it was the first.
    pub fn step_begins(&mut self) -> bool {
        let first = self.steps_per_tick == 0;
        if first {
            self.done.clear();
            self.current = Current::default();
            self.steps_per_tick = 1;
        }
        first
    }

    /// A step ends: whether its tick does, too.
    pub fn step_ends(&mut self, population: Option<u64>) -> bool {
        self.current.steps += 1;
        self.current.population = population;
        self.current.steps >= self.steps_per_tick
    }

    /// The end of the tick of time at hand, if that is not after `time_ns`; none where ticks are steps.
    pub fn due(&mut self, time_ns: u64) -> Option<u64> {
        if self.steps_per_tick > 0 {
            return None;
        }
        if self.due_ns == 0 {
            self.due_ns = time_ns.saturating_add(self.width_ns);
        }
        (self.due_ns <= time_ns).then_some(self.due_ns)
    }

    /// Ends the tick at hand. Where all were merged, so must the courses be.
    pub fn end(&mut self, end_ns: u64, live: f64) -> Ticked {
        let Current { steps, allocated, allocations, temporary, population } =
            std::mem::take(&mut self.current);
        self.done.push(HeapTick {
            end_ns,
            steps,
            allocated_bytes: allocated.round() as u64,
            allocations: allocations.round() as u64,
            temporary_bytes: temporary.round() as u64,
            live_bytes: live.max(0.0).round() as u64,
            population,
        });
        self.due_ns = end_ns.saturating_add(self.width_ns);
        if self.done.len() < TICKS {
            return Ticked::Ended;
        }
        self.done = self.done.chunks(2).map(merged).collect();
        self.steps_per_tick *= 2;
        self.width_ns = self.width_ns.saturating_mul(2);
        self.due_ns = end_ns.saturating_add(self.width_ns);
        Ticked::Merged
    }
}

/// Neighbours as one.
fn merged(pair: &[HeapTick]) -> HeapTick {
    let last = *pair.last().expect("chunks are not empty");
    let sum = |part: fn(&HeapTick) -> u64| pair.iter().map(part).sum();
    HeapTick {
        steps: sum(|tick| tick.steps),
        allocated_bytes: sum(|tick| tick.allocated_bytes),
        allocations: sum(|tick| tick.allocations),
        temporary_bytes: sum(|tick| tick.temporary_bytes),
        ..last
    }
}

/// Live bytes of one site at those ticks before which they changed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Course(Vec<(u32, f64)>);

impl Course {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Live bytes at the end of a tick, which is after all that were noted before.
    pub fn note(&mut self, tick: u32, live: f64) {
        self.0.push((tick, live));
    }

    /// Follows a merger of ticks two by two: of a pair, the later counts.
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

    /// Most live bytes that were noted.
    pub fn most(&self) -> f64 {
        self.0.iter().map(|(_, live)| *live).fold(0.0, f64::max)
    }

    /// Adds it to a series with a value for each tick.
    pub fn add_to(&self, series: &mut [f64]) {
        for (at, &(tick, live)) in self.0.iter().enumerate() {
            let end = self.0.get(at + 1).map_or(series.len(), |next| next.0 as usize);
            let span = series.get_mut(tick as usize..end.max(tick as usize));
            span.into_iter().flatten().for_each(|value| *value += live);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn courses_follow_mergers() {
        let mut course = Course::default();
        for (tick, live) in [(1, 5.0), (2, 7.0), (3, 8.0), (6, 0.0)] {
            course.note(tick, live);
        }
        let series = |course: &Course, ticks| {
            let mut series = vec![1.0; ticks];
            course.add_to(&mut series);
            series
        };
        assert_eq!(series(&course, 8), [1.0, 6.0, 8.0, 9.0, 9.0, 9.0, 1.0, 1.0]);
        course.merge();
        assert_eq!(series(&course, 4), [6.0, 9.0, 9.0, 1.0]);
        assert_eq!(series(&course, 1), [6.0], "shorter than the course");
    }

    #[test]
    fn ticks_are_time_until_there_are_steps() {
        let mut ticks = Ticks::default();
        assert_eq!(ticks.due(1000), None);
        assert_eq!(ticks.due(1000 + WIDTH_NS), Some(1000 + WIDTH_NS));
        assert_eq!(ticks.end(1000 + WIDTH_NS, 5.4), Ticked::Ended);
        assert_eq!((ticks.done()[0].live_bytes, ticks.done()[0].steps), (5, 0));
        assert!(ticks.step_begins() && !ticks.step_begins());
        assert!(ticks.done().is_empty());
        assert_eq!(ticks.due(u64::MAX), None);
        assert!(ticks.step_ends(Some(3)));
        ticks.end(9, 1.0);
        assert_eq!(ticks.done()[0].population, Some(3));
    }

    #[test]
    fn many_steps_share_a_tick() {
        let mut ticks = Ticks::default();
        let mut mergers = 0;
        ticks.step_begins();
        for step in 0..5 * TICKS as u64 {
            ticks.allocated(Share::of(10, 1));
            if ticks.step_ends(Some(step)) {
                mergers += u32::from(ticks.end(step, step as f64) == Ticked::Merged);
            }
        }
        let done = ticks.done();
        assert!(mergers == 3 && done.len() < TICKS, "{mergers} {}", done.len());
        assert!(done.iter().all(|tick| tick.steps == 8 && tick.allocated_bytes == 80));
        assert_eq!(done[2].population, Some(23));
        assert_eq!(done[2].live_bytes, 23);
    }
}
