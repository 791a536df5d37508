//! The queue in front of an index: moves wait in dirty regions and are applied in batches.
//!
//! A query sees every queued change as if it had been applied: entries with a change waiting are left out of the index's
//! answer and looked for among the regions that the query touches. So batch size trades the cost of
//! flushing against the cost of reading past the queue, and region size how much of the queue a query reads.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use super::regions::Regions;
use super::{Change, IndexKind, Neighbour, SpatialIndex, new_index};
use crate::geometry::{Area, Entry, Point};

/// How soon a queued change is applied, 0 (last) to 3 (at once).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// Fills no batch: waits for the end of a step, or for a flush that others cause.
    Low = 0,
    /// Waits until the batch is full.
    Normal = 1,
    /// Applied at once, with everything that waits in its region.
    High = 2,
    /// Applied at once, alone.
    Critical = 3,
}

/// When queued changes are applied.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FlushPolicy {
    /// Changes that may wait; the next one flushes them all. At least 1.
    pub batch_size: usize,
    /// Side of a dirty region, in world units; above 0.
    pub region_size: f32,
    /// How long a change may wait on the wall clock; checked when one is queued.
    pub interval: Option<Duration>,
    /// Flush at the end of every this many steps; 0 for never.
    pub every_steps: u64,
    /// Let queries ignore changes that wait. Answers, and so runs, then depend on the other fields.
    pub stale_reads: bool,
}

impl Default for FlushPolicy {
    fn default() -> Self {
        Self {
            batch_size: 100,
            region_size: 50.0,
            interval: None,
            every_steps: 1,
            stale_reads: false,
        }
    }
}

/// Work done by an index since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct IndexCounters {
    /// Queries answered.
    pub queries: u64,
    /// Entries returned by them.
    pub hits: u64,
    /// Changes queued.
    pub queued: u64,
    /// Changes applied; fewer than queued, since those to one entry merge.
    pub applied: u64,
    /// Batches applied.
    pub flushes: u64,
    /// Dirty regions those batches touched.
    pub dirty_regions: u64,
    /// Whole rebuilds.
    pub rebuilds: u64,
    /// Waiting changes that queries read past.
    pub waiting_read: u64,
}

/// A change that waits, with its priority.
#[derive(Debug, Clone, Copy)]
struct Waiting {
    change: Change,
    priority: Priority,
}

/// No waiting change.
const NONE: u32 = u32::MAX;

/// An index with a queue of changes in front of it.
pub struct BatchedIndex {
    index: Box<dyn SpatialIndex>,
    policy: FlushPolicy,
    regions: Regions,
    queue: Vec<Waiting>,
    /// The place in the queue of each entry's change, by number.
    waiting: Vec<u32>,
    /// How many of the queue are of low priority.
    low: usize,
    oldest: Option<Instant>,
    counters: IndexCounters,
    queries: Cell<u64>,
    hits: Cell<u64>,
    waiting_read: Cell<u64>,
    batch: RefCell<Vec<Change>>,
}

impl std::fmt::Debug for BatchedIndex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BatchedIndex")
            .field("kind", &self.kind())
            .field("policy", &self.policy)
            .field("waiting", &self.queue.len())
            .field("counters", &self.counters())
            .finish_non_exhaustive()
    }
}

impl BatchedIndex {
    /// An index of a kind over a world that holds these entries.
    #[must_use]
    pub fn new(
        kind: IndexKind,
        world: Area,
        cell_size: Option<f32>,
        policy: FlushPolicy,
        entries: &[Entry],
    ) -> Self {
        let mut made = Self {
            index: new_index(kind, world, cell_size, entries.len()),
            policy,
            regions: Regions::new(world, policy.region_size),
            queue: Vec::with_capacity(policy.batch_size.min(1 << 16)),
            waiting: Vec::new(),
            low: 0,
            oldest: None,
            counters: IndexCounters::default(),
            queries: Cell::new(0),
            hits: Cell::new(0),
            waiting_read: Cell::new(0),
            batch: RefCell::default(),
        };
        made.rebuild(entries);
        made
    }

    /// Which kind of index answers.
    #[must_use]
    pub fn kind(&self) -> IndexKind {
        self.index.kind()
    }

    /// Work done since it was made.
    #[must_use]
    pub fn counters(&self) -> IndexCounters {
        IndexCounters {
            queries: self.queries.get(),
            hits: self.hits.get(),
            waiting_read: self.waiting_read.get(),
            ..self.counters
        }
    }

    /// Bytes of heap memory of the index and its queue.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let lists: usize = self.regions.lists.iter().map(Vec::capacity).sum();
        self.index.bytes()
            + self.queue.capacity() * size_of::<Waiting>()
            + self.waiting.capacity() * 4
            + self.regions.lists.capacity() * size_of::<Vec<u32>>()
            + (lists + self.regions.dirty.capacity()) * 4
            + self.batch.borrow().capacity() * size_of::<Change>()
    }

    /// How many changes wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// Drops the queue and rebuilds the index from these entries; numbers must differ.
    pub fn rebuild(&mut self, entries: &[Entry]) {
        self.queue.clear();
        self.regions.clear();
        self.low = 0;
        self.oldest = None;
        let numbers = entries.iter().map(|entry| entry.id as usize + 1).max().unwrap_or(0);
        self.waiting.clear();
        self.waiting.resize(numbers, NONE);
        self.index.rebuild(entries);
        self.counters.rebuilds += 1;
    }

    /// Queues a change; flushes if the policy says so.
    pub fn queue(&mut self, change: Change, priority: Priority) {
        self.counters.queued += 1;
        self.enqueue(change, priority);
        match priority {
            Priority::Critical => self.flush_only(&[change.id]),
            Priority::High => self.flush_region(&change),
            _ if self.queue.len() - self.low >= self.policy.batch_size || self.overdue() => {
                spatial_update(self);
            }
            _ => {}
        }
    }

    /// Queues a move of an entry from one position to another.
    pub fn queue_move(&mut self, id: u32, from: Point, to: Point, priority: Priority) {
        let (from, to) = (Some(from), Some(to));
        self.queue(Change { id, from, to }, priority);
    }

    /// Tells the queue that a step has ended; flushes if the policy says so.
    pub fn end_step(&mut self, step: u64) {
        let due = self.policy.every_steps > 0 && (step + 1).is_multiple_of(self.policy.every_steps);
        if due || self.overdue() {
            spatial_update(self);
        }
    }

    fn overdue(&self) -> bool {
        match (self.policy.interval, self.oldest) {
            (Some(interval), Some(oldest)) => oldest.elapsed() >= interval,
            _ => false,
        }
    }

    /// Puts a change into the queue, merged with one that waits for the same entry.
    fn enqueue(&mut self, change: Change, priority: Priority) {
        let number = change.id as usize;
        if number >= self.waiting.len() {
            self.waiting.resize(number + 1, NONE);
        }
        let place = self.waiting[number];
        if place == NONE {
            self.append(change, priority);
            return;
        }
        let held = &mut self.queue[place as usize];
        let before = held.change.to;
        held.change.to = change.to;
        if held.priority == Priority::Low && priority > Priority::Low {
            self.low -= 1;
        }
        held.priority = held.priority.max(priority);
        if let Some(at) = before {
            self.regions.remove(at, place);
        }
        if let Some(at) = change.to {
            self.regions.add(at, place);
        }
    }

    fn append(&mut self, change: Change, priority: Priority) {
        let place = self.queue.len() as u32;
        self.waiting[change.id as usize] = place;
        self.queue.push(Waiting { change, priority });
        self.low += usize::from(priority == Priority::Low);
        if let Some(at) = change.to {
            self.regions.add(at, place);
        }
        if self.policy.interval.is_some() && self.oldest.is_none() {
            self.oldest = Some(Instant::now());
        }
    }

    /// Applies everything that waits in the region of a change, and the change itself.
    fn flush_region(&mut self, change: &Change) {
        let mut ids = vec![change.id];
        if let Some(at) = change.to {
            let list = &self.regions.lists[self.regions.of(at)];
            let others = list.iter().map(|&place| self.queue[place as usize].change.id);
            ids.extend(others.filter(|&id| id != change.id));
        }
        self.flush_only(&ids);
    }

    /// Applies the changes of some entries and takes them out of the queue.
    fn flush_only(&mut self, ids: &[u32]) {
        let mut batch = self.batch.take();
        batch.clear();
        batch.extend(ids.iter().map(|&id| self.take(id)));
        self.counters.rebuilds += u64::from(self.index.apply(&batch));
        self.counters.applied += batch.len() as u64;
        self.counters.flushes += 1;
        self.counters.dirty_regions += 1;
        self.batch.replace(batch);
    }

    /// Takes the change of one entry out of the queue.
    fn take(&mut self, id: u32) -> Change {
        let place = std::mem::replace(&mut self.waiting[id as usize], NONE);
        let taken = self.queue.swap_remove(place as usize);
        self.low -= usize::from(taken.priority == Priority::Low);
        if let Some(at) = taken.change.to {
            self.regions.remove(at, place);
        }
        // The last of the queue has taken the place.
        if let Some(moved) = self.queue.get(place as usize).copied() {
            self.waiting[moved.change.id as usize] = place;
            if let Some(at) = moved.change.to {
                self.regions.remove(at, self.queue.len() as u32);
                self.regions.add(at, place);
            }
        }
        taken.change
    }

    /// Pushes the entries within `radius` of `centre` onto `out`, in no particular order.
    pub fn nearby(&self, centre: Point, radius: f32, out: &mut Vec<Entry>) {
        let squared = radius * radius;
        self.collect(
            &Area::around(centre, radius),
            out,
            |index, out| index.nearby(centre, radius, out),
            |at| at.squared_distance(centre) <= squared,
        );
    }

    /// Pushes the entries inside a box onto `out`, in no particular order.
    pub fn range(&self, area: &Area, out: &mut Vec<Entry>) {
        self.collect(area, out, |index, out| index.range(area, out), |at| area.contains(at));
    }

    fn collect(
        &self,
        area: &Area,
        out: &mut Vec<Entry>,
        ask: impl Fn(&dyn SpatialIndex, &mut Vec<Entry>),
        inside: impl Fn(Point) -> bool,
    ) {
        let start = out.len();
        ask(&*self.index, out);
        if !self.queue.is_empty() && !self.policy.stale_reads {
            drop_waiting(out, start, &self.waiting);
            self.visit_waiting(area, |entry| {
                if inside(entry.at) {
                    out.push(entry);
                }
            });
        }
        self.count_query((out.len() - start) as u64);
    }

    /// The nearest entry within `radius` that `accept` accepts; ties go to the smaller number.
    pub fn nearest(
        &self,
        centre: Point,
        radius: f32,
        mut accept: impl FnMut(u32) -> bool,
    ) -> Option<Neighbour> {
        let fresh = self.queue.is_empty() || self.policy.stale_reads;
        let mut best = if fresh {
            self.index.nearest(centre, radius, &mut accept)
        } else {
            let settled = |id: u32| self.waiting.get(id as usize).is_none_or(|&p| p == NONE);
            let mut both = |id: u32| settled(id) && accept(id);
            self.index.nearest(centre, radius, &mut both)
        };
        if !fresh {
            let reach = best.map_or(radius, |best| best.squared_distance.sqrt() * 1.000_01);
            self.visit_waiting(&Area::around(centre, reach.min(radius)), |entry| {
                let candidate = Neighbour::of(entry, centre);
                let wins = candidate.squared_distance <= radius * radius
                    && best.as_ref().is_none_or(|best| candidate.beats(best));
                if wins && accept(entry.id) {
                    best = Some(candidate);
                }
            });
        }
        self.count_query(u64::from(best.is_some()));
        best
    }

    /// Visits the entries whose change waits in regions under a box.
    fn visit_waiting(&self, area: &Area, mut visit: impl FnMut(Entry)) {
        let mut read = 0;
        self.regions.visit(area, |place| {
            read += 1;
            let change = self.queue[place as usize].change;
            if let Some(at) = change.to {
                visit(Entry { id: change.id, at });
            }
        });
        self.waiting_read.set(self.waiting_read.get() + read);
    }

    fn count_query(&self, hits: u64) {
        self.queries.set(self.queries.get() + 1);
        self.hits.set(self.hits.get() + hits);
    }
}

/// Removes from `out[start..]` the entries whose change waits.
fn drop_waiting(out: &mut Vec<Entry>, start: usize, waiting: &[u32]) {
    let mut kept = start;
    for place in start..out.len() {
        let entry = out[place];
        if waiting.get(entry.id as usize).is_none_or(|&held| held == NONE) {
            out[kept] = entry;
            kept += 1;
        }
    }
    out.truncate(kept);
}

/// Applies every change that waits; returns how many.
#[inline(never)]
pub fn spatial_update(target: &mut BatchedIndex) -> usize {
    if target.queue.is_empty() {
        return 0;
    }
    let mut batch = target.batch.take();
    batch.clear();
    batch.extend(target.queue.iter().map(|held| held.change));
    for change in &batch {
        target.waiting[change.id as usize] = NONE;
    }
    let applied = batch.len();
    target.counters.rebuilds += u64::from(target.index.apply(&batch));
    target.counters.applied += applied as u64;
    target.counters.flushes += 1;
    target.counters.dirty_regions += target.regions.dirty.len() as u64;
    target.regions.clear();
    target.queue.clear();
    target.low = 0;
    target.oldest = None;
    target.batch.replace(batch);
    applied
}
