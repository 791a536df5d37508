//! A log fed with made-up rows, and questions to put to it: input for benchmarks and tests.

use super::log::Log;
use super::read::Queries;
use super::rows::{AgentRow, RunRow, StateRow, StepRow};
use crate::agent::{Agent, AgentType};
use crate::config::{DatabaseConfig, Rules};
use crate::digest::Digest;
use crate::error::Error;
use crate::geometry::Point;
use crate::random::{Domain, Random};

/// A log of steps in which a fixed number of agents has random states.
#[derive(Debug)]
pub struct DatabaseScene {
    log: Log,
    agents: Vec<Agent>,
    seed: u64,
    step: u64,
    rows: u64,
}

/// What a series of questions was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadResult {
    /// Rows that the answers count.
    pub rows: u64,
    /// Digest of all answers.
    pub digest: u64,
}

impl DatabaseScene {
    /// A new database and the rows of `agents` agents, which wait to be written.
    ///
    /// # Errors
    ///
    /// Those of [`Log::new`].
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

    /// Logs the states of up to `most` agents and ends a step, which writes and commits if the configuration says so; returns the
    /// rows logged.
    ///
    /// # Errors
    ///
    /// Those of [`Log::end_step`].
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

    /// Logs `rows` rows in whole steps; returns how many.
    ///
    /// # Errors
    ///
    /// Those of [`DatabaseScene::write_step`].
    pub fn write(&mut self, rows: u64) -> Result<u64, Error> {
        let mut logged = 0;
        while logged < rows {
            // One row of a step is its metrics.
            logged += self.write_step(rows - logged - 1)?;
        }
        Ok(logged)
    }

    /// Asks `count` questions about steps that are written, between writes; rows that wait in the buffer are not seen. Nothing with a writer
    /// thread, which has the connection.
    ///
    /// # Errors
    ///
    /// [`Error::Database`] if the database cannot be read.
    pub fn read(&self, count: u64) -> Result<ReadResult, Error> {
        let mut answers = Answers::default();
        if let Some(writer) = self.log.writer() {
            for question in 0..count {
                let step = pick(self.seed, question, self.step);
                answers.add(writer.queries().population(step)?);
            }
        }
        Ok(answers.finish())
    }

    /// Transactions committed so far; unknown with a writer thread.
    #[must_use]
    pub fn commits(&self) -> Option<u64> {
        self.log.writer().map(super::Writer::commits)
    }

    /// Rows logged so far, those of the agents included.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Writes the rest and completes the database; returns the rows written.
    ///
    /// # Errors
    ///
    /// Those of [`Log::finish`].
    pub fn finish(self) -> Result<u64, Error> {
        self.log.finish(self.step, 0)
    }
}

/// Asks `count` questions of a complete database: populations of steps, histories of agents and spans of actions in turn.
///
/// # Errors
///
/// [`Error::Database`] if it cannot be read.
pub fn read(queries: Queries<'_>, count: u64, seed: u64) -> Result<ReadResult, Error> {
    let (steps, agents) = (queries.steps()?, queries.rows("agents")?);
    let mut answers = Answers::default();
    for question in 0..count {
        let step = pick(seed, question, steps);
        answers.add(match question % 3 {
            0 => queries.population(step)?,
            1 => queries.history(pick(seed, question, agents) as u32)?,
            _ => queries.actions("move", step, step + 10)?,
        });
    }
    Ok(answers.finish())
}

/// Answers on their way to a digest.
#[derive(Debug, Default)]
struct Answers {
    rows: u64,
    digest: Digest,
}

impl Answers {
    fn add(&mut self, (count, value): (u64, f64)) {
        self.rows += count;
        self.digest.word(count);
        self.digest.word(value.to_bits());
    }

    fn finish(self) -> ReadResult {
        ReadResult { rows: self.rows, digest: self.digest.finish() }
    }
}

fn pick(seed: u64, question: u64, bound: u64) -> u64 {
    Random::keyed(seed, Domain::Benchmark, question, 0).below(bound.max(1))
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
