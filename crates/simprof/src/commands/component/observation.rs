//! Measures observations: the view of one agent, and the parts of computing it.

use anyhow::Result;
use clap::Args;
use simprof_measure::harness::{self, Budget, Clock};
use simprof_measure::protocol::Report;
use simprof_simulation::Config;
use simprof_simulation::observation::{
    ObservationScene, Observer, ResourceSource, Spread, StorageKind,
};
use simprof_simulation::spatial::IndexKind;
use simprof_simulation::world::World;

use super::{hex, latencies};
use crate::exit::UsageError;

/// Side length of the world.
const WORLD: f32 = 100.0;
/// Number of single observations for the percentiles.
const SINGLE: usize = 1000;
/// Passes over all agents for the times of the parts.
const PASSES: usize = 5;

/// The parts of an observation, in the order in which they run.
const PARTS: [(&str, fn(&mut Observer, &World, usize)); 5] = [
    ("agents", Observer::perceive_agents),
    ("resources", Observer::perceive_resources),
    ("ground", Observer::perceive_ground),
    ("memory", Observer::shift_memory),
    ("write_out", Observer::write_out),
];

/// Options of `component observation`.
#[derive(Debug, Args)]
pub struct ObservationArgs {
    /// Number of agents. There are twice as many resources
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    agents: u32,
    /// Radius of an observation, in cells
    #[arg(long, value_name = "R", default_value_t = 5)]
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
    /// Spatial index: kdtree, quadtree or hash
    #[arg(long, value_name = "KIND", default_value_t = IndexKind::KdTree)]
    index: IndexKind,
}

/// Measures the observations of all agents in turn.
///
/// # Errors
/// Returns an error if a parameter is out of range.
pub fn measure(arguments: &ObservationArgs, budget: Budget, seed: u64) -> Result<Report> {
    let config = config(arguments, seed);
    let mut scene =
        ObservationScene::new(&config).map_err(|error| UsageError(error.to_string()))?;
    let agents = arguments.agents as usize;
    let mut report = Report::new();
    report.digest = hex((0..agents).fold(0u64, |digest, slot| {
        digest.wrapping_mul(31).wrapping_add(scene.observe(slot).digest())
    }));
    let filled: usize = (0..agents)
        .map(|slot| scene.observe(slot).values().iter().filter(|value| **value != 0.0).count())
        .sum();
    let passes = harness::time(budget, || {
        for slot in 0..agents {
            scene.observe(slot);
        }
    });
    let each = passes.into_iter().map(|ns| ns / agents as f64).collect();
    let clock = Clock::calibrate();
    let single: Vec<f64> =
        (0..SINGLE).map(|turn| clock.time_once(|| scene.observe(turn % agents).side())).collect();
    report = report
        .metric("observe_ns", each)
        .metric("memory_bytes", vec![scene.memory_bytes() as f64])
        .counter("observations", agents as f64)
        .counter("cells_filled", filled as f64);
    for (name, times) in parts(&mut scene, agents, clock) {
        report = report.metric(&format!("part_{name}_ns"), times);
    }
    Ok(latencies(report, "observe", &single))
}

fn config(arguments: &ObservationArgs, seed: u64) -> Config {
    let mut config = Config {
        agents: arguments.agents,
        width: WORLD,
        height: WORLD,
        seed,
        agent_index: arguments.index,
        resource_index: arguments.index,
        ..Config::default()
    };
    config.resources.count = arguments.agents * 2;
    config.observation.radius = arguments.radius;
    config.observation.field_of_view = arguments.radius;
    config.observation.storage = arguments.storage;
    config.observation.spread = arguments.spread;
    config.observation.source = arguments.source;
    config
}

/// Returns the time of each part per observation in ns, one value for each pass over all agents.
fn parts(
    scene: &mut ObservationScene,
    agents: usize,
    clock: Clock,
) -> Vec<(&'static str, Vec<f64>)> {
    let mut times: Vec<(&str, Vec<f64>)> =
        PARTS.iter().map(|(name, _)| (*name, Vec::new())).collect();
    for pass in 0..PASSES {
        // A complete observation advances the scene by one turn, so that memories have content to
        // pass on.
        scene.observe(pass % agents);
        let (observer, world) = scene.parts();
        let mut sums = [0.0; PARTS.len()];
        for slot in 0..agents {
            observer.clear();
            for (sum, (_, part)) in sums.iter_mut().zip(PARTS) {
                *sum += clock.time_once(|| part(observer, world, slot));
            }
        }
        for ((_, times), sum) in times.iter_mut().zip(sums) {
            times.push(sum / agents as f64);
        }
    }
    times
}
