//! The log of a run. It buffers rows, and writes them when the buffer is full, after an interval of time, or after a number of steps.

use std::time::{Duration, Instant};

use super::rows::{
    ActionRow, AgentRow, Batch, DeathRow, HealthRow, InteractionRow, ReproductionRow, ResourceRow,
    RunRow, StateRow, StepRow,
};
use super::sink::Sink;
use super::writer::Writer;
use crate::config::{Config, DatabaseConfig};
use crate::error::Error;
use crate::world::World;

/// Buffers the rows of a run.
#[derive(Debug)]
pub struct Log {
    sink: Sink,
    batch: Batch,
    buffer_size: usize,
    flush_interval: Option<Duration>,
    flush_every_steps: u64,
    last_flush: Instant,
    /// Rows logged since the start.
    rows: u64,
    /// Rows logged at the last call of `database_log`.
    rows_before: u64,
    /// Number of the next health row in its step.
    health_number: u32,
    /// Whether rows were written without a commit.
    uncommitted: bool,
}

impl Log {
    /// Creates the database of a run and logs its initial agents.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Writer::create`].
    pub fn create(
        database: &DatabaseConfig,
        config: &Config,
        world: &World,
    ) -> Result<Self, Error> {
        let run =
            RunRow { seed: config.seed, parameters: format!("{config:?}"), steps: config.steps };
        let mut log = Self::new(database, &run)?;
        for agent in &world.agents {
            log.agent(AgentRow::from_agent(agent, None));
        }
        Ok(log)
    }

    /// Creates a database with an empty log.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Writer::create`] and [`Sink::new`].
    pub fn new(database: &DatabaseConfig, run: &RunRow) -> Result<Self, Error> {
        let writer = Writer::create(database, run)?;
        Ok(Self {
            sink: Sink::new(writer, database.writer_thread)?,
            batch: Batch::default(),
            buffer_size: database.buffer_size,
            flush_interval: database.flush_interval,
            flush_every_steps: database.flush_every_steps,
            last_flush: Instant::now(),
            rows: 0,
            rows_before: 0,
            health_number: 0,
            uncommitted: false,
        })
    }

    /// Logs a birth.
    pub fn agent(&mut self, row: AgentRow) {
        self.batch.agents.push(row);
        self.rows += 1;
    }

    /// Logs a death.
    pub fn death(&mut self, row: DeathRow) {
        self.batch.deaths.push(row);
    }

    /// Logs an action.
    pub fn action(&mut self, row: ActionRow) {
        self.batch.actions.push(row);
        self.rows += 1;
    }

    /// Logs an interaction.
    pub fn interaction(&mut self, row: InteractionRow) {
        self.batch.interactions.push(row);
        self.rows += 1;
    }

    /// Logs an attempt to reproduce.
    pub fn reproduction(&mut self, row: ReproductionRow) {
        self.batch.reproductions.push(row);
        self.rows += 1;
    }

    /// Logs a change of health and numbers it.
    pub fn health(&mut self, mut row: HealthRow) {
        row.number = self.health_number;
        self.health_number += 1;
        self.batch.health.push(row);
        self.rows += 1;
    }

    /// Logs the state of an agent.
    pub fn state(&mut self, row: StateRow) {
        self.batch.states.push(row);
        self.rows += 1;
    }

    /// Logs the state of a resource.
    pub fn resource(&mut self, row: ResourceRow) {
        self.batch.resources.push(row);
        self.rows += 1;
    }

    /// Logs the metrics of a step. They must be the last row of the step. Writes and commits if the settings require it.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Sink::take`].
    pub fn end_step(&mut self, row: StepRow) -> Result<(), Error> {
        let step = row.step;
        self.batch.steps.push(row);
        self.rows += 1;
        self.health_number = 0;
        let full = self.batch.rows() >= self.buffer_size;
        if full || self.uncommitted || self.due(step) {
            self.flush()?;
        }
        Ok(())
    }

    fn due(&self, step: u64) -> bool {
        let by_step =
            self.flush_every_steps > 0 && (step + 1).is_multiple_of(self.flush_every_steps);
        let overdue = |interval| self.last_flush.elapsed() >= interval;
        by_step || self.flush_interval.is_some_and(overdue)
    }

    /// Writes the rows of an unfinished step if the buffer is full. They are committed when the step ends.
    fn spill(&mut self) -> Result<(), Error> {
        if self.batch.rows() >= self.buffer_size {
            self.sink.take(&mut self.batch)?;
            self.uncommitted = true;
        }
        Ok(())
    }

    /// Returns the writer. `None` if it runs on a separate thread.
    #[must_use]
    pub fn writer(&self) -> Option<&Writer> {
        match &self.sink {
            Sink::Direct(writer) => Some(writer),
            Sink::Thread(_) => None,
        }
    }

    /// Writes and commits all buffered rows. It must be called between steps.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Sink::take`].
    pub fn flush(&mut self) -> Result<(), Error> {
        self.batch.commit = true;
        self.sink.take(&mut self.batch)?;
        self.uncommitted = false;
        if self.flush_interval.is_some() {
            self.last_flush = Instant::now();
        }
        Ok(())
    }

    /// Writes the remaining rows and completes the database with the number of steps and the digest of the final state. Returns the
    /// number of rows written.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Sink::finish`] and [`Writer::finish`].
    pub fn finish(mut self, steps: u64, state_hash: u64) -> Result<u64, Error> {
        let last = self.flush();
        let writer = self.sink.finish()?;
        last?;
        writer.finish(steps, state_hash)
    }
}

/// Logs the end of a step: a row per living agent and per resource, and the metrics. Returns the number of rows of the whole step.
///
/// # Errors
///
/// Returns the errors of [`Log::end_step`].
#[inline(never)]
pub fn database_log(log: &mut Log, world: &World, metrics: StepRow) -> Result<u64, Error> {
    log.spill()?;
    for agent in world.agents.iter().filter(|agent| agent.alive) {
        log.state(StateRow::from_agent(agent, world.step));
    }
    log.spill()?;
    let amounts = world.resources.positions.iter().zip(&world.resources.amounts);
    for (id, (at, &amount)) in amounts.enumerate() {
        log.resource(ResourceRow {
            step: world.step,
            resource: id as u32,
            at: [at.x, at.y],
            amount,
        });
    }
    log.end_step(metrics)?;
    let added = log.rows - log.rows_before;
    log.rows_before = log.rows;
    Ok(added)
}
