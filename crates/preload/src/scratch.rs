//! Room for the frames of a stack while it is read, taken from a fixed pool: a thread's own stack may be too
//! small for it. Each room keeps what was looked up in it lately.

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::format::MAX_FRAMES;
use crate::recent::Python;
use crate::tree::Frame;

/// How many threads can read stacks at one instant; that takes as many that were each interrupted while they did.
const ROOMS: usize = 64;

/// The frames of one stack, innermost first.
pub type Frames = [Frame; MAX_FRAMES];

/// What whoever reads a stack has for itself.
pub struct Room {
    pub frames: Frames,
    pub recent: Python,
}

struct Pool(UnsafeCell<[Room; ROOMS]>);

// SAFETY: each room is used by the thread that holds its bit in TAKEN alone.
unsafe impl Sync for Pool {}

/// Zeros, so it takes no memory before it is used.
static POOL: Pool = Pool(UnsafeCell::new(
    [const {
        Room {
            frames: [Frame { code: 0, instruction: 0, flags: 0 }; MAX_FRAMES],
            recent: Python::NOTHING,
        }
    }; ROOMS],
));
static TAKEN: AtomicU64 = AtomicU64::new(0);

/// Runs `work` with a room; none where all are taken, as it never waits.
pub fn with<T>(work: impl FnOnce(&mut Room) -> T) -> Option<T> {
    let room = take()?;
    // SAFETY: the bit is held, so nobody else has a reference to this room.
    let taken = unsafe { &mut *POOL.0.get().cast::<Room>().add(room) };
    let result = work(taken);
    TAKEN.fetch_and(!(1 << room), Ordering::Release);
    Some(result)
}

fn take() -> Option<usize> {
    loop {
        let taken = TAKEN.load(Ordering::Relaxed);
        let room = taken.trailing_ones() as usize;
        if room == ROOMS {
            return None;
        }
        let before = TAKEN.fetch_or(1 << room, Ordering::Acquire);
        if before & (1 << room) == 0 {
            return Some(room);
        }
    }
}

/// To be called in a forked child: the threads that held rooms are not there.
pub fn forked() {
    TAKEN.store(0, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_shares_a_room_and_nobody_waits_for_one() {
        fn nest(depth: usize) -> usize {
            let inner = with(|room| {
                room.frames[0].code = depth as u32;
                let inner = nest(depth + 1);
                assert_eq!(room.frames[0].code, depth as u32);
                inner + 1
            });
            inner.unwrap_or(0)
        }
        assert_eq!(nest(0), ROOMS);
        assert_eq!(nest(0), ROOMS);
    }
}
