//! Writing batches of rows to a connection, in transactions that end with whole steps.

use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::connection::{self, NewDatabase, Placement, fail};
use super::insert::InsertSql;
use super::read::Queries;
use super::rows::{
    ActionRow, AgentRow, Batch, DeathRow, HealthRow, InteractionRow, ReproductionRow, ResourceRow,
    RunRow, StateRow, StepRow,
};
use super::schema;
use crate::config::DatabaseConfig;
use crate::error::Error;

/// Writes batches to a new database.
#[derive(Debug)]
pub struct Writer {
    connection: Connection,
    placement: Placement,
    path: PathBuf,
    inserts: Inserts,
    in_transaction: bool,
    rows: u64,
    commits: u64,
}

/// One pair of statements for each table.
#[derive(Debug)]
struct Inserts {
    agents: InsertSql,
    states: InsertSql,
    resources: InsertSql,
    actions: InsertSql,
    interactions: InsertSql,
    steps: InsertSql,
    reproductions: InsertSql,
    health: InsertSql,
}

impl Inserts {
    fn new(batch_rows: usize) -> Self {
        Self {
            agents: InsertSql::for_table::<AgentRow>(batch_rows),
            states: InsertSql::for_table::<StateRow>(batch_rows),
            resources: InsertSql::for_table::<ResourceRow>(batch_rows),
            actions: InsertSql::for_table::<ActionRow>(batch_rows),
            interactions: InsertSql::for_table::<InteractionRow>(batch_rows),
            steps: InsertSql::for_table::<StepRow>(batch_rows),
            reproductions: InsertSql::for_table::<ReproductionRow>(batch_rows),
            health: InsertSql::for_table::<HealthRow>(batch_rows),
        }
    }
}

impl Writer {
    /// Makes a new database with its tables and the row of the run.
    ///
    /// # Errors
    ///
    /// [`Error::DatabaseExists`] if the path is taken; [`Error::Database`] or [`Error::File`] if it cannot be made.
    pub fn create(config: &DatabaseConfig, run: &RunRow) -> Result<Self, Error> {
        config.validate()?;
        let NewDatabase { connection, placement } = connection::create(config, run)?;
        Ok(Self {
            connection,
            placement,
            path: config.path.clone(),
            inserts: Inserts::new(config.batch_rows),
            in_transaction: false,
            rows: 0,
            commits: 0,
        })
    }

    /// The path that the database goes to.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Rows inserted so far.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Transactions committed so far.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.commits
    }

    /// The questions to ask of what was written so far, committed or not.
    #[must_use]
    pub fn queries(&self) -> Queries<'_> {
        Queries::new(&self.connection, &self.path)
    }

    /// Hands a batch to SQLite, and commits if it ends a step.
    ///
    /// # Errors
    ///
    /// [`Error::Database`] if SQLite refuses, for example on a full disk.
    pub fn write(&mut self, batch: &Batch) -> Result<(), Error> {
        self.insert(batch).map_err(fail(&self.path, "write rows to it"))?;
        self.rows += batch.rows() as u64;
        if batch.commit {
            self.commit()?;
        }
        Ok(())
    }

    /// Commits what was written.
    ///
    /// # Errors
    ///
    /// [`Error::Database`] if SQLite refuses.
    pub fn commit(&mut self) -> Result<(), Error> {
        if self.in_transaction {
            self.execute("COMMIT").map_err(fail(&self.path, "commit rows to it"))?;
            self.in_transaction = false;
            self.commits += 1;
        }
        Ok(())
    }

    /// Commits, makes the indexes on agent and puts the database at its path; returns the rows written.
    ///
    /// # Errors
    ///
    /// [`Error::Database`] or [`Error::File`] if that fails.
    pub fn finish(mut self, steps: u64, state_hash: u64) -> Result<u64, Error> {
        self.commit()?;
        self.complete(steps, state_hash).map_err(fail(&self.path, "complete it"))?;
        connection::publish(self.connection, &self.placement, &self.path)?;
        Ok(self.rows)
    }

    fn complete(&self, steps: u64, state_hash: u64) -> rusqlite::Result<()> {
        self.connection.execute_batch("BEGIN")?;
        self.connection.execute_batch(schema::INDEX)?;
        self.connection.execute(
            "UPDATE simulations SET steps_run = ?, state_hash = ?",
            (steps as i64, format!("{state_hash:016x}")),
        )?;
        self.connection.execute_batch("COMMIT")
    }

    fn execute(&self, sql: &str) -> rusqlite::Result<()> {
        self.connection.prepare_cached(sql)?.execute(())?;
        Ok(())
    }

    fn insert(&mut self, batch: &Batch) -> rusqlite::Result<()> {
        if !self.in_transaction {
            self.execute("BEGIN")?;
            self.in_transaction = true;
        }
        let (to, inserts) = (&self.connection, &self.inserts);
        // Agents first: the other rows refer to them.
        inserts.agents.insert(to, &batch.agents)?;
        inserts.states.insert(to, &batch.states)?;
        inserts.resources.insert(to, &batch.resources)?;
        inserts.actions.insert(to, &batch.actions)?;
        inserts.interactions.insert(to, &batch.interactions)?;
        inserts.steps.insert(to, &batch.steps)?;
        inserts.reproductions.insert(to, &batch.reproductions)?;
        inserts.health.insert(to, &batch.health)?;
        self.mark_deaths(&batch.deaths)
    }

    fn mark_deaths(&self, deaths: &[DeathRow]) -> rusqlite::Result<()> {
        if deaths.is_empty() {
            return Ok(());
        }
        let sql = "UPDATE agents SET death_step = ?, death_cause = ? WHERE agent_id = ?";
        let mut statement = self.connection.prepare_cached(sql)?;
        for death in deaths {
            statement.execute((death.step as i64, death.cause, death.agent))?;
        }
        Ok(())
    }
}
