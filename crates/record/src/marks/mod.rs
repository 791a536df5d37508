//! Step marks that a target makes with `simprof-probe`: reading them, and what they mean.

mod ring;
mod steps;

use std::io;

pub use ring::Mark;
use ring::Ring;
pub use steps::Marked;
use steps::Pairing;

/// Marks of one run.
pub struct Marks {
    ring: Ring,
    pairing: Pairing,
}

impl Marks {
    /// Creates the shared memory.
    pub fn create() -> io::Result<Marks> {
        Ok(Marks { ring: Ring::create()?, pairing: Pairing::default() })
    }

    /// Path by which a process of the same user can open the memory while this one lives.
    pub fn path(&self) -> String {
        self.ring.path()
    }

    /// Reads what has come. The memory holds 32,768 marks, so that marks are only lost where more
    /// come between two calls.
    pub fn drain(&mut self) {
        self.drain_with(|_| {});
    }

    /// As [`Marks::drain`]; shows each mark to `pass`.
    pub fn drain_with(&mut self, mut pass: impl FnMut(Mark)) {
        let pairing = &mut self.pairing;
        self.ring.drain(|mark| {
            pairing.add(mark);
            pass(mark);
        });
    }

    /// All steps, when the target has ended.
    pub fn finish(mut self) -> Marked {
        self.drain();
        let lost = self.ring.lost();
        self.pairing.finish(lost)
    }
}
