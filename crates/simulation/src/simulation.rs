//! A run: steps of turns, regeneration, logging and index updates.

use crate::agent::{Turn, agent_act};
use crate::config::Config;
use crate::counters::Counters;
use crate::database::{Log, StepRow, database_log};
use crate::error::Error;
use crate::observation::Observer;
use crate::policy::{Policy, new_policy};
use crate::world::World;

/// What one step did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepReport {
    /// The step's number, from 0.
    pub step: u64,
    /// Agents alive at its end.
    pub living: u64,
    /// Work done in it.
    pub counters: Counters,
}

/// What a caller of [`Simulation::run`] hears.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum StepEvent {
    /// A step is about to begin.
    Begin {
        /// Its number, from 0.
        step: u64,
    },
    /// A step has ended.
    End(StepReport),
}

/// What a whole run did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Summary {
    /// Steps run.
    pub steps: u64,
    /// Digest of the final state: the same on every machine, for every kind of index and way of logging.
    pub state_hash: u64,
    /// Agents alive at the end.
    pub living: u64,
    /// Work done, rows really written included.
    pub totals: Counters,
}

/// A simulation that steps on demand.
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
    /// Sets a run up, with its database.
    ///
    /// # Errors
    ///
    /// Those of [`Config::validate`]; [`Error::DatabaseExists`] if the file is there already; [`Error::Database`] or [`Error::File`] if it cannot
    /// be made.
    pub fn new(config: &Config) -> Result<Self, Error> {
        config.validate()?;
        Self::with_policy(config, new_policy(config.policy))
    }

    /// Sets a run up with a policy of the caller's own, in place of the one that the configuration names.
    ///
    /// # Errors
    ///
    /// Those of [`Simulation::new`].
    pub fn with_policy(config: &Config, policy: Box<dyn Policy>) -> Result<Self, Error> {
        config.validate()?;
        let mut world = World::new(config)?;
        if let Some(database) = &config.database {
            world.log = Some(Log::create(database, config, &world)?);
        }
        let observer = config.observe.then(|| Observer::new(config.observation, &world));
        Ok(Self { steps: config.steps, world, observer, policy, totals: Counters::default() })
    }

    /// The state of the run.
    #[must_use]
    pub fn world(&self) -> &World {
        &self.world
    }

    /// What makes observations, if agents observe.
    #[must_use]
    pub fn observer(&self) -> Option<&Observer> {
        self.observer.as_ref()
    }

    /// Runs one step.
    ///
    /// # Errors
    ///
    /// [`Error::Database`] or [`Error::WriterStopped`] if rows cannot be written.
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

    /// Runs all steps that remain of the configured number and tells `on_step` when each begins and ends.
    ///
    /// # Errors
    ///
    /// Those of [`Simulation::step`].
    pub fn run(&mut self, mut on_step: impl FnMut(StepEvent)) -> Result<(), Error> {
        while self.world.step < self.steps {
            on_step(StepEvent::Begin { step: self.world.step });
            let report = self.step()?;
            on_step(StepEvent::End(report));
        }
        Ok(())
    }

    /// Writes what is left to the database, closes it and sums the run up.
    ///
    /// # Errors
    ///
    /// [`Error::Database`], [`Error::WriterStopped`] or [`Error::File`] if the database cannot be completed.
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

    /// Everybody who lived at the start of the step takes a turn, by number.
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
        let metrics = StepRow::of(&self.world, counters);
        let written = database_log(&mut log, &self.world, metrics);
        self.world.log = Some(log);
        written
    }

    fn sweep(&mut self) {
        if let Some(observer) = &mut self.observer {
            let agents = &self.world.agents;
            observer.retain_slots(|slot| agents[slot].alive);
        }
        self.world.sweep();
    }
}
