//! Reads a database: typical queries about a run.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags, Params};

use super::connection::fail;
use super::schema::TABLES;
use crate::error::Error;

/// A database opened for reading.
#[derive(Debug)]
pub struct Reader {
    connection: Connection,
    path: PathBuf,
}

impl Reader {
    /// Opens the database of a run. The run may have been killed.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Database`] if the file is missing or not a database.
    pub fn open(path: &Path) -> Result<Self, Error> {
        // SQLite recovers the write-ahead log of a killed run when it opens the database. That needs write access.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(fail(path, "open it"))?;
        Ok(Self { connection, path: path.to_owned() })
    }

    /// Returns the typical queries.
    #[must_use]
    pub fn queries(&self) -> Queries<'_> {
        Queries::new(&self.connection, &self.path)
    }

    /// Returns the connection, for other queries.
    #[must_use]
    pub fn connection(&self) -> &Connection {
        &self.connection
    }
}

/// Typical queries about a run.
#[derive(Debug, Clone, Copy)]
pub struct Queries<'a> {
    connection: &'a Connection,
    path: &'a Path,
}

impl<'a> Queries<'a> {
    pub(crate) fn new(connection: &'a Connection, path: &'a Path) -> Self {
        Self { connection, path }
    }

    /// Returns the problems that `PRAGMA integrity_check` and `foreign_key_check` find. Empty if there are none.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Database`] if the checks cannot run.
    pub fn faults(&self) -> Result<Vec<String>, Error> {
        let mut faults = self.strings("PRAGMA integrity_check")?;
        faults.retain(|line| line != "ok");
        faults.extend(self.strings("PRAGMA foreign_key_check")?);
        Ok(faults)
    }

    /// Returns the number of rows of one of [`TABLES`], or 0 for any other name.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Database`] if the database cannot be read.
    pub fn rows(&self, table: &str) -> Result<u64, Error> {
        match TABLES.iter().find(|&&known| known == table) {
            Some(table) => self.number(&format!("SELECT count(*) FROM {table}"), ()),
            None => Ok(0),
        }
    }

    /// Returns the number of steps in the database.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Database`] if the database cannot be read.
    pub fn steps(&self) -> Result<u64, Error> {
        self.rows("simulation_steps")
    }

    /// Returns the number of living agents at the end of a step, and the sum of their resource levels. Uses the index on step.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Database`] if the database cannot be read.
    pub fn population(&self, step: u64) -> Result<(u64, f64), Error> {
        self.pair(
            "SELECT count(*), total(resource) FROM agent_states WHERE step = ?",
            [step as i64],
        )
    }

    /// Returns the number of steps that an agent lived, and its mean health. Uses the index on agent.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Database`] if the database cannot be read.
    pub fn history(&self, agent: u32) -> Result<(u64, f64), Error> {
        self.pair(
            "SELECT count(*), coalesce(avg(health), 0.0) FROM agent_states WHERE agent_id = ?",
            [agent],
        )
    }

    /// Returns the number of attempts at an action from step `first` to step `last`, both included, and the mean reward.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Database`] if the database cannot be read.
    pub fn actions(&self, action: &str, first: u64, last: u64) -> Result<(u64, f64), Error> {
        self.pair(
            "SELECT count(*), coalesce(avg(reward), 0.0) FROM agent_actions
             WHERE step BETWEEN ?2 AND ?3 AND action = ?1",
            (action, first as i64, last as i64),
        )
    }

    fn number(&self, sql: &str, values: impl Params) -> Result<u64, Error> {
        self.one(sql, values, |row| row.get::<_, i64>(0)).map(|count| count as u64)
    }

    fn pair(&self, sql: &str, values: impl Params) -> Result<(u64, f64), Error> {
        self.one(sql, values, |row| Ok((row.get::<_, i64>(0)?, row.get(1)?)))
            .map(|(count, value)| (count as u64, value))
    }

    fn one<T>(
        &self,
        sql: &str,
        values: impl Params,
        read: impl FnOnce(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, Error> {
        self.connection
            .prepare_cached(sql)
            .and_then(|mut statement| statement.query_row(values, read))
            .map_err(fail(self.path, "read it"))
    }

    fn strings(&self, sql: &str) -> Result<Vec<String>, Error> {
        self.connection
            .prepare(sql)
            .and_then(|mut statement| {
                statement.query_map((), |row| row.get::<_, String>(0))?.collect()
            })
            .map_err(fail(self.path, "check it"))
    }
}
