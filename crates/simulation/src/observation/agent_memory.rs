//! The memory of an agent: the planes of past observations that it keeps.

use super::plane::{Plane, Shift, StorageKind};
use super::window::Cell;
use super::{Channel, ChannelSet};

/// The remembered channels, in the order in which a memory stores them.
pub(crate) const REMEMBERED: [Channel; 5] = [
    Channel::KnownEmpty,
    Channel::DamageHeat,
    Channel::Trails,
    Channel::AllySignal,
    Channel::Landmarks,
];

/// The remembered planes of one agent.
#[derive(Debug, Clone)]
pub struct AgentMemory {
    pub(crate) planes: [Plane; REMEMBERED.len()],
    /// Centre of the window when the planes were stored.
    pub(crate) centre: Cell,
    /// Turn of the last observation. Events from then on are new to the agent.
    pub(crate) since: u64,
}

impl AgentMemory {
    /// Creates an empty memory.
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

    /// Clears all planes for an agent whose window is at `centre` and which observes from `turn` on.
    pub fn reset(&mut self, centre: Cell, turn: u64) {
        self.planes.iter_mut().for_each(Plane::clear);
        self.centre = centre;
        self.since = turn;
    }

    /// Shifts and decays the planes of `channels` for a window whose centre is now `centre`.
    pub fn shift_and_decay(&mut self, centre: Cell, side: usize, channels: ChannelSet) {
        let (dx, dy) = (centre.x - self.centre.x, centre.y - self.centre.y);
        for (plane, channel) in self.planes.iter_mut().zip(REMEMBERED) {
            if channels.has(channel) {
                let decay = channel.decay().unwrap_or(1.0);
                plane.shift_and_decay(Shift { dx, dy, decay, side });
            }
        }
        self.centre = centre;
    }

    /// Returns the heap size in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.planes.iter().map(Plane::bytes).sum()
    }
}
