//! Creates a database file. If the process is killed at any time, a valid database remains.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::{PragmaProfile, RunRow, schema};
use crate::config::DatabaseConfig;
use crate::error::Error;

/// A new database with its tables.
#[derive(Debug)]
pub(crate) struct NewDatabase {
    /// The connection to write to.
    pub(crate) connection: Connection,
    /// Where the database is written. [`publish`] needs it.
    pub(crate) location: Location,
}

/// Where a database is while it is being written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Location {
    /// At its final path.
    Final,
    /// In a partial file, which is renamed to the final path at the end.
    Partial(PathBuf),
    /// In memory. At the end it is copied to a partial file, which is renamed to the final path.
    InMemory(PathBuf),
}

/// Returns the path of the partial file.
fn partial_path(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".partial");
    PathBuf::from(name)
}

/// Creates a new database. There must be no file at its path.
///
/// If the database is not written at its final path, an empty database is created there first.
pub(crate) fn create(config: &DatabaseConfig, run: &RunRow) -> Result<NewDatabase, Error> {
    let path = &config.path;
    if fs::symlink_metadata(path).is_ok() {
        return Err(Error::DatabaseExists { path: path.clone() });
    }
    let partial = partial_path(path);
    if !config.in_memory && !config.profile.staged() {
        let connection = open(path, config.profile, run)?;
        let location = Location::Final;
        return Ok(NewDatabase { connection, location });
    }
    let connection = in_memory(path, config.profile, run)?;
    copy_to_final(&connection, &partial, path)?;
    if config.in_memory {
        let location = Location::InMemory(partial);
        return Ok(NewDatabase { connection, location });
    }
    remove_stale(&partial)?;
    Ok(NewDatabase {
        connection: open(&partial, config.profile, run)?,
        location: Location::Partial(partial),
    })
}

/// Closes a complete database and moves it to its final path.
pub(crate) fn publish(
    connection: Connection,
    location: &Location,
    path: &Path,
) -> Result<(), Error> {
    if let Location::InMemory(partial) = location {
        copy_to_final(&connection, partial, path)?;
    }
    connection.close().map_err(|(_, source)| fail(path, "close it")(source))?;
    if let Location::Partial(partial) = location {
        rename(partial, path)?;
    }
    Ok(())
}

/// Returns a function that wraps an error of SQLite, for `map_err`.
pub(crate) fn fail(path: &Path, operation: &'static str) -> impl FnOnce(rusqlite::Error) -> Error {
    move |source| Error::Database { path: path.to_owned(), operation, source }
}

fn open(path: &Path, profile: PragmaProfile, run: &RunRow) -> Result<Connection, Error> {
    let connection = Connection::open(path).map_err(fail(path, "create the database"))?;
    prepare(&connection, profile, run).map_err(fail(path, "create its tables"))?;
    Ok(connection)
}

fn in_memory(path: &Path, profile: PragmaProfile, run: &RunRow) -> Result<Connection, Error> {
    let connection =
        Connection::open_in_memory().map_err(fail(path, "create a database in memory"))?;
    prepare(&connection, profile, run).map_err(fail(path, "create its tables"))?;
    Ok(connection)
}

/// Applies the profile, then creates the tables and the row of the run in one transaction.
fn prepare(connection: &Connection, profile: PragmaProfile, run: &RunRow) -> rusqlite::Result<()> {
    connection.set_prepared_statement_cache_capacity(64);
    profile.apply(connection)?;
    connection.execute_batch("BEGIN")?;
    connection.execute_batch(schema::CREATE)?;
    connection.execute(
        "INSERT INTO simulations (simulation_id, seed, parameters, steps_planned) VALUES (1, ?, ?, ?)",
        (run.seed.to_string(), &run.parameters, run.steps as i64),
    )?;
    connection.execute_batch("COMMIT")
}

/// Copies a database to the partial file and renames that to the final path. The final path thus never has an incomplete database.
fn copy_to_final(connection: &Connection, partial: &Path, path: &Path) -> Result<(), Error> {
    remove_stale(partial)?;
    let name = partial.to_string_lossy();
    connection
        .execute("VACUUM INTO ?1", [name])
        .map_err(fail(partial, "copy the database to it"))?;
    rename(partial, path)
}

fn rename(from: &Path, to: &Path) -> Result<(), Error> {
    fs::rename(from, to).map_err(|source| Error::File {
        path: to.to_owned(),
        operation: "move the complete database there",
        source,
    })
}

/// Removes the partial file of a killed run.
fn remove_stale(partial: &Path) -> Result<(), Error> {
    match fs::remove_file(partial) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => Err(Error::File {
            path: partial.to_owned(),
            operation: "remove the partial database of an earlier run",
            source,
        }),
        _ => Ok(()),
    }
}
