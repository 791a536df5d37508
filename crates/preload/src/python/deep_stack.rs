//! Finds the outermost frames of a stack that is too deep to be recorded completely.
//!
//! The frames in its middle are only counted, by following their links. If there are too many even for that, the walk
//! continues at a frame near the beginning of the data stack, where the outermost frames are (from 3.11 on).

use super::data_stack;
use super::layout::Chain;
use super::thread_state::ThreadState;
use super::walk::{End, Position, Walk};
use crate::format::{LEFT_OUT, MAX_FRAMES, OUTERMOST_FRAMES, flag};
use crate::lookup_cache::PythonCache;
use crate::scratch;
use crate::tree::Frame;

/// Maximum number of links that are followed if the data stack shows where the outermost frames are.
const FOLLOWED: usize = 4096;
/// Maximum number of links that are followed if nothing else leads to the outermost frames.
const FOLLOWED_OBJECTS: usize = 32_768;
/// Number of frames that are skipped from the beginning of the data stack. Each is read with checks, which cost a few system
/// calls.
const SKIPPED: usize = 64;

impl Walk<'_> {
    /// Appends the outermost frames of a very deep stack to the `count` innermost ones, which `next` follows.
    pub(super) fn collect_outermost(
        &mut self,
        next: Position,
        frames: &mut scratch::Frames,
        mut count: usize,
        recent: &mut PythonCache,
    ) -> (usize, u32) {
        let Some(mut at) = self.near_root(next, OUTERMOST_FRAMES) else {
            return (count, flag::CUT);
        };
        let flags = if at == next { 0 } else { flag::LEFT_OUT };
        if flags != 0 {
            frames[count] = Frame { code: LEFT_OUT, instruction: u32::MAX, flags: 0 };
            count += 1;
        }
        let (count, end) = self.read(&mut at, frames, count, MAX_FRAMES, recent);
        match end {
            End::Root => (count, flags),
            End::Many => (count, flag::CUT),
            End::Stopped(stop) => self.stopped(stop, frames, count),
        }
    }

    /// Returns the frame from which at most `count` frames lead to the root: `from` itself, or one closer to the root. `None` if
    /// the root was not found.
    ///
    /// The frame at `from`, and so all frames from there to the root, must be known to be live.
    fn near_root(&self, from: Position, count: usize) -> Option<Position> {
        let limit = if self.layout.chain == Chain::Objects { FOLLOWED_OBJECTS } else { FOLLOWED };
        match self.before_root(from, count, limit) {
            Ok(position) => Some(position),
            Err(end) => self.before_root(self.near_base(end.state)?, count, limit).ok(),
        }
    }

    /// Follows at most `limit` links to the root. Returns the frame from which `count` frames lead to it, or `from` if it is closer;
    /// otherwise the frame that was reached.
    fn before_root(
        &self,
        from: Position,
        count: usize,
        limit: usize,
    ) -> Result<Position, Position> {
        // The second position follows the first at a distance of `count` frames.
        let (mut first, mut second) = (from, from);
        for step in 0..limit {
            if first.address == 0 {
                return Ok(second);
            }
            if step >= count {
                second = self.outward(second);
            }
            first = self.outward(first);
        }
        Err(first)
    }

    /// Returns the next outer frame. Its address is 0 at the root.
    fn outward(&self, at: Position) -> Position {
        let mut next = Position {
            address: self.word(at.address + self.layout.frame.previous, true).unwrap_or(0),
            ..at
        };
        while next.address == 0
            && let Some(address) = self.states.get(next.state + 1)
        {
            let state = ThreadState { address, checked: false };
            let address = self.innermost_of(state).unwrap_or(0);
            next = Position { address, state: next.state + 1 };
        }
        next
    }

    /// Returns a frame near the beginning of the data stack of a thread state.
    ///
    /// The frames on the data stack follow each other without gaps. Those at its beginning called thousands of others, so they are
    /// complete.
    fn near_base(&self, state: usize) -> Option<Position> {
        let (mut address, end) = data_stack::base(self.layout, self.states.get(state)?)?;
        let frame = &self.layout.frame;
        for _ in 0..SKIPPED {
            let code = self.readable_word(address + frame.code, end)? & !7;
            let (_, size) = self.head_with(code, false)?;
            let next =
                address.checked_add(size).filter(|&next| size >= frame.bytes && next < end)?;
            address = next;
        }
        let code = self.readable_word(address + frame.code, end)? & !7;
        self.head_with(code, false)?;
        Some(Position { address, state })
    }

    /// Reads a word that lies before `end`, the end of the used part of the first chunk.
    fn readable_word(&self, address: usize, end: usize) -> Option<usize> {
        (address.checked_add(8)? <= end).then(|| self.word(address, true))?
    }
}
