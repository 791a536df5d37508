//! `simprof simulate`: runs the reference simulation, which marks its steps.

use std::io::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;
use serde::Serialize;
use simprof_measure::protocol::Report;
use simprof_simulation::config::Preset;
use simprof_simulation::database::PragmaProfile;
use simprof_simulation::observation::{ResourceSource, Spread, StorageKind};
use simprof_simulation::policy::PolicyKind;
use simprof_simulation::spatial::IndexKind;
use simprof_simulation::{Config, DatabaseConfig, Error, Simulation, StepEvent, Summary};

use crate::exit::{Completion, UsageError};

/// Options of `simulate`. The preset determines the others.
#[derive(Debug, Args)]
pub struct SimulateArgs {
    /// Preset that determines the defaults below: testing, development, benchmark, simulation,
    /// research or production
    #[arg(long, value_name = "NAME", default_value_t = Preset::Simulation)]
    preset: Preset,
    /// Agents at the start, divided among the three types [default: from the preset]
    #[arg(long, value_name = "N")]
    agents: Option<u32>,
    /// Number of steps
    #[arg(long, value_name = "N", default_value_t = 500)]
    steps: u64,
    /// Width of the world [default: from the preset]
    #[arg(long, allow_negative_numbers = true, value_name = "X")]
    width: Option<f32>,
    /// Height of the world [default: from the preset]
    #[arg(long, allow_negative_numbers = true, value_name = "Y")]
    height: Option<f32>,
    /// Seed of the random numbers
    #[arg(long, value_name = "N", default_value_t = 42)]
    seed: u64,
    /// Maximum number of living agents [default: 300, or the number of agents at the start if that
    /// is larger]
    #[arg(long, value_name = "N")]
    population_cap: Option<u32>,
    /// Number of resources in the world [default: from the preset]
    #[arg(long, value_name = "N")]
    resources: Option<u32>,
    /// How agents choose actions: uniform, weighted or greedy
    #[arg(long, value_name = "KIND", default_value_t = PolicyKind::Weighted)]
    policy: PolicyKind,
    /// Spatial index: kdtree, quadtree or hash
    #[arg(long, value_name = "KIND", default_value_t = IndexKind::KdTree)]
    index: IndexKind,
    /// Number of changes that the index queues before it applies them [default: from the preset]
    #[arg(long, value_name = "N")]
    index_batch: Option<usize>,
    /// Side length of the regions by which the index groups queued changes [default: from the preset]
    #[arg(long, allow_negative_numbers = true, value_name = "X")]
    region_size: Option<f32>,
    /// Radius of an observation, in cells
    #[arg(long, value_name = "R", default_value_t = 6)]
    radius: u32,
    /// Storage of agents' memories: dense, sparse or hybrid
    #[arg(long, value_name = "KIND", default_value_t = StorageKind::Dense)]
    storage: StorageKind,
    /// Interpolation of resources onto cells: bilinear or nearest
    #[arg(long, value_name = "KIND", default_value_t = Spread::Bilinear)]
    spread: Spread,
    /// Source of resources: spatial (the index) or memmap (a file)
    #[arg(long, value_name = "KIND", default_value_t = ResourceSource::Spatial)]
    source: ResourceSource,
    /// Log to this SQLite database. The file must not exist [default: do not log]
    #[arg(long, value_name = "FILE")]
    db: Option<PathBuf>,
    /// SQLite settings: balanced, performance, safety or memory
    #[arg(long, value_name = "NAME", default_value_t = PragmaProfile::Balanced)]
    db_profile: PragmaProfile,
    /// Number of rows buffered before they are passed to SQLite [default: 10000]
    #[arg(long, value_name = "N")]
    db_buffer: Option<usize>,
    /// Steps between commits [default: 100]
    #[arg(long, value_name = "N")]
    db_flush_steps: Option<u64>,
    /// Maximum time between commits, in milliseconds [default: no limit]
    #[arg(long, value_name = "MS")]
    db_flush_ms: Option<u64>,
    /// Write to the database in a separate thread
    #[arg(long)]
    db_thread: bool,
    /// Write to a database in memory, and copy it to disk at the end
    #[arg(long)]
    db_memory: bool,
    /// Print one line of JSON instead of text
    #[arg(long)]
    json: bool,
}

/// The output of `--json`: a report of the runner protocol, and the summary.
#[derive(Serialize)]
struct Line {
    #[serde(flatten)]
    report: Report,
    steps: u64,
    living: u64,
    seed: u64,
    state_hash: String,
    wall_ms: f64,
    cpu_ms: f64,
    steps_per_second: f64,
}

/// Runs the simulation.
///
/// # Errors
/// Returns an error if a parameter is out of range, or the database cannot be written.
pub fn run(arguments: &SimulateArgs) -> Result<Completion> {
    let config = config(arguments);
    config.validate().map_err(usage_error)?;
    let mut simulation = Simulation::new(&config).map_err(usage_error)?;
    let began = Instant::now();
    simulation.run(mark)?;
    let wall = began.elapsed();
    let summary = simulation.finish()?;
    let text =
        if arguments.json { json(&summary, config.seed, wall)? } else { text(&summary, wall) };
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(Completion::Success)
}

/// Marks steps for a recorder, if one is observing.
fn mark(event: StepEvent) {
    match event {
        StepEvent::Begin { step } => simprof_probe::step_begin(step),
        StepEvent::End(report) => {
            simprof_probe::step_end_with_population(report.step, report.living)
        }
    }
}

/// Turns an error in the parameters into a [`UsageError`].
fn usage_error(error: Error) -> anyhow::Error {
    match error {
        Error::Config { .. } | Error::DatabaseExists { .. } => UsageError(error.to_string()).into(),
        other => other.into(),
    }
}

fn config(arguments: &SimulateArgs) -> Config {
    let mut config = Config::preset(arguments.preset);
    config.agents = arguments.agents.unwrap_or(config.agents);
    config.width = arguments.width.unwrap_or(config.width);
    config.height = arguments.height.unwrap_or(config.height);
    config.resources.count = arguments.resources.unwrap_or(config.resources.count);
    config.population_cap = arguments.population_cap.or(config.population_cap);
    config.flush.batch_size = arguments.index_batch.unwrap_or(config.flush.batch_size);
    config.flush.region_size = arguments.region_size.unwrap_or(config.flush.region_size);
    config.steps = arguments.steps;
    config.seed = arguments.seed;
    config.policy = arguments.policy;
    config.agent_index = arguments.index;
    config.resource_index = arguments.index;
    config.observation.radius = arguments.radius;
    config.observation.field_of_view = arguments.radius;
    config.observation.storage = arguments.storage;
    config.observation.spread = arguments.spread;
    config.observation.source = arguments.source;
    config.database = arguments.db.as_ref().map(|path| database(arguments, path));
    config
}

fn database(arguments: &SimulateArgs, path: &std::path::Path) -> DatabaseConfig {
    let default = DatabaseConfig::new(path);
    DatabaseConfig {
        profile: arguments.db_profile,
        buffer_size: arguments.db_buffer.unwrap_or(default.buffer_size),
        flush_every_steps: arguments.db_flush_steps.unwrap_or(default.flush_every_steps),
        flush_interval: arguments.db_flush_ms.map(Duration::from_millis).or(default.flush_interval),
        writer_thread: arguments.db_thread,
        in_memory: arguments.db_memory,
        ..default
    }
}

fn json(summary: &Summary, seed: u64, wall: Duration) -> Result<String> {
    let mut report = Report::new();
    for (name, count) in summary.totals.named() {
        report = report.counter(&name, count as f64);
    }
    let state_hash = format!("{:016x}", summary.state_hash);
    report.digest = Some(state_hash.clone());
    let line = Line {
        report,
        steps: summary.steps,
        living: summary.living,
        seed,
        state_hash,
        wall_ms: wall.as_secs_f64() * 1e3,
        cpu_ms: process_cpu_ms(),
        steps_per_second: summary.steps as f64 / wall.as_secs_f64(),
    };
    Ok(serde_json::to_string(&line)? + "\n")
}

/// Returns the CPU time of all threads since the process started, in ms. Unlike wall time, other
/// processes do not affect it.
fn process_cpu_ms() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid, writable `timespec`. The clock exists on every Linux.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    time.tv_sec as f64 * 1e3 + time.tv_nsec as f64 * 1e-6
}

fn text(summary: &Summary, wall: Duration) -> String {
    let mut text = format!(
        "{} steps in {:.1} ms: {:.0} steps/s\n{} agents alive, state {:016x}\n",
        summary.steps,
        wall.as_secs_f64() * 1e3,
        summary.steps as f64 / wall.as_secs_f64(),
        summary.living,
        summary.state_hash
    );
    for (name, count) in summary.totals.named() {
        text.push_str(&format!("  {name:<20} {count}\n"));
    }
    text
}
