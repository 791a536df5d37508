//! `simprof component`: the command that phase 2 runs for the reference simulation. One process
//! measures one operation with one set of parameters, and prints a report of the runner protocol.

mod database;
mod observation;
mod spatial;

use std::time::Duration;

use anyhow::Result;
use clap::{Args, Subcommand};
use simprof_measure::harness::Budget;
use simprof_measure::protocol::Report;

use crate::exit::Completion;

/// Options of `component`.
#[derive(Debug, Args)]
pub struct ComponentArgs {
    /// Time to measure, without set-up, in milliseconds
    #[arg(long, global = true, value_name = "MS", default_value_t = 20)]
    budget_ms: u64,
    /// Maximum number of samples
    #[arg(long, global = true, value_name = "N", default_value_t = 15)]
    samples: usize,
    /// Seed of the random positions and queries
    #[arg(long, global = true, value_name = "N", default_value_t = 42)]
    seed: u64,
    #[command(subcommand)]
    component: Component,
}

/// The components.
#[derive(Debug, Subcommand)]
enum Component {
    /// Measure the spatial index
    Spatial(spatial::SpatialArgs),
    /// Measure the observations of agents
    Observation(observation::ObservationArgs),
    /// Measure logging to SQLite
    Database(database::DatabaseArgs),
}

/// Measures and prints the report.
///
/// # Errors
/// Returns an error if a parameter is out of range, or the database cannot be written.
pub fn run(arguments: &ComponentArgs) -> Result<Completion> {
    let budget = Budget {
        total: Duration::from_millis(arguments.budget_ms),
        most: arguments.samples,
        least: 3.min(arguments.samples.max(1)),
    };
    let report = match &arguments.component {
        Component::Spatial(spatial) => spatial::measure(spatial, budget, arguments.seed)?,
        Component::Observation(observation) => {
            observation::measure(observation, budget, arguments.seed)?
        }
        Component::Database(database) => database::measure(database, budget, arguments.seed)?,
    };
    crate::console::print(&format!("{}\n", report.to_line()))?;
    Ok(Completion::Success)
}

/// Adds percentiles of the times of single operations, in ns: `NAME_p50_ns`, `NAME_p95_ns`,
/// `NAME_p99_ns`.
fn latencies(mut report: Report, name: &str, times_ns: &[f64]) -> Report {
    for (label, percentile) in [("p50", 50.0), ("p95", 95.0), ("p99", 99.0)] {
        if let Ok(value) = simprof_stats::percentile(times_ns, percentile) {
            report = report.metric(&format!("{name}_{label}_ns"), vec![value]);
        }
    }
    report
}

/// Formats a digest.
fn hex(digest: u64) -> Option<String> {
    Some(format!("{digest:016x}"))
}
