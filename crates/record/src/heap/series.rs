//! The course of memory over time, in a bounded number of intervals.

use simprof_model::HeapInterval;

use super::sum::Share;

/// Most intervals that are kept.
const INTERVALS: usize = 1024;
/// Width of an interval at first, ns.
const WIDTH_NS: u64 = 1_000_000;

/// The intervals so far; the last is being filled.
#[derive(Debug)]
pub struct Series {
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

impl Series {
    /// Begins at this time.
    pub fn new(begin_ns: u64) -> Self {
        Self { begin_ns, width_ns: WIDTH_NS, intervals: vec![Interval::default()] }
    }

    /// An allocation at this time.
    pub fn allocated(&mut self, time_ns: u64, share: Share) {
        let interval = self.at(time_ns);
        interval.allocated += share.bytes();
        interval.allocations += share.count();
    }

    /// What is alive from this time on.
    pub fn live(&mut self, time_ns: u64, live: f64) {
        let interval = self.at(time_ns);
        interval.live = live;
        interval.live_max = interval.live_max.max(live);
    }

    /// All intervals.
    pub fn finish(self) -> Vec<HeapInterval> {
        let end =
            |at: usize| self.begin_ns.saturating_add(self.width_ns.saturating_mul(at as u64 + 1));
        let whole = |number: f64| number.max(0.0).round() as u64;
        let interval = |(at, interval): (usize, &Interval)| HeapInterval {
            end_ns: end(at),
            allocated_bytes: whole(interval.allocated),
            allocations: whole(interval.allocations),
            live_bytes_max: whole(interval.live_max),
            live_bytes: whole(interval.live),
        };
        self.intervals.iter().enumerate().map(interval).collect()
    }

    /// The interval of a time, which is not before the last one that was asked for.
    fn at(&mut self, time_ns: u64) -> &mut Interval {
        let since = time_ns.saturating_sub(self.begin_ns);
        while since / self.width_ns >= INTERVALS as u64 {
            self.intervals = self.intervals.chunks(2).map(merged).collect();
            self.width_ns *= 2;
        }
        let at = (since / self.width_ns) as usize;
        let last = *self.intervals.last().expect("there is always one");
        let still = Interval { live: last.live, live_max: last.live, ..Interval::default() };
        while self.intervals.len() <= at {
            self.intervals.push(still);
        }
        // What comes late belongs to the interval at hand.
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
    fn time_is_bounded_and_nothing_is_lost() {
        let mut series = Series::new(100);
        for step in 0..5000_u64 {
            let time_ns = 100 + step * WIDTH_NS;
            series.allocated(time_ns, Share::of(8, 1));
            series.live(time_ns, (step % 7) as f64);
        }
        let intervals = series.finish();
        assert!((INTERVALS / 2..=INTERVALS).contains(&intervals.len()), "{}", intervals.len());
        assert_eq!(intervals.iter().map(|interval| interval.allocated_bytes).sum::<u64>(), 40_000);
        assert_eq!(intervals[0].end_ns, 100 + 8 * WIDTH_NS);
        assert_eq!((intervals[0].live_bytes_max, intervals[0].live_bytes), (6, 0));
    }

    #[test]
    fn what_is_alive_stays_so() {
        let mut series = Series::new(0);
        series.live(0, 5.0);
        series.live(3 * WIDTH_NS, 1.0);
        let live: Vec<_> =
            series.finish().iter().map(|i| (i.live_bytes, i.live_bytes_max)).collect();
        assert_eq!(live, [(5, 5), (5, 5), (5, 5), (1, 5)]);
    }
}
