//! Tests with a counting allocator: indexes report the bytes that they allocate, and observations allocate nothing.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use simprof_simulation::Config;
use simprof_simulation::geometry::Area;
use simprof_simulation::observation::{ObservationScene, StorageKind};
use simprof_simulation::spatial::{IndexKind, new_index, uniform_entries};

thread_local! {
    static LIVE: Cell<isize> = const { Cell::new(0) };
    static CALLS: Cell<usize> = const { Cell::new(0) };
}

/// Counts the allocations of the current thread.
struct Counting;

// SAFETY: every call is forwarded unchanged to the system allocator. Counting does not allocate, because the thread-local cells are
// initialised at compile time.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.set(LIVE.get() + layout.size() as isize);
        CALLS.set(CALLS.get() + 1);
        // SAFETY: the caller fulfils the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        LIVE.set(LIVE.get() - layout.size() as isize);
        // SAFETY: the caller fulfils the contract of `dealloc`.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn indexes_report_the_bytes_that_they_allocate() {
    let world = Area::world(1000.0, 1000.0);
    for &kind in IndexKind::ALL {
        for count in [100, 1500, 30_000] {
            let entries = uniform_entries(count, world, 1);
            let before = LIVE.get();
            let mut index = new_index(kind, world, None, entries.len());
            index.rebuild(&entries);
            let allocated = (LIVE.get() - before) as f64;
            let ratio = index.bytes() as f64 / allocated;
            assert!(
                (0.95..1.05).contains(&ratio),
                "{kind} with {count} entries: {} reported, {allocated} allocated",
                index.bytes()
            );
        }
    }
}

#[test]
fn observations_allocate_nothing_after_warm_up() {
    for &kind in IndexKind::ALL {
        for &storage in StorageKind::ALL {
            let mut config = Config {
                agents: 100,
                agent_index: kind,
                resource_index: kind,
                ..Config::default()
            };
            config.resources.count = 200;
            config.observation.storage = storage;
            let mut scene = ObservationScene::new(&config).unwrap();
            for slot in (0..100).chain(0..100) {
                scene.observe(slot);
            }
            let before = CALLS.get();
            for slot in 0..100 {
                scene.observe(slot);
            }
            assert_eq!(CALLS.get() - before, 0, "{kind}, {storage}");
        }
    }
}
