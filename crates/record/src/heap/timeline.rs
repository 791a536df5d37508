//! Allocated and live bytes over time, in a bounded number of intervals.

use simprof_model::HeapInterval;

use super::estimate::Weighted;

/// Maximum number of intervals. When more are needed, intervals are merged in pairs.
const INTERVALS: usize = 1024;
/// Initial width of an interval, ns.
const WIDTH_NS: u64 = 1_000_000;

/// The intervals so far. The last one is still being filled.
#[derive(Debug)]
pub struct Timeline {
    begin_ns: u64,
    width_ns: u64,
    intervals: Vec<Interval>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Interval {
    allocated: f64,
    allocations: f64,
    live_max: f64,
    live: f64,
}

impl Timeline {
    /// Creates a timeline that begins at this time.
    pub fn new(begin_ns: u64) -> Self {
        Self { begin_ns, width_ns: WIDTH_NS, intervals: vec![Interval::default()] }
    }

    /// Counts an allocation at this time.
    pub fn add_allocated(&mut self, time_ns: u64, weighted: Weighted) {
        let interval = self.interval_at(time_ns);
        interval.allocated += weighted.bytes();
        interval.allocations += weighted.count();
    }

    /// Sets the live bytes from this time on.
    pub fn set_live(&mut self, time_ns: u64, live: f64) {
        let interval = self.interval_at(time_ns);
        interval.live = live;
        interval.live_max = interval.live_max.max(live);
    }

    /// Returns all intervals.
    pub fn finish(self) -> Vec<HeapInterval> {
        let end_ns = |position: usize| {
            self.begin_ns.saturating_add(self.width_ns.saturating_mul(position as u64 + 1))
        };
        let rounded = |number: f64| number.max(0.0).round() as u64;
        let interval = |(position, interval): (usize, &Interval)| HeapInterval {
            end_ns: end_ns(position),
            allocated_bytes: rounded(interval.allocated),
            allocations: rounded(interval.allocations),
            live_bytes_max: rounded(interval.live_max),
            live_bytes: rounded(interval.live),
        };
        self.intervals.iter().enumerate().map(interval).collect()
    }

    /// Returns the interval that contains `time_ns`. Times must come in order; a late one counts in the last interval.
    fn interval_at(&mut self, time_ns: u64) -> &mut Interval {
        let since = time_ns.saturating_sub(self.begin_ns);
        while since / self.width_ns >= INTERVALS as u64 {
            self.intervals = self.intervals.chunks(2).map(merged).collect();
            self.width_ns *= 2;
        }
        let position = (since / self.width_ns) as usize;
        let last = *self.intervals.last().expect("there is always one");
        let unchanged = Interval { live: last.live, live_max: last.live, ..Interval::default() };
        while self.intervals.len() <= position {
            self.intervals.push(unchanged);
        }
        self.intervals.last_mut().expect("there is always one")
    }
}

fn merged(pair: &[Interval]) -> Interval {
    let last = pair.last().expect("chunks are not empty");
    Interval {
        allocated: pair.iter().map(|interval| interval.allocated).sum(),
        allocations: pair.iter().map(|interval| interval.allocations).sum(),
        live_max: pair.iter().map(|interval| interval.live_max).fold(0.0, f64::max),
        live: last.live,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_bounded_and_keep_all_allocations() {
        let mut timeline = Timeline::new(100);
        for step in 0..5000_u64 {
            let time_ns = 100 + step * WIDTH_NS;
            timeline.add_allocated(time_ns, Weighted::new(8, 1));
            timeline.set_live(time_ns, (step % 7) as f64);
        }
        let intervals = timeline.finish();
        assert!((INTERVALS / 2..=INTERVALS).contains(&intervals.len()), "{}", intervals.len());
        assert_eq!(intervals.iter().map(|interval| interval.allocated_bytes).sum::<u64>(), 40_000);
        assert_eq!(intervals[0].end_ns, 100 + 8 * WIDTH_NS);
        assert_eq!((intervals[0].live_bytes_max, intervals[0].live_bytes), (6, 0));
    }

    #[test]
    fn live_bytes_stay_until_they_change() {
        let mut timeline = Timeline::new(0);
        timeline.set_live(0, 5.0);
        timeline.set_live(3 * WIDTH_NS, 1.0);
        let live: Vec<_> =
            timeline.finish().iter().map(|i| (i.live_bytes, i.live_bytes_max)).collect();
        assert_eq!(live, [(5, 5), (5, 5), (5, 5), (1, 5)]);
    }
}
