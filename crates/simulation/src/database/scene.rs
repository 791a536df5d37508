//! A database with generated rows, and queries, for benchmarks and tests.

use super::log::Log;
use super::read::Queries;
use super::rows::{AgentRow, RunRow, StateRow, StepRow};
use crate::agent::{Agent, AgentType};
use crate::config::{DatabaseConfig, Rules};
use crate::digest::Digest;
use crate::error::Error;
use crate::geometry::Point;
use crate::random::{Domain, Random};

/// A log of steps with a fixed number of agents in random states.
#[derive(Debug)]
pub struct DatabaseScene {
    log: Log,
    agents: Vec<Agent>,
    seed: u64,
    step: u64,
    rows: u64,
}

/// The result of a series of queries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadResult {
    /// Sum of the row counts that the queries returned.
    pub rows: u64,
    /// Digest of all results.
    pub digest: u64,
}

impl DatabaseScene {
    /// Creates a new database and logs `agents` agents.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Log::new`].
    pub fn new(config: &DatabaseConfig, agents: u32, seed: u64) -> Result<Self, Error> {
        let run = RunRow { seed, parameters: format!("{config:?}"), steps: 0 };
        let mut log = Log::new(config, &run)?;
        let rules = Rules::default();
        let kind = |id: u32| AgentType::ALL[id as usize % AgentType::ALL.len()];
        let agents: Vec<Agent> =
            (0..agents).map(|id| Agent::new(id, kind(id), Point::default(), &rules)).collect();
        for agent in &agents {
            log.agent(AgentRow::from_agent(agent, None));
        }
        Ok(Self { rows: agents.len() as u64, log, agents, seed, step: 0 })
    }

    /// Logs the states of up to `most` agents and ends a step. This writes and commits if the configuration requires it. Returns the
    /// number of rows logged.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Log::end_step`].
    pub fn write_step(&mut self, most: u64) -> Result<u64, Error> {
        let states = most.min(self.agents.len() as u64);
        for agent in self.agents.iter().take(states as usize) {
            self.log.state(random_state(agent, self.seed, self.step));
        }
        self.log.end_step(StepRow { step: self.step, ..StepRow::default() })?;
        self.step += 1;
        self.rows += states + 1;
        Ok(states + 1)
    }

    /// Logs `rows` rows in complete steps and returns their number.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`DatabaseScene::write_step`].
    pub fn write(&mut self, rows: u64) -> Result<u64, Error> {
        let mut logged = 0;
        while logged < rows {
            // One row of each step has its metrics.
            logged += self.write_step(rows - logged - 1)?;
        }
        Ok(logged)
    }

    /// Runs `count` queries about steps while the database is being written. They do not see buffered rows. With a writer thread, which
    /// owns the connection, no queries are run.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Database`] if the database cannot be read.
    pub fn read(&self, count: u64) -> Result<ReadResult, Error> {
        let mut results = Results::default();
        if let Some(writer) = self.log.writer() {
            for query in 0..count {
                let step = pick(self.seed, query, self.step);
                results.add(writer.queries().population(step)?);
            }
        }
        Ok(results.finish())
    }

    /// Returns the number of committed transactions. `None` with a writer thread.
    #[must_use]
    pub fn commits(&self) -> Option<u64> {
        self.log.writer().map(super::Writer::commits)
    }

    /// Returns the number of rows logged so far, including those of the agents.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Writes the remaining rows, completes the database and returns the number of rows written.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Log::finish`].
    pub fn finish(self) -> Result<u64, Error> {
        self.log.finish(self.step, 0)
    }
}

/// Runs `count` queries on a complete database. They alternate between populations of steps, histories of agents and actions of ten
/// steps.
///
/// # Errors
///
/// Returns [`Error::Database`] if the database cannot be read.
pub fn read(queries: Queries<'_>, count: u64, seed: u64) -> Result<ReadResult, Error> {
    let (steps, agents) = (queries.steps()?, queries.rows("agents")?);
    let mut results = Results::default();
    for query in 0..count {
        let step = pick(seed, query, steps);
        results.add(match query % 3 {
            0 => queries.population(step)?,
            1 => queries.history(pick(seed, query, agents) as u32)?,
            _ => queries.actions("move", step, step + 10)?,
        });
    }
    Ok(results.finish())
}

/// Accumulates the results of queries.
#[derive(Debug, Default)]
struct Results {
    rows: u64,
    digest: Digest,
}

impl Results {
    fn add(&mut self, (count, value): (u64, f64)) {
        self.rows += count;
        self.digest.word(count);
        self.digest.word(value.to_bits());
    }

    fn finish(self) -> ReadResult {
        ReadResult { rows: self.rows, digest: self.digest.finish() }
    }
}

/// Returns a random number below `bound` for a query.
fn pick(seed: u64, query: u64, bound: u64) -> u64 {
    Random::keyed(seed, Domain::Benchmark, query, 0).below(bound.max(1))
}

fn random_state(agent: &Agent, seed: u64, step: u64) -> StateRow {
    let mut random = Random::keyed(seed, Domain::Benchmark, u64::from(agent.id), step);
    StateRow {
        pose: [random.unit() * 100.0, random.unit() * 100.0, 90.0],
        resource: random.unit() * 20.0,
        health: random.unit() * 100.0,
        total_reward: random.unit(),
        ..StateRow::from_agent(agent, step)
    }
}
