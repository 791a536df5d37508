//! `simprof component`: the runner of phase 2 for the reference simulation. One process measures one
//! operation at one point and reports by the runner protocol.

mod database;
mod observation;
mod spatial;

use std::time::Duration;

use anyhow::Result;
use clap::{Args, Subcommand};
use simprof_measure::harness::Budget;
use simprof_measure::protocol::Report;

use crate::exit::Ended;

/// Options of `component`.
#[derive(Debug, Args)]
pub struct ComponentArgs {
    /// Wall time to measure for, without set-up
    #[arg(long, global = true, value_name = "MS", default_value_t = 20)]
    budget_ms: u64,
    /// Samples wanted
    #[arg(long, global = true, value_name = "N", default_value_t = 15)]
    samples: usize,
    /// Seed of all placements and queries
    #[arg(long, global = true, value_name = "N", default_value_t = 42)]
    seed: u64,
    #[command(subcommand)]
    component: Component,
}

/// The three components.
#[derive(Debug, Subcommand)]
enum Component {
    /// The spatial index
    Spatial(spatial::SpatialArgs),
    /// Observations
    Observation(observation::ObservationArgs),
    /// Logging to SQLite
    Database(database::DatabaseArgs),
}

/// Measures, and prints the report.
///
/// # Errors
/// Where a parameter is out of range, or the database cannot be written.
pub fn run(arguments: &ComponentArgs) -> Result<Ended> {
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
    Ok(Ended::Well)
}

/// Adds the distribution of single operations' times, ns, as `NAME_p50_ns`, `_p95_ns`, `_p99_ns`.
fn latencies(mut report: Report, name: &str, times_ns: &[f64]) -> Report {
    for (label, percentile) in [("p50", 50.0), ("p95", 95.0), ("p99", 99.0)] {
        if let Ok(value) = simprof_stats::percentile(times_ns, percentile) {
            report = report.metric(&format!("{name}_{label}_ns"), vec![value]);
        }
    }
    report
}

/// A digest as text.
fn hex(digest: u64) -> Option<String> {
    Some(format!("{digest:016x}"))
}
