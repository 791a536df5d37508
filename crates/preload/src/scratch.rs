//! Buffers for the frames of a stack while it is read, taken from a fixed pool. A thread's own stack may be
//! too small for them. Each buffer also has a cache of recent lookups.

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::format::MAX_FRAMES;
use crate::lookup_cache::PythonCache;
use crate::tree::Frame;

/// Number of buffers: of stacks that can be read at the same time, by different threads or by nested signal handlers. Reading
/// one takes microseconds.
const BUFFERS: usize = 32;

/// The frames of one stack, the leaf first.
pub type Frames = [Frame; MAX_FRAMES];

/// Working memory for reading one stack.
pub struct Buffer {
    pub frames: Frames,
    pub recent: PythonCache,
}

struct Pool(UnsafeCell<[Buffer; BUFFERS]>);

// SAFETY: only the thread that holds a buffer's bit in TAKEN uses the buffer.
unsafe impl Sync for Pool {}

/// All zeros, so it uses no memory until it is written.
static POOL: Pool = Pool(UnsafeCell::new(
    [const {
        Buffer {
            frames: [Frame { code: 0, instruction: 0, flags: 0 }; MAX_FRAMES],
            recent: PythonCache::EMPTY,
        }
    }; BUFFERS],
));
static TAKEN: AtomicU64 = AtomicU64::new(0);

/// Calls `work` with a free buffer. `None` if all are taken, since it never waits.
pub fn with<T>(work: impl FnOnce(&mut Buffer) -> T) -> Option<T> {
    let index = take()?;
    // SAFETY: this thread holds the bit, so there is no other reference to this buffer.
    let buffer = unsafe { &mut *POOL.0.get().cast::<Buffer>().add(index) };
    let result = work(buffer);
    TAKEN.fetch_and(!(1 << index), Ordering::Release);
    Some(result)
}

fn take() -> Option<usize> {
    loop {
        let taken = TAKEN.load(Ordering::Relaxed);
        let index = taken.trailing_ones() as usize;
        if index == BUFFERS {
            return None;
        }
        let before = TAKEN.fetch_or(1 << index, Ordering::Acquire);
        if before & (1 << index) == 0 {
            return Some(index);
        }
    }
}

/// Must be called in a forked child: the threads that held buffers do not exist there.
pub fn forked() {
    TAKEN.store(0, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_exclusive_and_taking_one_never_waits() {
        fn nest(depth: usize) -> usize {
            let inner = with(|buffer| {
                buffer.frames[0].code = depth as u32;
                let inner = nest(depth + 1);
                assert_eq!(buffer.frames[0].code, depth as u32);
                inner + 1
            });
            inner.unwrap_or(0)
        }
        assert_eq!(nest(0), BUFFERS);
        assert_eq!(nest(0), BUFFERS);
    }
}
