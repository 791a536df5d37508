//! Adds up what happened: by stack, over time, by step, by size. Each event costs the same, however much is alive.

use std::collections::BTreeMap;

use simprof_model::{HeapInterval, HeapSite, HeapSizeClass, HeapTick, SHORT_LIVED_NS};
use simprof_preload::heap::format::{Kind, Origin, flag};

use super::lanes::Event;
use super::series::Series;
use super::site::{EndedSite, Epoch, Site};
use super::sum::{Share, Sum};
use super::ticks::{Course, Ticked, Ticks};
use crate::sample::FastMap;

/// Classes of sizes: 0, then one for each power of two.
const CLASSES: usize = 65;
/// Sites of which live bytes at ticks are kept: those of which most were alive at any tick.
const COURSES: usize = 200;

/// The sums so far. Events, steps and ends of images must come in order of time; those that come somewhat late are counted, at the
/// moment at which they come.
#[derive(Debug)]
pub struct Tally {
    interval: u64,
    /// By their position in the processes.
    images: BTreeMap<u32, Image>,
    /// Sites of images that have ended.
    ended: FastMap<(u64, u8), EndedSite>,
    live: Sum,
    peak: Peak,
    steps: Steps,
    ticks: Ticks,
    /// Sites that changed since the last tick.
    dirty: Vec<(u32, u32)>,
    series: Series,
    sizes: [(f64, f64); CLASSES],
    stacks_cut: u64,
}

/// The sites of a process image that lives.
#[derive(Debug, Default)]
struct Image {
    sites: Vec<Site>,
    known: FastMap<(u64, u8), u32>,
}

/// The moment at which most was alive.
#[derive(Debug, Default)]
struct Peak {
    bytes: f64,
    epoch: Epoch,
    time_ns: u64,
    step: Option<u64>,
}

/// Steps so far.
#[derive(Debug, Default)]
struct Steps {
    /// How many are running.
    open: u32,
    /// When the last one began, and its number.
    begin_ns: u64,
    index: u64,
    ended: u64,
}

impl Steps {
    /// Whether what was made then and ends now began and ended in one step.
    fn hold(&self, made_ns: u64) -> bool {
        self.open > 0 && made_ns >= self.begin_ns
    }
}

/// All sums.
#[derive(Debug)]
pub struct Tallied {
    /// With the nodes of each one's stack.
    pub sites: Vec<(u64, HeapSite)>,
    pub ticks: Vec<HeapTick>,
    pub steps: u64,
    pub series: Vec<HeapInterval>,
    pub sizes: Vec<HeapSizeClass>,
    pub peak_ns: u64,
    pub peak_step: Option<u64>,
    pub stacks_cut: u64,
}

impl Tally {
    /// Nothing yet, at this time; draws are `interval` bytes apart.
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
            series: Series::new(begin_ns),
            sizes: [(0.0, 0.0); CLASSES],
            stacks_cut: 0,
        }
    }

    /// An allocation, or its end.
    pub fn event(&mut self, event: &Event) {
        while let Some(end_ns) = self.ticks.due(event.time_ns) {
            self.end_tick(end_ns);
        }
        let share = Share::of(event.size, self.interval);
        match event.kind {
            Kind::Alloc => self.allocate(event, share),
            Kind::Free => self.free(event, share),
        }
        self.series.live(event.time_ns, self.live.bytes);
    }

    /// A step begins.
    pub fn step_begins(&mut self, time_ns: u64, index: u64) {
        self.steps.open += 1;
        (self.steps.begin_ns, self.steps.index) = (time_ns, index);
        if self.ticks.step_begins() {
            self.forget_courses();
        }
    }

    /// A step ends.
    pub fn step_ends(&mut self, time_ns: u64, population: Option<u64>) {
        self.steps.open = self.steps.open.saturating_sub(1);
        self.steps.ended += 1;
        self.ticks.step_begins();
        if self.ticks.step_ends(population) {
            self.end_tick(time_ns);
        }
    }

    /// A process image has ended, and with it all that it had allocated.
    pub fn image_ends(&mut self, place: u32, time_ns: u64) {
        let Some(image) = self.images.remove(&place) else { return };
        let tick = self.ticks.position();
        let epoch = self.peak.epoch;
        self.dirty.retain(|dirty| dirty.0 != place);
        for mut site in image.sites {
            let left = site.live;
            self.live.bytes -= left.bytes;
            self.live.count -= left.count;
            if !site.course.is_empty() {
                site.course.note(tick, 0.0);
            }
            absorb(&mut self.ended, site, epoch);
        }
        self.series.live(time_ns, self.live.bytes);
    }

    /// The end of the recording.
    pub fn finish(mut self) -> Tallied {
        let epoch = self.peak.epoch;
        for site in std::mem::take(&mut self.images).into_values().flat_map(|image| image.sites) {
            absorb(&mut self.ended, site, epoch);
        }
        let courses = self.courses();
        let sites = self.ended.iter().map(|(&key, site)| {
            let live_at_ticks = courses.get(&key).cloned().unwrap_or_default();
            (key.0, site.finish(epoch, live_at_ticks))
        });
        let mut sites: Vec<_> = sites.collect();
        sites
            .sort_by_key(|(stack, site)| (std::cmp::Reverse(site.amounts.allocated.bytes), *stack));
        Tallied {
            sites,
            ticks: self.ticks.done().to_vec(),
            steps: self.steps.ended,
            series: self.series.finish(),
            sizes: size_classes(&self.sizes),
            peak_ns: self.peak.time_ns,
            peak_step: self.peak.step,
            stacks_cut: self.stacks_cut,
        }
    }

    fn allocate(&mut self, event: &Event, share: Share) {
        let epoch = self.peak.epoch;
        let site = site(&mut self.images, &mut self.dirty, event);
        site.allocate(share, epoch);
        if !event.is_rest() {
            site.counts.allocate(event, share);
        }
        self.live.add(share);
        if self.live.bytes > self.peak.bytes {
            let step = (self.steps.open > 0).then_some(self.steps.index);
            let (bytes, time_ns) = (self.live.bytes, event.time_ns);
            self.peak = Peak { bytes, epoch: epoch + 1, time_ns, step };
        }
        if event.is_rest() {
            return;
        }
        self.ticks.allocated(share);
        self.series.allocated(event.time_ns, share);
        let class = &mut self.sizes[size_class(event.size)];
        class.0 += share.count();
        class.1 += share.bytes();
        let cut = u64::from(event.flags) & (flag::CUT | flag::PARTIAL | flag::PYTHON_PARTIAL) != 0;
        self.stacks_cut += u64::from(cut || event.stack == 0);
    }

    fn free(&mut self, event: &Event, share: Share) {
        let epoch = self.peak.epoch;
        let site = site(&mut self.images, &mut self.dirty, event);
        site.free(share, epoch);
        // What is reallocated goes on to live in another size.
        if !event.is_reallocation() {
            if self.steps.hold(event.made_ns) {
                site.counts.temporary.add(share);
                self.ticks.temporary(share);
            }
            if event.time_ns.saturating_sub(event.made_ns) < SHORT_LIVED_NS {
                site.counts.short_lived.add(share);
            }
        }
        self.live.remove(share);
    }

    fn end_tick(&mut self, time_ns: u64) {
        let tick = self.ticks.position();
        for (place, number) in self.dirty.drain(..) {
            let Some(image) = self.images.get_mut(&place) else { continue };
            let site = &mut image.sites[number as usize];
            site.is_dirty = false;
            site.course.note(tick, site.live.bytes);
        }
        if self.ticks.end(time_ns, self.live.bytes) == Ticked::Merged {
            let live = self.images.values_mut().flat_map(|image| &mut image.sites);
            live.for_each(|site| site.course.merge());
            let ended = self.ended.values_mut().flat_map(|site| &mut site.courses);
            ended.for_each(|course| course.merge());
        }
    }

    /// Begins all courses anew, with all that is alive.
    fn forget_courses(&mut self) {
        self.ended.values_mut().for_each(|site| site.courses.clear());
        self.dirty.clear();
        for (&place, image) in &mut self.images {
            for (number, site) in (0..).zip(&mut image.sites) {
                site.course.clear();
                site.is_dirty = true;
                self.dirty.push((place, number));
            }
        }
    }

    /// Live bytes at all ticks, of the sites of which most were alive.
    fn courses(&self) -> BTreeMap<(u64, u8), Vec<u64>> {
        let bound = |site: &EndedSite| site.courses.iter().map(Course::most).sum::<f64>();
        let mut sites: Vec<(f64, (u64, u8))> =
            self.ended.iter().map(|(&key, site)| (bound(site), key)).collect();
        sites.retain(|(bound, _)| *bound >= 0.5);
        sites.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let mut kept: Vec<(u64, (u64, u8), Vec<u64>)> = Vec::new();
        for (bound, key) in sites {
            // There may be a million sites, so only those that can be among the first are looked at.
            if kept.get(COURSES - 1).is_some_and(|(least, ..)| *least as f64 >= bound) {
                break;
            }
            let series = self.course(key);
            let most = series.iter().copied().max().unwrap_or(0);
            let at = kept.partition_point(|(other, ..)| *other >= most);
            kept.insert(at, (most, key, series));
            kept.truncate(COURSES);
        }
        let kept = kept.into_iter().filter(|(most, ..)| *most > 0);
        kept.map(|(_, key, series)| (key, series)).collect()
    }

    /// Live bytes of a site at all ticks, over all processes.
    fn course(&self, key: (u64, u8)) -> Vec<u64> {
        let mut series = vec![0.0; self.ticks.done().len()];
        self.ended[&key].courses.iter().for_each(|course| course.add_to(&mut series));
        series.into_iter().map(|live: f64| live.max(0.0).round() as u64).collect()
    }
}

/// The site of an event, marked as changed.
fn site<'a>(
    images: &'a mut BTreeMap<u32, Image>,
    dirty: &mut Vec<(u32, u32)>,
    event: &Event,
) -> &'a mut Site {
    let image = images.entry(event.place).or_default();
    let sites = &mut image.sites;
    let number = *image.known.entry((event.stack, event.origin as u8)).or_insert_with(|| {
        sites.push(Site::new(event.stack, event.origin));
        u32::try_from(sites.len() - 1).expect("fewer stacks than nodes")
    });
    let site = &mut image.sites[number as usize];
    if !site.is_dirty {
        site.is_dirty = true;
        dirty.push((event.place, number));
    }
    site
}

fn absorb(ended: &mut FastMap<(u64, u8), EndedSite>, site: Site, epoch: Epoch) {
    let origin: Origin = site.origin;
    let known = ended.entry((site.stack, origin as u8));
    known.or_insert_with(|| EndedSite::new(origin)).absorb(site, epoch);
}

/// 0 for nothing, else 1 more than the power of two that is not above it.
fn size_class(size: u64) -> usize {
    (u64::BITS - size.leading_zeros()) as usize
}

fn size_classes(sizes: &[(f64, f64)]) -> Vec<HeapSizeClass> {
    let class = |(at, &(count, bytes)): (usize, &(f64, f64))| HeapSizeClass {
        from_bytes: if at == 0 { 0 } else { 1 << (at - 1) },
        count: count.round() as u64,
        bytes: bytes.round() as u64,
    };
    sizes.iter().enumerate().filter(|(_, (count, _))| *count > 0.0).map(class).collect()
}
