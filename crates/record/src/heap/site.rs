//! What is known of one stack of one process image, and of one stack of all images that have ended.

use simprof_model::{HeapAmounts, HeapOrigin, HeapSite};
use simprof_preload::heap::format::Origin;

use super::lanes::Event;
use super::sum::{Share, Sum};
use super::ticks::Course;

/// A number that grows with each new peak of what is alive.
pub type Epoch = u64;

/// What one stack of one process image allocated.
#[derive(Debug, Clone)]
pub struct Site {
    /// See [`simprof_preload::heap::format::Record::stack`].
    pub stack: u64,
    pub origin: Origin,
    pub counts: Counts,
    pub live: Sum,
    /// Allocations that were recorded less ends that were.
    live_records: i64,
    /// What was alive in the epoch `at_peak_epoch`, before its first change since.
    at_peak: Sum,
    at_peak_epoch: Epoch,
    /// Live bytes at ticks.
    pub course: Course,
    /// Whether it changed since the last tick.
    pub is_dirty: bool,
}

/// Sums that only grow.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    pub allocated: Sum,
    pub temporary: Sum,
    pub short_lived: Sum,
    pub reallocations: f64,
    pub largest: u64,
    pub records: u64,
}

impl Counts {
    /// An allocation that is a new one.
    pub fn allocate(&mut self, event: &Event, share: Share) {
        self.allocated.add(share);
        self.records += 1;
        self.largest = self.largest.max(event.size);
        if event.is_reallocation() {
            self.reallocations += share.count();
        }
    }

    fn absorb(&mut self, other: &Counts) {
        self.allocated.absorb(other.allocated);
        self.temporary.absorb(other.temporary);
        self.short_lived.absorb(other.short_lived);
        self.reallocations += other.reallocations;
        self.largest = self.largest.max(other.largest);
        self.records += other.records;
    }
}

impl Site {
    pub fn new(stack: u64, origin: Origin) -> Self {
        Self {
            stack,
            origin,
            counts: Counts::default(),
            live: Sum::default(),
            live_records: 0,
            at_peak: Sum::default(),
            at_peak_epoch: 0,
            course: Course::default(),
            is_dirty: false,
        }
    }

    /// An allocation, in the epoch before it.
    pub fn allocate(&mut self, share: Share, epoch: Epoch) {
        self.keep_peak(epoch);
        self.live.add(share);
        self.live_records += 1;
    }

    /// The end of an allocation.
    pub fn free(&mut self, share: Share, epoch: Epoch) {
        self.keep_peak(epoch);
        self.live_records -= 1;
        if self.live_records == 0 {
            // Sums of fractions leave dust.
            self.live = Sum::default();
        } else {
            self.live.remove(share);
        }
    }

    /// What was alive at the last peak, whose epoch this is.
    fn peak(&self, epoch: Epoch) -> Sum {
        if self.at_peak_epoch == epoch { self.at_peak } else { self.live }
    }

    /// Remembers what is alive before the first change since the last peak: that, and not what comes after, was alive then.
    fn keep_peak(&mut self, epoch: Epoch) {
        if self.at_peak_epoch != epoch {
            self.at_peak = self.live;
            self.at_peak_epoch = epoch;
        }
    }
}

/// What one stack of all images that have ended allocated.
#[derive(Debug, Clone)]
pub struct EndedSite {
    origin: Origin,
    counts: Counts,
    /// What was alive when its image ended.
    left: Sum,
    at_peak: Sum,
    at_peak_epoch: Epoch,
    pub courses: Vec<Course>,
}

impl EndedSite {
    pub fn new(origin: Origin) -> Self {
        Self {
            origin,
            counts: Counts::default(),
            left: Sum::default(),
            at_peak: Sum::default(),
            at_peak_epoch: 0,
            courses: Vec::new(),
        }
    }

    /// Takes in a site whose image ends in this epoch.
    pub fn absorb(&mut self, site: Site, epoch: Epoch) {
        self.counts.absorb(&site.counts);
        self.left.absorb(site.live);
        if self.at_peak_epoch != epoch {
            // There is a new peak since the last image ended, at which none of what had ended was alive.
            self.at_peak = Sum::default();
            self.at_peak_epoch = epoch;
        }
        self.at_peak.absorb(site.peak(epoch));
        if !site.course.is_empty() {
            self.courses.push(site.course);
        }
    }

    /// The site as it is kept, when the last epoch is this and live bytes took this course; its stack is still to be found.
    pub fn finish(&self, epoch: Epoch, live_at_ticks: Vec<u64>) -> HeapSite {
        let peak = if self.at_peak_epoch == epoch { self.at_peak } else { Sum::default() };
        let amounts = HeapAmounts {
            allocated: self.counts.allocated.amount(),
            peak: peak.amount(),
            live: self.left.amount(),
            temporary: self.counts.temporary.amount(),
            short_lived: self.counts.short_lived.amount(),
            reallocations: self.counts.reallocations.round() as u64,
            largest_bytes: self.counts.largest,
            records: self.counts.records,
            live_at_ticks,
        };
        HeapSite { stack: None, origin: origin(self.origin), amounts }
    }
}

fn origin(origin: Origin) -> HeapOrigin {
    match origin {
        Origin::Malloc => HeapOrigin::Malloc,
        Origin::Map => HeapOrigin::Map,
        Origin::Python => HeapOrigin::Python,
        Origin::Program => HeapOrigin::Program,
    }
}
