//! Reads the step marks that a target makes with `simprof-probe`, and pairs them to steps.

mod ring;
mod steps;

use std::io;

pub use ring::Mark;
use ring::Ring;
pub use steps::MarkedSteps;
use steps::Pairing;

/// The step marks of one run.
pub struct Marks {
    ring: Ring,
    pairing: Pairing,
}

impl Marks {
    /// Creates the shared memory.
    pub fn create() -> io::Result<Marks> {
        Ok(Marks { ring: Ring::create()?, pairing: Pairing::default() })
    }

    /// Returns the path by which a process of the same user can open the memory while this process lives.
    pub fn path(&self) -> String {
        self.ring.path()
    }

    /// Reads all new marks. The memory has space for 32,768 marks; marks are lost if more come
    /// between two calls.
    pub fn drain(&mut self) {
        self.drain_with(|_| {});
    }

    /// Reads all new marks, as [`Marks::drain`], and calls `pass` with each of them.
    pub fn drain_with(&mut self, mut pass: impl FnMut(Mark)) {
        let pairing = &mut self.pairing;
        self.ring.drain(|mark| {
            pairing.add(mark);
            pass(mark);
        });
    }

    /// Returns all steps. Call it when the target has ended.
    pub fn finish(mut self) -> MarkedSteps {
        self.drain();
        let lost = self.ring.lost();
        self.pairing.finish(lost)
    }
}
