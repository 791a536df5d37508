//! The data stack of a thread: chunks of memory in which its frames lie end to end (from 3.11 on).

use super::layout::Layout;
use super::state::State;

/// Where the fields of `_PyStackChunk` are; they are the same in all versions.
const PREVIOUS: usize = 0;
const SIZE: usize = 8;
const TOP: usize = 16;
const DATA: usize = 24;

/// Most chunks that are looked at.
const CHUNKS: usize = 32;

/// The used part of a thread's newest chunk, and the way to the others.
///
/// The chunks that are linked from the thread state are mapped: the interpreter unlinks one before it frees it,
/// by a call that the compiler cannot move stores across.
#[derive(Debug, Clone, Copy)]
pub struct DataStack {
    chunk: usize,
    top: usize,
}

impl DataStack {
    /// That of the thread of `state`; empty where the layout has none or the state is not to be trusted.
    pub fn of(layout: &Layout, state: State) -> DataStack {
        if layout.thread.chunk == 0 || state.checked {
            return DataStack { chunk: 0, top: 0 };
        }
        let at = state.address + layout.thread.chunk;
        let (chunk, top) = (word(at), word(at + 8));
        if chunk == 0 {
            return DataStack { chunk: 0, top: 0 };
        }
        // While a chunk is added or removed, the two may be of different chunks.
        let used = chunk + DATA..=chunk + word(chunk + SIZE);
        DataStack { chunk, top: if used.contains(&top) { top } else { chunk + DATA } }
    }

    /// Where the newest frame ends.
    pub fn top(self) -> usize {
        self.top
    }

    /// Whether a frame whose fields are of so many `bytes` may begin at `address`: in the used part of a chunk.
    #[inline]
    pub fn contains(self, address: usize, bytes: usize) -> bool {
        address.is_multiple_of(8)
            && self.chunks().any(|(chunk, top)| {
                address >= chunk + DATA && address.checked_add(bytes).is_some_and(|end| end <= top)
            })
    }

    /// Where the frame begins that was pushed after the one that ends at `end`: there, or, where that is the
    /// end of a chunk, in the next one.
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

    /// The chunks with the ends of their used parts, the newest first.
    fn chunks(self) -> impl Iterator<Item = (usize, usize)> {
        let mut next = (self.chunk, self.top);
        (0..CHUNKS).map_while(move |_| {
            let (chunk, top) = next;
            if chunk == 0 {
                return None;
            }
            let previous = word(chunk + PREVIOUS);
            next = (previous, if previous == 0 { 0 } else { top_of(previous) });
            Some((chunk, top))
        })
    }
}

/// Where the used part of a chunk ends that is not the newest.
fn top_of(chunk: usize) -> usize {
    let top = chunk.wrapping_add(DATA).wrapping_add(word(chunk + TOP).wrapping_mul(8));
    top.min(chunk + word(chunk + SIZE))
}

fn word(address: usize) -> usize {
    // SAFETY: the callers' addresses are of the live thread state or of a chunk that is linked from it.
    unsafe { core::ptr::with_exposed_provenance::<usize>(address).read_volatile() }
}
