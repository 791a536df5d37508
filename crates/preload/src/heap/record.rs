//! Records of allocations and of their ends.

use core::sync::atomic::Ordering;

use super::caller::Caller;
use super::format::{Kind, LANES, Lane, Origin, RECORDS, WAIT_NS, flag, stamp};
use super::live::{self, Allocation, LIVE};
use super::shared::Shared;
use super::thread::{self, Thread};
use super::{byte_sampling, confinement, contexts, deepbind, image, python, start, system, unload};

/// Number of the first thread. 0 means that a thread has no number yet.
const FIRST: u32 = 1;

/// Records the events of one thread. It exists only while events are recorded in this process image.
#[derive(Clone, Copy)]
pub struct Recorder {
    shared: Shared,
    image: u32,
    thread: *mut Thread,
}

/// Content of a record.
#[derive(Clone, Copy)]
pub struct Event {
    pub kind: Kind,
    pub flags: u64,
    pub address: usize,
    pub time_ns: u64,
    pub allocation: Allocation,
}

impl Event {
    /// Adds flags.
    fn with_flags(self, flags: u64) -> Self {
        Self { flags: self.flags | flags, ..self }
    }

    /// Marks an end as part of a `realloc` whose other half was not sampled.
    pub fn as_realloc(self) -> Self {
        self.with_flags(flag::REALLOC)
    }
}

/// Returns the recorder of this thread. `None` if nothing is recorded; if that is final, the thread's
/// countdown is set so that it does not ask again.
#[inline]
pub fn recorder() -> Option<Recorder> {
    let thread = thread::current();
    deepbind::replace_pending();
    let current = if start::is_on() || start::start() { image::current() } else { None };
    let Some((shared, image)) = current else {
        if start::is_off() || image::is_finished() {
            // SAFETY: it is this thread's storage.
            unsafe { (*thread).countdown = u64::MAX };
        }
        return None;
    };
    // SAFETY: as above.
    let (known, number) = unsafe { ((*thread).image, (*thread).number) };
    if number == 0 || known != image + 1 {
        register_thread(shared, image, thread);
    }
    Some(Recorder { shared, image, thread })
}

/// Assigns a number and a lane to a thread that is new, or new in this process image.
#[cold]
fn register_thread(shared: Shared, image: u32, thread: *mut Thread) {
    let number = shared.header().threads.fetch_add(1, Ordering::Relaxed) as u32;
    let lane = shared.usable_lane(number as usize % LANES);
    let number = number.wrapping_add(FIRST);
    // SAFETY: it is this thread's storage.
    unsafe {
        (*thread).random =
            byte_sampling::mix(shared.header().seed ^ byte_sampling::mix(number.into()));
        (*thread).id = system::thread_id();
        (*thread).lane = lane as u32;
        (*thread).image = image + 1;
        (*thread).number = number;
    }
}

impl Recorder {
    /// Returns whether every allocation is recorded.
    pub fn is_exact(self) -> bool {
        self.shared.is_exact()
    }

    /// Returns whether an allocation of `size` bytes is recorded, and advances the thread's countdown.
    #[inline]
    pub fn sample(self, size: u64) -> bool {
        if self.shared.is_exact() {
            return true;
        }
        // SAFETY: it is this thread's storage.
        let thread = unsafe { &mut *self.thread };
        let interval = self.shared.header().interval;
        if thread.countdown == 0 {
            thread.countdown =
                byte_sampling::distance(interval, byte_sampling::next(&mut thread.random));
        }
        if size < thread.countdown {
            thread.countdown -= size;
            return false;
        }
        thread.countdown =
            byte_sampling::distance(interval, byte_sampling::next(&mut thread.random));
        true
    }

    /// Records an allocation before the program receives it.
    pub fn record_new(
        self,
        address: usize,
        size: u64,
        origin: Origin,
        flags: u64,
        caller: &Caller,
    ) {
        if let Some(made) = self.insert_live(address, size, origin, caller)
            && !self.record_allocation(made.with_flags(flags))
        {
            LIVE.remove(address);
        }
    }

    /// Records an end. [`end_event`] must have created `end` before the memory was freed.
    pub fn record_end(self, end: Event) {
        // A lost record is counted. Nothing else can be done about it.
        let _ = self.append([end], RECORDS);
    }

    /// Records that a recorded allocation was replaced by another one. [`end_event`] must have created `end` before
    /// that.
    pub fn record_replacement(self, end: Event, address: usize, size: u64, caller: &Caller) {
        match self.insert_live(address, size, end.allocation.origin, caller) {
            Some(made) if !self.record_exchange(end, made) => _ = LIVE.remove(address),
            Some(_) => {}
            None => self.record_end(end),
        }
    }

    /// Records an end and an allocation as one operation. Returns false if both records are lost; the
    /// allocation must then be forgotten.
    #[must_use]
    pub fn record_exchange(self, end: Event, made: Event) -> bool {
        self.append([end, made].map(|half| half.with_flags(flag::REALLOC)), RECORDS)
    }

    /// Records an allocation that was inserted into the table. Returns false if the record is lost; the
    /// allocation must then be forgotten.
    #[must_use]
    pub fn record_allocation(self, made: Event) -> bool {
        self.append([made], self.limit_for_allocations())
    }

    /// Returns how full a lane may be for allocations. Sampled mode prefers to lose allocations: a lost end
    /// would leave an allocation live forever.
    fn limit_for_allocations(self) -> u64 {
        if self.shared.is_exact() { RECORDS } else { RECORDS / 4 * 3 }
    }

    /// Returns the event of an allocation that was just made.
    pub fn allocation_event(
        self,
        address: usize,
        size: u64,
        origin: Origin,
        caller: &Caller,
    ) -> Event {
        let (stack, flags) = self.stack(origin, caller);
        let time_ns = system::now_ns();
        let allocation = Allocation { size, origin, made_ns: time_ns, stack };
        Event { kind: Kind::Alloc, flags, address, time_ns, allocation }
    }

    /// Returns the event of the part of an allocation that stays live after the rest ended at this time.
    pub fn remainder_event(
        self,
        time_ns: u64,
        address: usize,
        size: u64,
        original: Allocation,
    ) -> Event {
        let allocation = Allocation { size, ..original };
        Event { kind: Kind::Alloc, flags: flag::REMAINDER, address, time_ns, allocation }
    }

    /// Prefetches the slot of the thread's next record.
    #[inline]
    pub fn prefetch(self) {
        let lane = self.lane();
        let next = self.shared.lane(lane).next.load(Ordering::Relaxed);
        if let Some(record) = self.shared.record(lane, next) {
            system::prefetch(record);
        }
    }

    /// Returns the index of the thread's lane.
    #[inline]
    fn lane(self) -> usize {
        // SAFETY: it is this thread's storage.
        unsafe { (*self.thread).lane as usize }
    }

    /// Like [`Recorder::allocation_event`], and inserts the allocation into [`LIVE`]. `None` if the table is
    /// full, so that the end would not be recorded.
    fn insert_live(
        self,
        address: usize,
        size: u64,
        origin: Origin,
        caller: &Caller,
    ) -> Option<Event> {
        // The caches load this memory while the stack is unwound.
        LIVE.prefetch(address);
        self.prefetch();
        let made = self.allocation_event(address, size, origin, caller);
        if !LIVE.insert(address, made.allocation) {
            self.shared.header().live_full.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(made)
    }

    /// Samples the part of a recorded allocation of `size` bytes that stays live, conditional on the whole
    /// allocation having been sampled. Returns whether one of the sampled bytes is in the part.
    pub fn sample_part(self, size: u64, part: core::ops::Range<u64>) -> bool {
        const TRIES: u32 = 1 << 12;
        if self.shared.is_exact() {
            return true;
        }
        let interval = self.shared.header().interval;
        // SAFETY: it is this thread's storage.
        let random = unsafe { &mut (*self.thread).random };
        for _ in 0..TRIES {
            let mut position = byte_sampling::distance(interval, byte_sampling::next(random));
            if position > size {
                // The allocation is known to have been sampled, so try again.
                continue;
            }
            while position <= part.start {
                position += byte_sampling::distance(interval, byte_sampling::next(random));
            }
            return position <= part.end;
        }
        true
    }

    /// Records the thread's stack. Returns [`super::format::Record::stack`] and flags.
    fn stack(self, origin: Origin, caller: &Caller) -> (u64, u64) {
        let header = self.shared.header();
        // Python's allocator runs with the interpreter's lock held, and no signal handler calls it.
        let is_python = origin == Origin::Python;
        if header.without_native != 0 {
            return python::stack(is_python);
        }
        let generation = u64::from(self.image) << 32 | unload::generation();
        let registers = caller.registers();
        // SAFETY: it is this thread's storage.
        let number = unsafe { (*self.thread).number };
        let recorded = contexts::with(number, |trace| trace.record(registers, generation));
        let is_call = is_python || recorded.is_some_and(|stack| stack.is_of_calls);
        let (python, python_flags) = python::stack(is_call);
        match recorded {
            Some(stack) => {
                if stack.lost {
                    header.stacks_lost.fetch_add(1, Ordering::Relaxed);
                } else if stack.flags & flag::PARTIAL != 0 && confinement::hides_stacks() {
                    header.stacks_confined.fetch_add(1, Ordering::Relaxed);
                }
                (u64::from(stack.node) | python, stack.flags | python_flags)
            }
            None => {
                header.nested.fetch_add(1, Ordering::Relaxed);
                (python, flag::PARTIAL | python_flags)
            }
        }
    }

    /// Writes records next to each other, if the lane then contains at most `limit` records. Returns false if
    /// they are lost.
    #[must_use]
    fn append<const N: usize>(self, events: [Event; N], limit: u64) -> bool {
        let lane = self.lane();
        let Some(first) = self.reserve(lane, N as u64, limit) else { return false };
        // Write the last one first. A reader reads in order, so it sees all or none.
        for (at, event) in events.iter().enumerate().rev() {
            self.write(lane, first + at as u64, event);
        }
        true
    }

    /// Reserves positions in a lane and returns the first. `None` if the lane is full.
    #[inline]
    fn reserve(self, lane: usize, count: u64, limit: u64) -> Option<u64> {
        let lane = self.shared.lane(lane);
        loop {
            let next = lane.next.load(Ordering::Relaxed);
            let taken = lane.taken.0.load(Ordering::Acquire);
            if (next + count).saturating_sub(taken) > limit {
                if !self.wait_for_reader(lane, count, taken) {
                    return None;
                }
                continue;
            }
            let (acquire, relaxed) = (Ordering::Acquire, Ordering::Relaxed);
            if lane.next.compare_exchange_weak(next, next + count, acquire, relaxed).is_ok() {
                return Some(next);
            }
        }
    }

    /// Handles a full lane. In exact mode, waits until the reader has taken more than `taken` records. Returns
    /// false if the `count` records are lost.
    #[cold]
    fn wait_for_reader(self, lane: &Lane, count: u64, taken: u64) -> bool {
        let header = self.shared.header();
        let begin = system::now_ns();
        while self.shared.is_exact() && header.abandoned.load(Ordering::Relaxed) == 0 {
            if lane.taken.0.load(Ordering::Relaxed) != taken {
                return true;
            }
            let now = system::now_ns();
            if now - begin > WAIT_NS {
                header.abandoned.store(now, Ordering::Relaxed);
                live::set_filter(false);
            }
            system::pause_ns(50_000);
        }
        lane.lost.fetch_add(count, Ordering::Relaxed);
        false
    }

    #[inline]
    fn write(self, lane: usize, position: u64, event: &Event) {
        // The lane was mapped when the thread was registered.
        let Some(record) = self.shared.record(lane, position) else { return };
        // SAFETY: it is this thread's storage.
        let id = unsafe { (*self.thread).id };
        let thread = u64::from(id) | u64::from(self.image) << 32;
        record.time_ns.store(event.time_ns, Ordering::Relaxed);
        record.thread.store(thread, Ordering::Relaxed);
        record.address.store(event.address as u64, Ordering::Relaxed);
        record.size.store(event.allocation.size, Ordering::Relaxed);
        record.stack.store(event.allocation.stack, Ordering::Relaxed);
        record.made_ns.store(event.allocation.made_ns, Ordering::Relaxed);
        let stamp = stamp(position, event.kind, event.allocation.origin, event.flags);
        record.stamp.store(stamp, Ordering::Release);
    }
}

/// Returns the event of an end that is about to happen.
pub fn end_event(address: usize, allocation: Allocation) -> Event {
    end_event_at(system::now_ns(), address, allocation)
}

/// Like [`end_event`], with the time.
pub fn end_event_at(time_ns: u64, address: usize, allocation: Allocation) -> Event {
    Event { kind: Kind::Free, flags: 0, address, time_ns, allocation }
}
