//! What one agent remembers of past observations.

use super::plane::{Passage, Plane, StorageKind};
use super::window::Cell;
use super::{Channel, ChannelSet};

/// The channels that are remembered, in the order in which a memory keeps them.
pub(crate) const REMEMBERED: [Channel; 5] = [
    Channel::KnownEmpty,
    Channel::DamageHeat,
    Channel::Trails,
    Channel::AllySignal,
    Channel::Landmarks,
];

/// The remembered planes of one agent.
#[derive(Debug, Clone)]
pub struct Memory {
    pub(crate) planes: [Plane; REMEMBERED.len()],
    /// Where the window was centred when they were stored.
    pub(crate) centre: Cell,
    /// The turn of the last observation: events from then on are news.
    pub(crate) since: u64,
}

impl Memory {
    /// An empty memory.
    #[must_use]
    pub fn new(storage: StorageKind) -> Self {
        let dense = |channel| match storage {
            StorageKind::Dense => true,
            StorageKind::Sparse => false,
            StorageKind::Hybrid => channel == Channel::KnownEmpty,
        };
        Self {
            planes: REMEMBERED.map(|channel| Plane::new(dense(channel))),
            centre: Cell::default(),
            since: 0,
        }
    }

    /// Forgets everything; the agent looks at `centre` from `turn` on.
    pub fn reset(&mut self, centre: Cell, turn: u64) {
        self.planes.iter_mut().for_each(Plane::clear);
        self.centre = centre;
        self.since = turn;
    }

    /// Shifts and decays the planes of a set for a window that is now around `centre`.
    pub fn pass(&mut self, centre: Cell, side: usize, channels: ChannelSet) {
        let (dx, dy) = (centre.x - self.centre.x, centre.y - self.centre.y);
        for (plane, channel) in self.planes.iter_mut().zip(REMEMBERED) {
            if channels.has(channel) {
                let decay = channel.decay().unwrap_or(1.0);
                plane.pass(Passage { dx, dy, decay, side });
            }
        }
        self.centre = centre;
    }

    /// Bytes of heap memory.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.planes.iter().map(Plane::bytes).sum()
    }
}
