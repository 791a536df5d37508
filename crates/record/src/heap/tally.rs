//! Sums allocations by stack, over time, by step and by size. The cost per event does not depend on how much is alive.

use std::collections::BTreeMap;

use simprof_model::{HeapInterval, HeapSite, HeapSizeClass, HeapTick, SHORT_LIVED_NS};
use simprof_preload::heap::format::{Kind, Origin, flag};

use super::estimate::{Sum, Weighted};
use super::rings::HeapEvent;
use super::site::{EndedSite, PeakNumber, Site};
use super::tick_series::{LiveHistory, TickEnd, Ticks};
use super::timeline::Timeline;
use crate::sample::FastMap;

/// Number of size classes: one for size 0, and one for each power of two.
const CLASSES: usize = 65;
/// Number of sites whose live bytes at ticks are kept: those with the most live bytes at any tick.
const HISTORIES: usize = 200;

/// The sums so far.
///
/// Events, steps and ends of images must come in order of time. An event that comes late counts at the time of the latest
/// one so far.
#[derive(Debug)]
pub struct Tally {
    interval: u64,
    /// Images that live, by slot.
    images: BTreeMap<u32, Image>,
    /// Sites of images that have ended.
    ended: FastMap<(u64, u8), EndedSite>,
    live: Sum,
    peak: Peak,
    steps: Steps,
    ticks: Ticks,
    /// Sites that changed since the last tick: slot of the image, and number of the site in it.
    dirty: Vec<(u32, u32)>,
    timeline: Timeline,
    /// Allocations and bytes by size class.
    sizes: [(f64, f64); CLASSES],
    stacks_cut: u64,
}

/// The sites of a live process image.
#[derive(Debug, Default)]
struct Image {
    sites: Vec<Site>,
    known: FastMap<(u64, u8), u32>,
}

/// The moment with the most live bytes so far.
#[derive(Debug, Default)]
struct Peak {
    bytes: f64,
    number: PeakNumber,
    time_ns: u64,
    step: Option<u64>,
}

/// Steps so far.
#[derive(Debug, Default)]
struct Steps {
    /// Number of steps that are running.
    open: u32,
    /// When the last step began, and its index.
    begin_ns: u64,
    index: u64,
    ended: u64,
}

impl Steps {
    /// Returns whether an allocation that was made at `made_ns` and ends now began and ended in the same step.
    fn is_within_step(&self, made_ns: u64) -> bool {
        self.open > 0 && made_ns >= self.begin_ns
    }
}

/// All sums at the end of the recording.
#[derive(Debug)]
pub struct Totals {
    /// Each with the nodes of its stack.
    pub sites: Vec<(u64, HeapSite)>,
    pub ticks: Vec<HeapTick>,
    pub steps: u64,
    pub timeline: Vec<HeapInterval>,
    pub sizes: Vec<HeapSizeClass>,
    pub peak_ns: u64,
    pub peak_step: Option<u64>,
    pub stacks_cut: u64,
}

impl Tally {
    /// Creates empty sums that begin at `begin_ns`, for a sampling interval of `interval` bytes.
    pub fn new(interval: u64, begin_ns: u64) -> Self {
        Self {
            interval,
            images: BTreeMap::new(),
            ended: FastMap::default(),
            live: Sum::default(),
            peak: Peak::default(),
            steps: Steps::default(),
            ticks: Ticks::default(),
            dirty: Vec::new(),
            timeline: Timeline::new(begin_ns),
            sizes: [(0.0, 0.0); CLASSES],
            stacks_cut: 0,
        }
    }

    /// Adds an allocation or its end.
    pub fn add(&mut self, event: &HeapEvent) {
        while let Some(end_ns) = self.ticks.due(event.time_ns) {
            self.end_tick(end_ns);
        }
        let weighted = Weighted::new(event.size, self.interval);
        match event.kind {
            Kind::Alloc => self.allocate(event, weighted),
            Kind::Free => self.free(event, weighted),
        }
        self.timeline.set_live(event.time_ns, self.live.bytes);
    }

    /// Begins a step.
    pub fn begin_step(&mut self, time_ns: u64, index: u64) {
        self.steps.open += 1;
        (self.steps.begin_ns, self.steps.index) = (time_ns, index);
        if self.ticks.begin_step() {
            self.restart_histories();
        }
    }

    /// Ends a step.
    pub fn end_step(&mut self, time_ns: u64, population: Option<u64>) {
        self.steps.open = self.steps.open.saturating_sub(1);
        self.steps.ended += 1;
        self.ticks.begin_step();
        if self.ticks.end_step(population) {
            self.end_tick(time_ns);
        }
    }

    /// Ends a process image, and with it all its allocations.
    pub fn end_image(&mut self, slot: u32, time_ns: u64) {
        let Some(image) = self.images.remove(&slot) else { return };
        let tick = self.ticks.position();
        let peak = self.peak.number;
        self.dirty.retain(|dirty| dirty.0 != slot);
        for mut site in image.sites {
            let ended = site.live;
            self.live.bytes -= ended.bytes;
            self.live.count -= ended.count;
            if !site.history.is_empty() {
                site.history.push(tick, 0.0);
            }
            merge(&mut self.ended, site, peak);
        }
        self.timeline.set_live(time_ns, self.live.bytes);
    }

    /// Returns all sums.
    pub fn finish(mut self) -> Totals {
        let peak = self.peak.number;
        for site in std::mem::take(&mut self.images).into_values().flat_map(|image| image.sites) {
            merge(&mut self.ended, site, peak);
        }
        let live_at_ticks = self.live_at_ticks();
        let sites = self.ended.iter().map(|(&key, site)| {
            let live_at_ticks = live_at_ticks.get(&key).cloned().unwrap_or_default();
            (key.0, site.finish(peak, live_at_ticks))
        });
        let mut sites: Vec<_> = sites.collect();
        sites
            .sort_by_key(|(stack, site)| (std::cmp::Reverse(site.amounts.allocated.bytes), *stack));
        Totals {
            sites,
            ticks: self.ticks.done().to_vec(),
            steps: self.steps.ended,
            timeline: self.timeline.finish(),
            sizes: size_classes(&self.sizes),
            peak_ns: self.peak.time_ns,
            peak_step: self.peak.step,
            stacks_cut: self.stacks_cut,
        }
    }

    fn allocate(&mut self, event: &HeapEvent, weighted: Weighted) {
        let number = self.peak.number;
        let is_in_step = self.steps.open > 0;
        let site = site(&mut self.images, &mut self.dirty, event);
        site.allocate(weighted, number);
        if !event.is_remainder() {
            site.counts.allocate(event, weighted);
            if is_in_step {
                site.counts.in_steps.add(weighted);
            }
        }
        self.live.add(weighted);
        if self.live.bytes > self.peak.bytes {
            let step = (self.steps.open > 0).then_some(self.steps.index);
            let (bytes, time_ns) = (self.live.bytes, event.time_ns);
            self.peak = Peak { bytes, number: number + 1, time_ns, step };
        }
        if event.is_remainder() {
            return;
        }
        self.ticks.add_allocated(weighted, is_in_step);
        self.timeline.add_allocated(event.time_ns, weighted);
        let class = &mut self.sizes[size_class(event.size)];
        class.0 += weighted.count();
        class.1 += weighted.bytes();
        let cut = u64::from(event.flags) & (flag::CUT | flag::PARTIAL | flag::PYTHON_PARTIAL) != 0;
        self.stacks_cut += u64::from(cut || event.stack == 0);
    }

    fn free(&mut self, event: &HeapEvent, weighted: Weighted) {
        let site = site(&mut self.images, &mut self.dirty, event);
        site.free(weighted, self.peak.number);
        // A reallocated allocation lives on with another size, so it is neither temporary nor short-lived.
        if !event.is_reallocation() {
            if self.steps.is_within_step(event.made_ns) {
                site.counts.temporary.add(weighted);
                self.ticks.add_temporary(weighted);
            }
            if event.time_ns.saturating_sub(event.made_ns) < SHORT_LIVED_NS {
                site.counts.short_lived.add(weighted);
            }
        }
        self.live.remove(weighted);
    }

    fn end_tick(&mut self, time_ns: u64) {
        let tick = self.ticks.position();
        for (slot, number) in self.dirty.drain(..) {
            let Some(image) = self.images.get_mut(&slot) else { continue };
            let site = &mut image.sites[number as usize];
            site.is_dirty = false;
            site.history.push(tick, site.live.bytes);
        }
        if self.ticks.end(time_ns, self.live.bytes) == TickEnd::Merged {
            let live = self.images.values_mut().flat_map(|image| &mut image.sites);
            live.for_each(|site| site.history.merge());
            let ended = self.ended.values_mut().flat_map(|site| &mut site.histories);
            ended.for_each(LiveHistory::merge);
        }
    }

    /// Discards all histories. Those of live sites begin again with the next tick.
    fn restart_histories(&mut self) {
        self.ended.values_mut().for_each(|site| site.histories.clear());
        self.dirty.clear();
        for (&slot, image) in &mut self.images {
            for (number, site) in (0..).zip(&mut image.sites) {
                site.history.clear();
                site.is_dirty = true;
                self.dirty.push((slot, number));
            }
        }
    }

    /// Returns the live bytes at all ticks of the [`HISTORIES`] sites with the most live bytes.
    fn live_at_ticks(&self) -> BTreeMap<(u64, u8), Vec<u64>> {
        // The sum of the maxima of all images is an upper bound of the maximum of their sum.
        let bound = |site: &EndedSite| site.histories.iter().map(LiveHistory::max).sum::<f64>();
        let mut sites: Vec<(f64, (u64, u8))> =
            self.ended.iter().map(|(&key, site)| (bound(site), key)).collect();
        sites.retain(|(bound, _)| *bound >= 0.5);
        sites.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let mut kept: Vec<(u64, (u64, u8), Vec<u64>)> = Vec::new();
        for (bound, key) in sites {
            // There may be a million sites. Stop at the first one that cannot be among the kept ones.
            if kept.get(HISTORIES - 1).is_some_and(|(least, ..)| *least as f64 >= bound) {
                break;
            }
            let series = self.live_series(key);
            let max = series.iter().copied().max().unwrap_or(0);
            let position = kept.partition_point(|(other, ..)| *other >= max);
            kept.insert(position, (max, key, series));
            kept.truncate(HISTORIES);
        }
        let kept = kept.into_iter().filter(|(max, ..)| *max > 0);
        kept.map(|(_, key, series)| (key, series)).collect()
    }

    /// Returns the live bytes of a site at all ticks, summed over all process images.
    fn live_series(&self, key: (u64, u8)) -> Vec<u64> {
        let mut series = vec![0.0; self.ticks.done().len()];
        self.ended[&key].histories.iter().for_each(|history| history.add_to(&mut series));
        series.into_iter().map(|live: f64| live.max(0.0).round() as u64).collect()
    }
}

/// Returns the site of an event, and marks it as changed.
fn site<'a>(
    images: &'a mut BTreeMap<u32, Image>,
    dirty: &mut Vec<(u32, u32)>,
    event: &HeapEvent,
) -> &'a mut Site {
    let image = images.entry(event.slot).or_default();
    let sites = &mut image.sites;
    let number = *image.known.entry((event.stack, event.origin as u8)).or_insert_with(|| {
        sites.push(Site::new(event.stack, event.origin));
        u32::try_from(sites.len() - 1).expect("fewer stacks than nodes")
    });
    let site = &mut image.sites[number as usize];
    if !site.is_dirty {
        site.is_dirty = true;
        dirty.push((event.slot, number));
    }
    site
}

/// Merges the site of an image that ends into the sites of all ended images.
fn merge(ended: &mut FastMap<(u64, u8), EndedSite>, site: Site, peak: PeakNumber) {
    let origin: Origin = site.origin;
    let known = ended.entry((site.stack, origin as u8));
    known.or_insert_with(|| EndedSite::new(origin)).merge(site, peak);
}

/// Returns the number of the size's class: 0 for size 0, otherwise 1 + the binary logarithm, rounded down.
fn size_class(size: u64) -> usize {
    (u64::BITS - size.leading_zeros()) as usize
}

fn size_classes(sizes: &[(f64, f64)]) -> Vec<HeapSizeClass> {
    let class = |(number, &(count, bytes)): (usize, &(f64, f64))| HeapSizeClass {
        from_bytes: if number == 0 { 0 } else { 1 << (number - 1) },
        count: count.round() as u64,
        bytes: bytes.round() as u64,
    };
    sizes.iter().enumerate().filter(|(_, (count, _))| *count > 0.0).map(class).collect()
}
