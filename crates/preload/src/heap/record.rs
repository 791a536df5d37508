//! Records of allocations and of their ends.

use core::sync::atomic::Ordering;

use super::format::{Kind, LANES, Lane, Origin, RECORDS, WAIT_NS, flag, stamp};
use super::hooks::Caller;
use super::live::{self, Allocation, LIVE};
use super::shared::{self, Shared};
use super::thread::{self, Thread};
use super::{contexts, draw, python, start, system, unload};

/// The threads' numbers begin here, so that 0 stands for none.
const FIRST: u32 = 1;

/// One thread's right to record.
#[derive(Clone, Copy)]
pub struct Recorder {
    shared: Shared,
    image: u32,
    thread: *mut Thread,
    number: u32,
}

/// What a record says.
#[derive(Clone, Copy)]
pub struct Event {
    pub kind: Kind,
    pub flags: u64,
    pub address: usize,
    pub time_ns: u64,
    pub allocation: Allocation,
}

impl Event {
    /// The same with these flags too.
    fn with(self, flags: u64) -> Self {
        Self { flags: self.flags | flags, ..self }
    }

    /// As an end that `realloc` brought about without the other half's being drawn.
    pub fn of_realloc(self) -> Self {
        self.with(flag::REALLOC)
    }
}

/// The recorder of this thread; none where nothing is recorded: then the thread does not ask again.
#[inline]
pub fn recorder() -> Option<Recorder> {
    let thread = thread::current();
    let begun = if start::is_on() || start::start() { shared::begin() } else { None };
    let Some((shared, image)) = begun else {
        if start::is_off() || shared::is_over() {
            // SAFETY: it is this thread's storage.
            unsafe { (*thread).countdown = u64::MAX };
        }
        return None;
    };
    // SAFETY: as above.
    let (known, number) = unsafe { ((*thread).image, (*thread).number) };
    if number != 0 && known == image + 1 {
        return Some(Recorder { shared, image, thread, number });
    }
    Some(Recorder { shared, image, thread, number: introduce(shared, image, thread) })
}

/// Gives a thread that is new, or new in this process image, its number.
#[cold]
fn introduce(shared: Shared, image: u32, thread: *mut Thread) -> u32 {
    let number = shared.header().threads.fetch_add(1, Ordering::Relaxed) as u32 + FIRST;
    // SAFETY: it is this thread's storage.
    unsafe {
        (*thread).random = draw::mix(shared.header().seed ^ draw::mix(number.into()));
        (*thread).id = system::thread_id();
        (*thread).image = image + 1;
        (*thread).number = number;
    }
    number
}

impl Recorder {
    /// Whether every allocation is recorded.
    pub fn is_exact(self) -> bool {
        self.shared.is_exact()
    }

    /// Whether an allocation that is not smaller than the thread's countdown is to be recorded.
    #[inline]
    pub fn draws(self, size: u64) -> bool {
        if self.shared.is_exact() {
            return true;
        }
        // SAFETY: it is this thread's storage.
        let thread = unsafe { &mut *self.thread };
        let interval = self.shared.header().interval;
        if thread.countdown == 0 {
            thread.countdown = draw::distance(interval, draw::next(&mut thread.random));
        }
        if size < thread.countdown {
            thread.countdown -= size;
            return false;
        }
        thread.countdown = draw::distance(interval, draw::next(&mut thread.random));
        true
    }

    /// Records an allocation that was made, before the program has it.
    pub fn allocated(self, address: usize, size: u64, origin: Origin, flags: u64, caller: &Caller) {
        if let Some(made) = self.remembered(address, size, origin, caller)
            && !self.recorded(made.with(flags))
        {
            LIVE.remove(address);
        }
    }

    /// Records an end, which [`ended`] made before it happened.
    pub fn freed(self, end: Event) {
        // One that is lost is counted, and there is nothing else to be done about it.
        let _ = self.append([end], RECORDS);
    }

    /// Records that a recorded allocation became another one. `end` was made by [`ended`] before that.
    pub fn replaced(self, end: Event, address: usize, size: u64, caller: &Caller) {
        match self.remembered(address, size, end.allocation.origin, caller) {
            Some(made) if !self.exchanged(end, made) => _ = LIVE.remove(address),
            Some(_) => {}
            None => self.freed(end),
        }
    }

    /// Records an end and an allocation as one operation; false where both are lost, and the allocation is to be forgotten.
    #[must_use]
    pub fn exchanged(self, end: Event, made: Event) -> bool {
        self.append([end, made].map(|half| half.with(flag::REALLOC)), RECORDS)
    }

    /// Records an allocation that is remembered; false where it is lost, and to be forgotten.
    #[must_use]
    pub fn recorded(self, made: Event) -> bool {
        self.append([made], self.room_for_allocations())
    }

    /// Sampled mode loses allocations rather than ends, which would leave what does not live.
    fn room_for_allocations(self) -> u64 {
        if self.shared.is_exact() { RECORDS } else { RECORDS / 4 * 3 }
    }

    /// What the record of an allocation says that was made just now.
    pub fn made(self, address: usize, size: u64, origin: Origin, caller: &Caller) -> Event {
        let (stack, flags) = self.stack(origin, caller);
        let time_ns = system::now_ns();
        let allocation = Allocation { size, origin, made_ns: time_ns, stack };
        Event { kind: Kind::Alloc, flags, address, time_ns, allocation }
    }

    /// What the record of a part of an allocation says, which lives on after the rest ended at this time.
    pub fn remade(self, time_ns: u64, address: usize, size: u64, whole: Allocation) -> Event {
        let allocation = Allocation { size, ..whole };
        Event { kind: Kind::Alloc, flags: flag::REST, address, time_ns, allocation }
    }

    /// Has the place of the thread's next record brought near.
    #[inline]
    pub fn prefetch(self) {
        let lane = self.lane();
        let next = self.shared.lane(lane).next.load(Ordering::Relaxed);
        system::prefetch(self.shared.record(lane, next));
    }

    /// The thread's lane.
    #[inline]
    fn lane(self) -> usize {
        (self.number - FIRST) as usize % LANES
    }

    /// As [`Recorder::made`], put into [`LIVE`]; none where there is no room there, so that its end would not be seen.
    fn remembered(
        self,
        address: usize,
        size: u64,
        origin: Origin,
        caller: &Caller,
    ) -> Option<Event> {
        // They come while the stack is unwound.
        LIVE.prefetch(address);
        self.prefetch();
        let made = self.made(address, size, origin, caller);
        if !LIVE.insert(address, made.allocation) {
            self.shared.header().live_full.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(made)
    }

    /// Draws again for a part of a recorded allocation of `size` bytes that lives on: whether one of the draws that hit the
    /// allocation was in the part.
    pub fn draws_part(self, size: u64, part: core::ops::Range<u64>) -> bool {
        const TRIES: u32 = 1 << 12;
        if self.shared.is_exact() {
            return true;
        }
        let interval = self.shared.header().interval;
        // SAFETY: it is this thread's storage.
        let random = unsafe { &mut (*self.thread).random };
        for _ in 0..TRIES {
            let mut drawn = draw::distance(interval, draw::next(random));
            if drawn > size {
                // It is known that the allocation was hit.
                continue;
            }
            while drawn <= part.start {
                drawn += draw::distance(interval, draw::next(random));
            }
            return drawn <= part.end;
        }
        true
    }

    /// The stack that the thread is in, as in [`super::format::Record::stack`], and its flags.
    fn stack(self, origin: Origin, caller: &Caller) -> (u64, u64) {
        let header = self.shared.header();
        // Python's allocator has its lock, and no handler calls it.
        let of_python = origin == Origin::Python;
        if header.without_native != 0 {
            return python::stack(of_python);
        }
        let generation = u64::from(self.image) << 32 | unload::generation();
        let registers = caller.registers();
        let recorded = contexts::with(self.number, |trace| trace.record(registers, generation));
        let is_call = of_python || recorded.is_some_and(|stack| stack.is_of_calls);
        let (python, python_flags) = python::stack(is_call);
        match recorded {
            Some(stack) => {
                if stack.lost {
                    header.stacks_lost.fetch_add(1, Ordering::Relaxed);
                }
                (u64::from(stack.node) | python, stack.flags | python_flags)
            }
            None => {
                header.nested.fetch_add(1, Ordering::Relaxed);
                (python, flag::PARTIAL | python_flags)
            }
        }
    }

    /// Writes records beside each other, where the ring then has no more than `limit`; false where they are lost.
    #[must_use]
    fn append<const N: usize>(self, events: [Event; N], limit: u64) -> bool {
        let lane = self.lane();
        let Some(first) = self.room(lane, N as u64, limit) else { return false };
        // The last first: a reader, who takes them in order, sees all or none.
        for (at, event) in events.iter().enumerate().rev() {
            self.write(lane, first + at as u64, event);
        }
        true
    }

    /// Takes positions in a lane; none where there is no room.
    #[inline]
    fn room(self, lane: usize, count: u64, limit: u64) -> Option<u64> {
        let lane = self.shared.lane(lane);
        loop {
            let next = lane.next.load(Ordering::Relaxed);
            let taken = lane.taken.0.load(Ordering::Acquire);
            if (next + count).saturating_sub(taken) > limit {
                if !self.waits(lane, count, taken) {
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

    /// The lane is full: waits until the reader has taken more than `taken`, in exact mode. False where these records are lost.
    #[cold]
    fn waits(self, lane: &Lane, count: u64, taken: u64) -> bool {
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
            system::sleep_ns(50_000);
        }
        lane.lost.fetch_add(count, Ordering::Relaxed);
        false
    }

    #[inline]
    fn write(self, lane: usize, position: u64, event: &Event) {
        let record = self.shared.record(lane, position);
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

/// What the record of an end says that is about to happen.
pub fn ended(address: usize, allocation: Allocation) -> Event {
    ended_at(system::now_ns(), address, allocation)
}

/// As [`ended`], with the time.
pub fn ended_at(time_ns: u64, address: usize, allocation: Allocation) -> Event {
    Event { kind: Kind::Free, flags: 0, address, time_ns, allocation }
}
