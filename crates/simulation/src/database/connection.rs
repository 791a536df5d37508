//! Making a database file such that a kill at any moment leaves a valid one.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::{PragmaProfile, RunRow, schema};
use crate::config::DatabaseConfig;
use crate::error::Error;

/// A new database with its tables, and where it goes when it is complete.
#[derive(Debug)]
pub(crate) struct NewDatabase {
    /// The connection to write to.
    pub(crate) connection: Connection,
    /// What [`NewDatabase::publish`] must do.
    pub(crate) placement: Placement,
}

/// Where a database is while it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Placement {
    /// At its path.
    InPlace,
    /// In a file beside its path, which takes the path's place at the end.
    Beside(PathBuf),
    /// In memory; copied to a file beside its path, which takes the path's place at the end.
    InMemory(PathBuf),
}

/// The file beside a path that a database is written to.
fn beside(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".partial");
    PathBuf::from(name)
}

/// Makes a new database at a path, which must be free.
///
/// Where the database is not written in place, the path holds an empty one from the start.
pub(crate) fn create(config: &DatabaseConfig, run: &RunRow) -> Result<NewDatabase, Error> {
    let path = &config.path;
    if fs::symlink_metadata(path).is_ok() {
        return Err(Error::DatabaseExists { path: path.clone() });
    }
    let partial = beside(path);
    if !config.in_memory && !config.profile.staged() {
        let connection = open(path, config.profile, run)?;
        let placement = Placement::InPlace;
        return Ok(NewDatabase { connection, placement });
    }
    let connection = in_memory(path, config.profile, run)?;
    place_copy(&connection, &partial, path)?;
    if config.in_memory {
        let placement = Placement::InMemory(partial);
        return Ok(NewDatabase { connection, placement });
    }
    remove_stale(&partial)?;
    Ok(NewDatabase {
        connection: open(&partial, config.profile, run)?,
        placement: Placement::Beside(partial),
    })
}

/// Closes a complete database and puts it at its path.
pub(crate) fn publish(
    connection: Connection,
    placement: &Placement,
    path: &Path,
) -> Result<(), Error> {
    if let Placement::InMemory(partial) = placement {
        place_copy(&connection, partial, path)?;
    }
    connection.close().map_err(|(_, source)| fail(path, "close it")(source))?;
    if let Placement::Beside(partial) = placement {
        rename(partial, path)?;
    }
    Ok(())
}

/// The error of a refused operation.
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

/// Applies the profile, then creates the tables and the run's row at once.
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

/// Copies a database to a file and moves that to its path, so that the path never holds half of one.
fn place_copy(connection: &Connection, partial: &Path, path: &Path) -> Result<(), Error> {
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
        operation: "put the complete database there",
        source,
    })
}

/// Removes what a killed run left beside the path.
fn remove_stale(partial: &Path) -> Result<(), Error> {
    match fs::remove_file(partial) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => Err(Error::File {
            path: partial.to_owned(),
            operation: "remove what an earlier run left",
            source,
        }),
        _ => Ok(()),
    }
}
