//! A run of the simulation. Each step consists of turns, regeneration, index updates and logging.

use crate::agent::{Turn, agent_act};
use crate::config::Config;
use crate::counters::Counters;
use crate::database::{Log, StepRow, database_log};
use crate::error::Error;
use crate::observation::Observer;
use crate::policy::{Policy, new_policy};
use crate::world::World;

/// The results of one step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepReport {
    /// Number of the step, from 0.
    pub step: u64,
    /// Number of living agents at the end of the step.
    pub living: u64,
    /// Work done in the step.
    pub counters: Counters,
}

/// An event that [`Simulation::run`] reports.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum StepEvent {
    /// A step is about to begin.
    Begin {
        /// Number of the step, from 0.
        step: u64,
    },
    /// A step has ended.
    End(StepReport),
}

/// The results of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Summary {
    /// Number of steps.
    pub steps: u64,
    /// Digest of the final state. It is the same on every machine, for every kind of index and every setting of the database.
    pub state_hash: u64,
    /// Number of living agents at the end.
    pub living: u64,
    /// Work done in all steps.
    pub totals: Counters,
}

/// A simulation that the caller advances step by step.
pub struct Simulation {
    steps: u64,
    world: World,
    observer: Option<Observer>,
    policy: Box<dyn Policy>,
    totals: Counters,
}

impl std::fmt::Debug for Simulation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Simulation")
            .field("world", &self.world)
            .field("totals", &self.totals)
            .finish_non_exhaustive()
    }
}

impl Simulation {
    /// Sets up a run and creates its database.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Config::validate`], [`Error::DatabaseExists`] if the database file exists, and [`Error::Database`] or
    /// [`Error::File`] if it cannot be created.
    pub fn new(config: &Config) -> Result<Self, Error> {
        config.validate()?;
        let policy = new_policy(config.policy);
        let mut world = World::new(config)?;
        if let Some(database) = &config.database {
            world.log = Some(Log::create(database, config, &world)?);
        }
        let observer = config.observe.then(|| Observer::new(config.observation, &world));
        Ok(Self { steps: config.steps, world, observer, policy, totals: Counters::default() })
    }

    /// Returns the state of the run.
    #[must_use]
    pub fn world(&self) -> &World {
        &self.world
    }

    /// Returns the observer. `None` if agents do not observe.
    #[must_use]
    pub fn observer(&self) -> Option<&Observer> {
        self.observer.as_ref()
    }

    /// Runs one step.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Database`] or [`Error::WriterStopped`] if rows cannot be written.
    pub fn step(&mut self) -> Result<StepReport, Error> {
        let step = self.world.step;
        self.take_turns();
        self.world.regenerate();
        self.world.agent_index.end_step(step);
        let mut counters = self.world.take_counters();
        counters.rows_written = self.log_step(&counters)?;
        if self.world.needs_sweep() {
            self.sweep();
        }
        self.world.step += 1;
        self.totals += counters;
        Ok(StepReport { step, living: self.world.living as u64, counters })
    }

    /// Runs until the configured number of steps is reached. Calls `on_step` when a step begins and when it ends.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Simulation::step`].
    pub fn run(&mut self, mut on_step: impl FnMut(StepEvent)) -> Result<(), Error> {
        while self.world.step < self.steps {
            on_step(StepEvent::Begin { step: self.world.step });
            let report = self.step()?;
            on_step(StepEvent::End(report));
        }
        Ok(())
    }

    /// Writes the remaining rows to the database, closes it and returns the results of the run.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Database`], [`Error::WriterStopped`] or [`Error::File`] if the database cannot be completed.
    pub fn finish(mut self) -> Result<Summary, Error> {
        let summary = Summary {
            steps: self.world.step,
            state_hash: self.world.state_hash(),
            living: self.world.living as u64,
            totals: self.totals,
        };
        if let Some(log) = self.world.log.take() {
            log.finish(summary.steps, summary.state_hash)?;
        }
        Ok(summary)
    }

    /// Lets every agent that lived at the start of the step take a turn, in the order of their numbers.
    fn take_turns(&mut self) {
        let mut turn = Turn {
            world: &mut self.world,
            observer: self.observer.as_mut(),
            policy: &mut *self.policy,
        };
        for slot in 0..turn.world.agents.len() {
            if turn.world.agents[slot].alive {
                agent_act(&mut turn, slot);
                turn.world.turn += 1;
            }
        }
    }

    fn log_step(&mut self, counters: &Counters) -> Result<u64, Error> {
        let Some(mut log) = self.world.log.take() else {
            return Ok(0);
        };
        let metrics = StepRow::from_world(&self.world, counters);
        let written = database_log(&mut log, &self.world, metrics);
        self.world.log = Some(log);
        written
    }

    /// Removes dead agents, which changes slots.
    fn sweep(&mut self) {
        if let Some(observer) = &mut self.observer {
            let agents = &self.world.agents;
            observer.retain_slots(|slot| agents[slot].alive);
        }
        self.world.sweep();
    }
}
