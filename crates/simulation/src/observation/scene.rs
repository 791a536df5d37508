//! A world of agents and resources to observe: input for benchmarks and tests.

use super::{Observation, Observer};
use crate::config::Config;
use crate::error::Error;
use crate::world::World;

/// A world in which nobody acts, and its observer.
#[derive(Debug)]
pub struct ObservationScene {
    world: World,
    observer: Observer,
}

impl ObservationScene {
    /// Places the agents and resources of a configuration; for two resources an agent, set `resources.count` so.
    ///
    /// # Errors
    ///
    /// Those of [`Config::validate`] and [`World::new`].
    pub fn new(config: &Config) -> Result<Self, Error> {
        config.validate()?;
        let world = World::new(config)?;
        let observer = Observer::new(config.observation, &world);
        Ok(Self { world, observer })
    }

    /// The world.
    #[must_use]
    pub fn world(&self) -> &World {
        &self.world
    }

    /// Makes the observation of the agent at a slot.
    pub fn observe(&mut self, slot: usize) -> &Observation {
        self.world.turn += 1;
        self.observer.observe(&self.world, slot)
    }

    /// The observer and the world, to run the parts of an observation one by one.
    pub fn parts(&mut self) -> (&mut Observer, &World) {
        (&mut self.observer, &self.world)
    }

    /// Bytes of heap memory of what agents remember.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.observer.memory_bytes()
    }
}
