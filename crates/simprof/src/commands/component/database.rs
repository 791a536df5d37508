//! Logging to SQLite: writing, reading, and both in turn.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use simprof_measure::harness::{Budget, Clock};
use simprof_measure::protocol::Report;
use simprof_simulation::DatabaseConfig;
use simprof_simulation::database::{DatabaseScene, PragmaProfile, Reader, read};

use super::{hex, latencies};

/// Agents whose states are logged in each step.
const AGENTS: u32 = 49;
/// Questions in one batch.
const QUESTIONS: u64 = 20;
/// Steps written between two batches of questions of a mixed load.
const MIXED_STEPS: u64 = 5;

/// Options of `component database`.
#[derive(Debug, Args)]
pub struct DatabaseArgs {
    /// What to measure
    #[arg(long, value_enum)]
    operation: Operation,
    /// Rows to insert
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..))]
    inserts: u64,
    /// Rows in one INSERT statement, 1 to 500
    #[arg(long, value_name = "N", default_value_t = 50)]
    batch: usize,
    /// Rows kept before they are handed to SQLite
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    buffer: usize,
    /// Commit at the end of every this many steps; 0 to leave it to the buffer
    #[arg(long, value_name = "N", default_value_t = 100)]
    flush: u64,
    /// Settings of SQLite: balanced, performance, safety or memory
    #[arg(long, value_name = "NAME", default_value_t = PragmaProfile::Balanced)]
    profile: PragmaProfile,
    /// Where rows go: disk, or memory with a copy to disk at the end
    #[arg(long, value_enum, default_value_t = Place::Disk)]
    place: Place,
    /// Folder for the databases; it is left empty
    #[arg(long, value_name = "DIR")]
    folder: PathBuf,
}

/// What to measure.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Operation {
    /// Writing rows, completing the database included
    Write,
    /// Asking questions of a complete database
    Read,
    /// Questions between steps that are written
    Mixed,
}

/// Where rows go.
#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
enum Place {
    /// To the file at once
    Disk,
    /// To memory, and to the file at the end
    Memory,
}

/// Measures one operation.
///
/// # Errors
/// Where a parameter is out of range, or the database cannot be written or read.
pub fn measure(arguments: &DatabaseArgs, budget: Budget, seed: u64) -> Result<Report> {
    match arguments.operation {
        Operation::Write => write(arguments, budget, seed),
        Operation::Read => ask(arguments, budget, seed),
        Operation::Mixed => mixed(arguments, budget, seed),
    }
}

fn config(arguments: &DatabaseArgs, path: PathBuf) -> DatabaseConfig {
    DatabaseConfig {
        profile: arguments.profile,
        buffer_size: arguments.buffer,
        batch_rows: arguments.batch,
        flush_every_steps: arguments.flush,
        in_memory: arguments.place == Place::Memory,
        ..DatabaseConfig::new(path)
    }
}

/// Calls `once` with a fresh path until the budget is spent; its database is removed after each.
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

/// Writes all rows into a new database in steps, then completes it; per row.
fn write(arguments: &DatabaseArgs, budget: Budget, seed: u64) -> Result<Report> {
    let clock = Clock::calibrate();
    let (mut times, mut flushes) = (Vec::new(), Vec::new());
    let (mut rows, mut commits) = (0, 0);
    repeat(arguments, budget, |path| {
        let mut scene = DatabaseScene::new(&config(arguments, path.to_owned()), AGENTS, seed)?;
        let began = Instant::now();
        let mut logged = 0;
        while logged < arguments.inserts {
            let most = arguments.inserts - logged - 1;
            let mut result = Ok(0);
            let ns = clock.time_once(|| result = scene.write_step(most));
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

/// Asks a complete database; per question.
fn ask(arguments: &DatabaseArgs, budget: Budget, seed: u64) -> Result<Report> {
    let path = arguments.folder.join("component-read.db");
    let mut scene = DatabaseScene::new(&config(arguments, path.clone()), AGENTS, seed)?;
    scene.write(arguments.inserts)?;
    let written = scene.finish()?;
    let reader = Reader::open(&path)?;
    let first = read(reader.queries(), QUESTIONS, seed)?;
    let mut failed = None;
    let times = simprof_measure::harness::time(budget, || {
        if let Err(error) = read(reader.queries(), QUESTIONS, seed) {
            failed = Some(error);
        }
    });
    if let Some(error) = failed {
        return Err(error.into());
    }
    drop(reader);
    remove(&path);
    let each = times.into_iter().map(|ns| ns / QUESTIONS as f64).collect();
    let mut report = Report::new()
        .metric("read_ns", each)
        .counter("questions", QUESTIONS as f64)
        .counter("rows_read", first.rows as f64)
        .counter("rows_written", written as f64);
    report.digest = hex(first.digest);
    Ok(report)
}

/// Writes steps and asks between them; per row written and question asked.
fn mixed(arguments: &DatabaseArgs, budget: Budget, seed: u64) -> Result<Report> {
    let mut times = Vec::new();
    let (mut rows, mut asked, mut seen) = (0, 0, 0);
    repeat(arguments, budget, |path| {
        let mut scene = DatabaseScene::new(&config(arguments, path.to_owned()), AGENTS, seed)?;
        let began = Instant::now();
        let mut logged = 0;
        (asked, seen) = (0, 0);
        while logged < arguments.inserts {
            for _ in 0..MIXED_STEPS {
                logged += scene.write_step(u64::from(AGENTS))?;
            }
            seen += scene.read(QUESTIONS)?.rows;
            asked += QUESTIONS;
        }
        rows = scene.finish()?;
        times.push(began.elapsed().as_secs_f64() * 1e9 / (logged + asked) as f64);
        Ok(())
    })?;
    Ok(Report::new()
        .metric("mixed_ns", times)
        .counter("rows_written", rows as f64)
        .counter("questions", asked as f64)
        .counter("rows_read", seen as f64))
}

/// A database and the files that SQLite puts beside it.
fn remove(path: &Path) {
    for ending in ["", "-wal", "-shm", "-journal"] {
        let mut name = path.as_os_str().to_owned();
        name.push(ending);
        // Most of them do not exist.
        let _ = std::fs::remove_file(PathBuf::from(name));
    }
}
