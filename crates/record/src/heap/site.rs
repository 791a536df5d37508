//! Allocations by site. A site is one stack and one kind of allocator, in one process image or in all ended images.

use simprof_model::{HeapAmounts, HeapOrigin, HeapSite};
use simprof_preload::heap::format::Origin;

use super::estimate::{Sum, Weighted};
use super::rings::HeapEvent;
use super::tick_series::LiveHistory;

/// The number of the peak so far: it grows by one with each new peak of live bytes.
pub type PeakNumber = u64;

/// A site of one process image.
#[derive(Debug, Clone)]
pub struct Site {
    /// See [`simprof_preload::heap::format::Record::stack`].
    pub stack: u64,
    pub origin: Origin,
    pub counts: Counts,
    pub live: Sum,
    /// Number of recorded allocations minus the number of recorded ends.
    live_records: i64,
    /// Live amount at the peak with the number `at_peak_number`. Set at the first change after that peak.
    at_peak: Sum,
    at_peak_number: PeakNumber,
    pub history: LiveHistory,
    /// Whether it changed since the last tick.
    pub is_dirty: bool,
}

/// Sums that only grow.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    pub allocated: Sum,
    pub in_steps: Sum,
    pub temporary: Sum,
    pub short_lived: Sum,
    pub reallocations: f64,
    pub largest: u64,
    pub records: u64,
}

impl Counts {
    /// Counts a new allocation.
    pub fn allocate(&mut self, event: &HeapEvent, weighted: Weighted) {
        self.allocated.add(weighted);
        self.records += 1;
        self.largest = self.largest.max(event.size);
        if event.is_reallocation() {
            self.reallocations += weighted.count();
        }
    }

    fn merge(&mut self, other: &Counts) {
        self.allocated.merge(other.allocated);
        self.in_steps.merge(other.in_steps);
        self.temporary.merge(other.temporary);
        self.short_lived.merge(other.short_lived);
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
            at_peak_number: 0,
            history: LiveHistory::default(),
            is_dirty: false,
        }
    }

    /// Counts an allocation as live. `peak` is the number of the last peak before it.
    pub fn allocate(&mut self, weighted: Weighted, peak: PeakNumber) {
        self.keep_peak(peak);
        self.live.add(weighted);
        self.live_records += 1;
    }

    /// Counts the end of an allocation. `peak` is the number of the last peak before it.
    pub fn free(&mut self, weighted: Weighted, peak: PeakNumber) {
        self.keep_peak(peak);
        self.live_records -= 1;
        if self.live_records == 0 {
            // Removes rounding errors.
            self.live = Sum::default();
        } else {
            self.live.remove(weighted);
        }
    }

    /// Returns the live amount at the last peak, which has the number `peak`.
    fn live_at_peak(&self, peak: PeakNumber) -> Sum {
        if self.at_peak_number == peak { self.at_peak } else { self.live }
    }

    /// Keeps the live amount at the last peak, before the first change since.
    fn keep_peak(&mut self, peak: PeakNumber) {
        if self.at_peak_number != peak {
            self.at_peak = self.live;
            self.at_peak_number = peak;
        }
    }
}

/// A site of all process images that have ended.
#[derive(Debug, Clone)]
pub struct EndedSite {
    origin: Origin,
    counts: Counts,
    /// Live amount when the images ended.
    live_at_end: Sum,
    at_peak: Sum,
    at_peak_number: PeakNumber,
    pub histories: Vec<LiveHistory>,
}

impl EndedSite {
    pub fn new(origin: Origin) -> Self {
        Self {
            origin,
            counts: Counts::default(),
            live_at_end: Sum::default(),
            at_peak: Sum::default(),
            at_peak_number: 0,
            histories: Vec::new(),
        }
    }

    /// Merges the site of an image that ends. `peak` is the number of the last peak before that end.
    pub fn merge(&mut self, site: Site, peak: PeakNumber) {
        self.counts.merge(&site.counts);
        self.live_at_end.merge(site.live);
        if self.at_peak_number != peak {
            // The peak is newer than the images merged so far: they had ended, so nothing of theirs was alive.
            self.at_peak = Sum::default();
            self.at_peak_number = peak;
        }
        self.at_peak.merge(site.live_at_peak(peak));
        if !site.history.is_empty() {
            self.histories.push(site.history);
        }
    }

    /// Returns the site for the profile, without its stack. `peak` is the number of the run's last peak.
    pub fn finish(&self, peak: PeakNumber, live_at_ticks: Vec<u64>) -> HeapSite {
        let peak = if self.at_peak_number == peak { self.at_peak } else { Sum::default() };
        let amounts = HeapAmounts {
            allocated: self.counts.allocated.amount(),
            in_steps: self.counts.in_steps.amount(),
            peak: peak.amount(),
            live: self.live_at_end.amount(),
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
