//! Measures logging to SQLite: writing, reading, and both in turn.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use simprof_measure::harness::{Budget, Clock};
use simprof_measure::protocol::Report;
use simprof_simulation::DatabaseConfig;
use simprof_simulation::database::{DatabaseScene, PragmaProfile, Reader, read};

use super::{hex, latencies};

/// Number of agents whose states are logged in each step.
const AGENTS: u32 = 49;
/// Queries in one batch.
const QUERIES: u64 = 20;
/// Steps written between two batches of queries of a mixed load.
const MIXED_STEPS: u64 = 5;

/// Options of `component database`.
#[derive(Debug, Args)]
pub struct DatabaseArgs {
    /// What to measure
    #[arg(long, value_enum)]
    operation: Operation,
    /// Number of rows to insert
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..))]
    inserts: u64,
    /// Rows in one INSERT statement (1 to 500)
    #[arg(long, value_name = "N", default_value_t = 50)]
    batch: usize,
    /// Number of rows buffered before they are passed to SQLite
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    buffer: usize,
    /// Steps between commits; 0 commits only when the buffer is full
    #[arg(long, value_name = "N", default_value_t = 100)]
    flush: u64,
    /// SQLite settings: balanced, performance, safety or memory
    #[arg(long, value_name = "NAME", default_value_t = PragmaProfile::Balanced)]
    profile: PragmaProfile,
    /// Where rows are written: disk, or memory with a copy to disk at the end
    #[arg(long = "place", value_enum, default_value_t = Storage::Disk)]
    storage: Storage,
    /// Folder for the databases. They are deleted afterwards
    #[arg(long, value_name = "DIR")]
    folder: PathBuf,
}

/// The operation to measure.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Operation {
    /// Write rows and complete the database
    Write,
    /// Query a complete database
    Read,
    /// Query between steps that are written
    Mixed,
}

/// Where rows are written.
#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
enum Storage {
    /// To the file
    Disk,
    /// To memory, and to the file at the end
    Memory,
}

/// Measures one operation.
///
/// # Errors
/// Returns an error if a parameter is out of range, or the database cannot be written or read.
pub fn measure(arguments: &DatabaseArgs, budget: Budget, seed: u64) -> Result<Report> {
    match arguments.operation {
        Operation::Write => write(arguments, budget, seed),
        Operation::Read => query(arguments, budget, seed),
        Operation::Mixed => mixed(arguments, budget, seed),
    }
}

fn config(arguments: &DatabaseArgs, path: PathBuf) -> DatabaseConfig {
    DatabaseConfig {
        profile: arguments.profile,
        buffer_size: arguments.buffer,
        batch_rows: arguments.batch,
        flush_every_steps: arguments.flush,
        in_memory: arguments.storage == Storage::Memory,
        ..DatabaseConfig::new(path)
    }
}

/// Calls `once` with a new path until the budget is spent, and removes the database after each
/// call.
fn repeat(
    arguments: &DatabaseArgs,
    budget: Budget,
    mut once: impl FnMut(&Path) -> Result<()>,
) -> Result<()> {
    let began = Instant::now();
    let mut rounds = 0;
    while rounds < budget.least || (rounds < budget.most && began.elapsed() < budget.total) {
        let path = arguments.folder.join(format!("component-{rounds}.db"));
        once(&path)?;
        std::fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        rounds += 1;
    }
    Ok(())
}

/// Measures writing all rows to a new database, step by step, and completing it. Times are per row.
fn write(arguments: &DatabaseArgs, budget: Budget, seed: u64) -> Result<Report> {
    let clock = Clock::calibrate();
    let (mut times, mut flushes) = (Vec::new(), Vec::new());
    let (mut rows, mut commits) = (0, 0);
    repeat(arguments, budget, |path| {
        let mut scene = DatabaseScene::new(&config(arguments, path.to_owned()), AGENTS, seed)?;
        let began = Instant::now();
        let mut logged = 0;
        while logged < arguments.inserts {
            let max_rows = arguments.inserts - logged - 1;
            let mut result = Ok(0);
            let ns = clock.time_once(|| result = scene.write_step(max_rows));
            logged += result?;
            flushes.push(ns);
        }
        commits = scene.commits().unwrap_or(0) + 1;
        rows = scene.finish()?;
        times.push(began.elapsed().as_secs_f64() * 1e9 / logged as f64);
        Ok(())
    })?;
    let report = Report::new()
        .metric("write_ns", times)
        .counter("rows_written", rows as f64)
        .counter("commits", commits as f64)
        .counter("statements_least", (rows as f64 / arguments.batch.max(1) as f64).ceil());
    Ok(latencies(report, "step_flush", &flushes))
}

/// Measures queries of a complete database. Times are per query.
fn query(arguments: &DatabaseArgs, budget: Budget, seed: u64) -> Result<Report> {
    let path = arguments.folder.join("component-read.db");
    let mut scene = DatabaseScene::new(&config(arguments, path.clone()), AGENTS, seed)?;
    scene.write(arguments.inserts)?;
    let written = scene.finish()?;
    let reader = Reader::open(&path)?;
    let first = read(reader.queries(), QUERIES, seed)?;
    let mut failed = None;
    let times = simprof_measure::harness::time(budget, || {
        if let Err(error) = read(reader.queries(), QUERIES, seed) {
            failed = Some(error);
        }
    });
    if let Some(error) = failed {
        return Err(error.into());
    }
    drop(reader);
    remove(&path);
    let each = times.into_iter().map(|ns| ns / QUERIES as f64).collect();
    let mut report = Report::new()
        .metric("read_ns", each)
        .counter("questions", QUERIES as f64)
        .counter("rows_read", first.rows as f64)
        .counter("rows_written", written as f64);
    report.digest = hex(first.digest);
    Ok(report)
}

/// Measures writing steps with queries between them. Times are per row written and query answered.
fn mixed(arguments: &DatabaseArgs, budget: Budget, seed: u64) -> Result<Report> {
    let mut times = Vec::new();
    let (mut rows, mut queries, mut rows_read) = (0, 0, 0);
    repeat(arguments, budget, |path| {
        let mut scene = DatabaseScene::new(&config(arguments, path.to_owned()), AGENTS, seed)?;
        let began = Instant::now();
        let mut logged = 0;
        (queries, rows_read) = (0, 0);
        while logged < arguments.inserts {
            for _ in 0..MIXED_STEPS {
                logged += scene.write_step(u64::from(AGENTS))?;
            }
            rows_read += scene.read(QUERIES)?.rows;
            queries += QUERIES;
        }
        rows = scene.finish()?;
        times.push(began.elapsed().as_secs_f64() * 1e9 / (logged + queries) as f64);
        Ok(())
    })?;
    Ok(Report::new()
        .metric("mixed_ns", times)
        .counter("rows_written", rows as f64)
        .counter("questions", queries as f64)
        .counter("rows_read", rows_read as f64))
}

/// Removes a database and the files that SQLite creates beside it.
fn remove(path: &Path) {
    for ending in ["", "-wal", "-shm", "-journal"] {
        let mut name = path.as_os_str().to_owned();
        name.push(ending);
        // Most of these files do not exist.
        let _ = std::fs::remove_file(PathBuf::from(name));
    }
}
