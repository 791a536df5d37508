//! Writes batches of rows to a connection. Transactions contain complete steps only.

use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::connection::{self, Location, NewDatabase, fail};
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
    location: Location,
    path: PathBuf,
    inserts: Inserts,
    in_transaction: bool,
    rows: u64,
    commits: u64,
}

/// The INSERT statements of all tables.
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
    /// Creates a new database with its tables and the row of the run.
    ///
    /// # Errors
    ///
    /// Returns [`Error::DatabaseExists`] if there is a file at the path, and [`Error::Database`] or [`Error::File`] if the database cannot
    /// be created.
    pub fn create(config: &DatabaseConfig, run: &RunRow) -> Result<Self, Error> {
        config.validate()?;
        let NewDatabase { connection, location } = connection::create(config, run)?;
        Ok(Self {
            connection,
            location,
            path: config.path.clone(),
            inserts: Inserts::new(config.batch_rows),
            in_transaction: false,
            rows: 0,
            commits: 0,
        })
    }

    /// Returns the final path of the database.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the number of rows inserted so far.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Returns the number of transactions committed so far.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.commits
    }

    /// Returns queries about the rows written so far, committed or not.
    #[must_use]
    pub fn queries(&self) -> Queries<'_> {
        Queries::new(&self.connection, &self.path)
    }

    /// Passes a batch to SQLite and commits if the batch ends a step.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Database`] if SQLite fails, for example because the disk is full.
    pub fn write(&mut self, batch: &Batch) -> Result<(), Error> {
        self.insert(batch).map_err(fail(&self.path, "write rows to it"))?;
        self.rows += batch.rows() as u64;
        if batch.commit {
            self.commit()?;
        }
        Ok(())
    }

    /// Commits the current transaction.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Database`] if SQLite fails.
    pub fn commit(&mut self) -> Result<(), Error> {
        if self.in_transaction {
            self.execute("COMMIT").map_err(fail(&self.path, "commit rows to it"))?;
            self.in_transaction = false;
            self.commits += 1;
        }
        Ok(())
    }

    /// Commits, creates the indexes on agents and moves the database to its final path. Returns the number of rows written.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Database`] or [`Error::File`] if that fails.
    pub fn finish(mut self, steps: u64, state_hash: u64) -> Result<u64, Error> {
        self.commit()?;
        self.complete(steps, state_hash).map_err(fail(&self.path, "complete it"))?;
        connection::publish(self.connection, &self.location, &self.path)?;
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
        // Agents first, because the other rows reference them.
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
