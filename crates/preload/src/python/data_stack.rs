//! The data stack of a thread: chunks of memory that contain its frames one after the other (from 3.11 on).

use super::layout::Layout;
use super::thread_state::ThreadState;

/// Offsets of the fields of `_PyStackChunk`, the same in all versions.
const PREVIOUS: usize = 0;
const SIZE: usize = 8;
const TOP: usize = 16;
const DATA: usize = 24;

/// Maximum number of chunks that are examined for a frame.
const CHUNKS: usize = 32;
/// Maximum number of chunks that are followed to the oldest one.
const ALL_CHUNKS: usize = 16_384;

/// The used part of a thread's newest chunk, which links to the older ones.
///
/// The chunks linked from the thread state are mapped: the interpreter unlinks one before it frees it, by a
/// call that the compiler cannot move stores across.
#[derive(Debug, Clone, Copy)]
pub struct DataStack {
    chunk: usize,
    top: usize,
}

impl DataStack {
    /// Returns the data stack of a thread. Empty if the layout has none or the state may be freed at any time.
    pub fn for_thread(layout: &Layout, state: ThreadState) -> DataStack {
        if layout.thread.chunk == 0 || state.checked {
            return DataStack { chunk: 0, top: 0 };
        }
        let at = state.address + layout.thread.chunk;
        let (chunk, top) = (word(at), word(at + 8));
        if chunk == 0 {
            return DataStack { chunk: 0, top: 0 };
        }
        // While a chunk is added or removed, the two fields may belong to different chunks.
        let used = chunk + DATA..=chunk + word(chunk + SIZE);
        DataStack { chunk, top: if used.contains(&top) { top } else { chunk + DATA } }
    }

    /// Returns the end of the newest frame.
    pub fn top(self) -> usize {
        self.top
    }

    /// Returns whether a frame may begin at `address`: its fields, which take this many bytes, must lie in the used
    /// part of a chunk.
    #[inline]
    pub fn contains(self, address: usize, bytes: usize) -> bool {
        address.is_multiple_of(8)
            && self.chunks().any(|(chunk, top)| {
                address >= chunk + DATA && address.checked_add(bytes).is_some_and(|end| end <= top)
            })
    }

    /// Returns the beginning of the frame that was pushed after the one that ends at `end`. It is `end`
    /// itself, or the beginning of the next chunk if `end` is the end of a chunk.
    pub fn next(self, end: usize) -> usize {
        let mut newer = end;
        for (chunk, top) in self.chunks() {
            if top == end && chunk != self.chunk {
                return newer;
            }
            newer = chunk + DATA;
        }
        end
    }

    /// Returns the chunks with the ends of their used parts, the newest first.
    fn chunks(self) -> impl Iterator<Item = (usize, usize)> {
        let mut next = (self.chunk, self.top);
        (0..CHUNKS).map_while(move |_| {
            let (chunk, top) = next;
            if chunk == 0 {
                return None;
            }
            let previous = word(chunk + PREVIOUS);
            next = (previous, if previous == 0 { 0 } else { used_end(previous) });
            Some((chunk, top))
        })
    }
}

/// Returns the beginning of the first frame on the data stack of the thread state at `address`, and the end of the used part of
/// its chunk. `None` if the layout has no data stack, or if it has a single chunk or too many. The state must be live.
pub fn base(layout: &Layout, address: usize) -> Option<(usize, usize)> {
    if layout.thread.chunk == 0 {
        return None;
    }
    let newest = word(address + layout.thread.chunk);
    let mut chunk = newest;
    for _ in 0..ALL_CHUNKS {
        if chunk == 0 {
            return None;
        }
        match word(chunk + PREVIOUS) {
            // The interpreter does not use the first word of the oldest chunk, so that it never frees this chunk.
            0 => return (chunk != newest).then(|| (chunk + DATA + 8, used_end(chunk))),
            previous => chunk = previous,
        }
    }
    None
}

/// Returns the end of the used part of a chunk that is not the newest.
fn used_end(chunk: usize) -> usize {
    let top = chunk.wrapping_add(DATA).wrapping_add(word(chunk + TOP).wrapping_mul(8));
    top.min(chunk + word(chunk + SIZE))
}

fn word(address: usize) -> usize {
    // SAFETY: the callers' addresses are in the live thread state or in a chunk that is linked from it.
    unsafe { core::ptr::with_exposed_provenance::<usize>(address).read_volatile() }
}
