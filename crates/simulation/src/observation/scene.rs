//! A world of agents and resources to observe, for benchmarks and tests.

use super::{Observation, Observer};
use crate::config::Config;
use crate::error::Error;
use crate::world::World;

/// A world in which agents observe but do not act.
#[derive(Debug)]
pub struct ObservationScene {
    world: World,
    observer: Observer,
}

impl ObservationScene {
    /// Creates the world of a configuration and its observer.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Config::validate`] and [`World::new`].
    pub fn new(config: &Config) -> Result<Self, Error> {
        config.validate()?;
        let world = World::new(config)?;
        let observer = Observer::new(config.observation, &world);
        Ok(Self { world, observer })
    }

    /// Returns the world.
    #[must_use]
    pub fn world(&self) -> &World {
        &self.world
    }

    /// Makes the observation of the agent at a slot.
    pub fn observe(&mut self, slot: usize) -> &Observation {
        self.world.turn += 1;
        self.observer.observe(&self.world, slot)
    }

    /// Returns the observer and the world, to run the parts of an observation separately.
    pub fn parts(&mut self) -> (&mut Observer, &World) {
        (&mut self.observer, &self.world)
    }

    /// Returns the heap size of the remembered planes in bytes.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.observer.memory_bytes()
    }
}
