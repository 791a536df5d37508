//! An index with a queue of changes, which are applied in batches.
//!
//! Queries return results as if all queued changes had been applied. A query first searches the index and drops the entries that have
//! a queued change. It then searches the queue, in the regions that it touches. A larger batch thus makes flushes cheaper and queries
//! more expensive. With smaller regions, a query reads less of the queue.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use super::regions::Regions;
use super::{Change, IndexKind, Neighbour, SpatialIndex, new_index};
use crate::geometry::{Area, Entry, Point};

/// The priority of a queued change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// Does not count towards the batch size: applied at the end of a step, or with the next flush.
    Low = 0,
    /// Applied when the batch is full.
    Normal = 1,
    /// Applied at once, with all queued changes in its region.
    High = 2,
    /// Applied at once, alone.
    Critical = 3,
}

/// When queued changes are applied.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FlushPolicy {
    /// Number of queued changes that causes a flush, at least 1.
    pub batch_size: usize,
    /// Side of a region in world units, above 0.
    pub region_size: f32,
    /// Longest time that a change stays queued. It is checked when a change is queued and when a step ends.
    pub interval: Option<Duration>,
    /// Number of steps between flushes. If 0, steps do not cause a flush.
    pub every_steps: u64,
    /// Whether queries ignore queued changes. If so, the results of queries, and thus of the run, depend on the other fields.
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

/// Work done by an index since its creation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct IndexCounters {
    /// Queries.
    pub queries: u64,
    /// Entries returned by the queries.
    pub hits: u64,
    /// Changes queued.
    pub queued: u64,
    /// Changes applied. Changes to the same entry are merged, so this can be less than `queued`.
    pub applied: u64,
    /// Batches applied.
    pub flushes: u64,
    /// Regions that had queued changes, summed over the batches.
    pub dirty_regions: u64,
    /// Complete rebuilds.
    pub rebuilds: u64,
    /// Queued changes read by queries.
    pub queue_reads: u64,
}

/// A queued change with its priority.
#[derive(Debug, Clone, Copy)]
struct QueuedChange {
    change: Change,
    priority: Priority,
}

/// Marks an entry without a queued change.
const NONE: u32 = u32::MAX;

/// An index with a queue of changes.
pub struct BatchedIndex {
    index: Box<dyn SpatialIndex>,
    policy: FlushPolicy,
    regions: Regions,
    queue: Vec<QueuedChange>,
    /// Queue position of the change of each entry, by number. `NONE` if there is none.
    positions: Vec<u32>,
    /// Number of queued changes with low priority.
    low: usize,
    /// When the oldest queued change was queued. Only set if the policy has an interval.
    oldest: Option<Instant>,
    counters: IndexCounters,
    queries: Cell<u64>,
    hits: Cell<u64>,
    queue_reads: Cell<u64>,
    batch: RefCell<Vec<Change>>,
}

impl std::fmt::Debug for BatchedIndex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BatchedIndex")
            .field("kind", &self.kind())
            .field("policy", &self.policy)
            .field("queue_len", &self.queue.len())
            .field("counters", &self.counters())
            .finish_non_exhaustive()
    }
}

impl BatchedIndex {
    /// Creates an index with the given entries.
    #[must_use]
    pub fn new(
        kind: IndexKind,
        world: Area,
        cell_size: Option<f32>,
        policy: FlushPolicy,
        entries: &[Entry],
    ) -> Self {
        let mut batched = Self {
            index: new_index(kind, world, cell_size, entries.len()),
            policy,
            regions: Regions::new(world, policy.region_size),
            queue: Vec::with_capacity(policy.batch_size.min(1 << 16)),
            positions: Vec::new(),
            low: 0,
            oldest: None,
            counters: IndexCounters::default(),
            queries: Cell::new(0),
            hits: Cell::new(0),
            queue_reads: Cell::new(0),
            batch: RefCell::default(),
        };
        batched.rebuild(entries);
        batched
    }

    /// Returns the kind of the index.
    #[must_use]
    pub fn kind(&self) -> IndexKind {
        self.index.kind()
    }

    /// Returns the work done since the creation of the index.
    #[must_use]
    pub fn counters(&self) -> IndexCounters {
        IndexCounters {
            queries: self.queries.get(),
            hits: self.hits.get(),
            queue_reads: self.queue_reads.get(),
            ..self.counters
        }
    }

    /// Returns the heap size of the index and its queue in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let lists: usize = self.regions.lists.iter().map(Vec::capacity).sum();
        self.index.bytes()
            + self.queue.capacity() * size_of::<QueuedChange>()
            + self.positions.capacity() * 4
            + self.regions.lists.capacity() * size_of::<Vec<u32>>()
            + (lists + self.regions.dirty.capacity()) * 4
            + self.batch.borrow().capacity() * size_of::<Change>()
    }

    /// Returns the number of queued changes.
    #[must_use]
    pub fn queue_len(&self) -> usize {
        self.queue.len()
    }

    /// Discards the queue and rebuilds the index from the given entries. Their numbers must be distinct.
    pub fn rebuild(&mut self, entries: &[Entry]) {
        self.queue.clear();
        self.regions.clear();
        self.low = 0;
        self.oldest = None;
        let numbers = entries.iter().map(|entry| entry.id as usize + 1).max().unwrap_or(0);
        self.positions.clear();
        self.positions.resize(numbers, NONE);
        self.index.rebuild(entries);
        self.counters.rebuilds += 1;
    }

    /// Queues a change and flushes if the policy requires it.
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

    /// Ends a step and flushes if the policy requires it.
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

    /// Adds a change to the queue. If there is a queued change for the same entry, the two are merged.
    fn enqueue(&mut self, change: Change, priority: Priority) {
        let number = change.id as usize;
        if number >= self.positions.len() {
            self.positions.resize(number + 1, NONE);
        }
        let position = self.positions[number];
        if position == NONE {
            self.append(change, priority);
            return;
        }
        let queued = &mut self.queue[position as usize];
        let before = queued.change.to;
        queued.change.to = change.to;
        if queued.priority == Priority::Low && priority > Priority::Low {
            self.low -= 1;
        }
        queued.priority = queued.priority.max(priority);
        if let Some(at) = before {
            self.regions.remove(at, position);
        }
        if let Some(at) = change.to {
            self.regions.add(at, position);
        }
    }

    fn append(&mut self, change: Change, priority: Priority) {
        let position = self.queue.len() as u32;
        self.positions[change.id as usize] = position;
        self.queue.push(QueuedChange { change, priority });
        self.low += usize::from(priority == Priority::Low);
        if let Some(at) = change.to {
            self.regions.add(at, position);
        }
        if self.policy.interval.is_some() && self.oldest.is_none() {
            self.oldest = Some(Instant::now());
        }
    }

    /// Applies all queued changes in the region of a change, and the change itself.
    fn flush_region(&mut self, change: &Change) {
        let mut ids = vec![change.id];
        if let Some(at) = change.to {
            let list = &self.regions.lists[self.regions.region_at(at)];
            let others = list.iter().map(|&position| self.queue[position as usize].change.id);
            ids.extend(others.filter(|&id| id != change.id));
        }
        self.flush_only(&ids);
    }

    /// Applies the changes of the given entries and removes them from the queue.
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

    /// Removes the change of one entry from the queue and returns it.
    fn take(&mut self, id: u32) -> Change {
        let position = std::mem::replace(&mut self.positions[id as usize], NONE);
        let taken = self.queue.swap_remove(position as usize);
        self.low -= usize::from(taken.priority == Priority::Low);
        if let Some(at) = taken.change.to {
            self.regions.remove(at, position);
        }
        // `swap_remove` has moved the last change to this position.
        if let Some(moved) = self.queue.get(position as usize).copied() {
            self.positions[moved.change.id as usize] = position;
            if let Some(at) = moved.change.to {
                self.regions.remove(at, self.queue.len() as u32);
                self.regions.add(at, position);
            }
        }
        taken.change
    }

    /// Appends the entries within `radius` of `centre` to `out`, in unspecified order.
    pub fn nearby(&self, centre: Point, radius: f32, out: &mut Vec<Entry>) {
        let squared = radius * radius;
        self.collect(
            &Area::around(centre, radius),
            out,
            |index, out| index.nearby(centre, radius, out),
            |at| at.squared_distance(centre) <= squared,
        );
    }

    /// Appends the entries inside a box to `out`, in unspecified order.
    pub fn range(&self, area: &Area, out: &mut Vec<Entry>) {
        self.collect(area, out, |index, out| index.range(area, out), |at| area.contains(at));
    }

    fn collect(
        &self,
        area: &Area,
        out: &mut Vec<Entry>,
        query: impl Fn(&dyn SpatialIndex, &mut Vec<Entry>),
        inside: impl Fn(Point) -> bool,
    ) {
        let start = out.len();
        query(&*self.index, out);
        if !self.queue.is_empty() && !self.policy.stale_reads {
            drop_queued(out, start, &self.positions);
            self.visit_queue(area, |entry| {
                if inside(entry.at) {
                    out.push(entry);
                }
            });
        }
        self.count_query((out.len() - start) as u64);
    }

    /// Returns the nearest entry within `radius` for which `accept` returns `true`. At equal distance the smaller number wins.
    pub fn nearest(
        &self,
        centre: Point,
        radius: f32,
        mut accept: impl FnMut(u32) -> bool,
    ) -> Option<Neighbour> {
        let is_current = self.queue.is_empty() || self.policy.stale_reads;
        let mut best = if is_current {
            self.index.nearest(centre, radius, &mut accept)
        } else {
            let not_queued = |id: u32| self.positions.get(id as usize).is_none_or(|&p| p == NONE);
            let mut accept_indexed = |id: u32| not_queued(id) && accept(id);
            self.index.nearest(centre, radius, &mut accept_indexed)
        };
        if !is_current {
            let reach = best.map_or(radius, |best| best.squared_distance.sqrt() * 1.000_01);
            self.visit_queue(&Area::around(centre, reach.min(radius)), |entry| {
                let candidate = Neighbour::new(entry, centre);
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

    /// Calls `visit` with the entries that have a queued change in regions that overlap a box.
    fn visit_queue(&self, area: &Area, mut visit: impl FnMut(Entry)) {
        let mut read = 0;
        self.regions.visit(area, |position| {
            read += 1;
            let change = self.queue[position as usize].change;
            if let Some(at) = change.to {
                visit(Entry { id: change.id, at });
            }
        });
        self.queue_reads.set(self.queue_reads.get() + read);
    }

    fn count_query(&self, hits: u64) {
        self.queries.set(self.queries.get() + 1);
        self.hits.set(self.hits.get() + hits);
    }
}

/// Removes the entries with a queued change from `out[start..]`.
fn drop_queued(out: &mut Vec<Entry>, start: usize, positions: &[u32]) {
    let mut kept = start;
    for index in start..out.len() {
        let entry = out[index];
        if positions.get(entry.id as usize).is_none_or(|&position| position == NONE) {
            out[kept] = entry;
            kept += 1;
        }
    }
    out.truncate(kept);
}

/// Applies all queued changes and returns their number.
#[inline(never)]
pub fn spatial_update(target: &mut BatchedIndex) -> usize {
    if target.queue.is_empty() {
        return 0;
    }
    let mut batch = target.batch.take();
    batch.clear();
    batch.extend(target.queue.iter().map(|queued| queued.change));
    for change in &batch {
        target.positions[change.id as usize] = NONE;
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
