//! Observations: 13 planes of cells around an agent, and the planes that an agent remembers.

mod agent_memory;
mod channel;
mod event;
mod grid;
mod ground;
mod observer;
mod plane;
mod scene;
mod spread;
mod window;

#[cfg(test)]
mod tests;

pub use agent_memory::AgentMemory;
pub use channel::{Channel, ChannelSet};
pub use event::EventFields;
pub use grid::{ResourceGrid, ResourceSource};
pub use ground::Terrain;
pub use observer::{Observation, Observer, observe};
pub use plane::{Plane, StorageKind};
pub use scene::ObservationScene;
pub use spread::Spread;
pub use window::{Cell, Window};
