//! Measures the spatial index: build, nearby, nearest, range, and updates in batches.

use anyhow::Result;
use clap::{Args, ValueEnum};
use simprof_measure::harness::{self, Budget, Clock};
use simprof_measure::protocol::Report;
use simprof_simulation::geometry::{Area, Point};
use simprof_simulation::spatial::{FlushPolicy, IndexKind, QueryResult, SpatialScene};

use super::{hex, latencies};

/// Side length of the world.
const WORLD: f32 = 1000.0;
/// Radius of `nearby` and half the side of `range`.
const RADIUS: f32 = 50.0;
/// Maximum distance of a move on each axis.
const MOVE: f32 = 8.0;
/// Number of single queries for the percentiles.
const SINGLE: u64 = 1000;

/// Options of `component spatial`.
#[derive(Debug, Args)]
pub struct SpatialArgs {
    /// What to measure
    #[arg(long, value_enum)]
    operation: Operation,
    /// Spatial index: kdtree, quadtree or hash
    #[arg(long, value_name = "KIND", default_value_t = IndexKind::KdTree)]
    index: IndexKind,
    /// Number of agents. Half as many resources are added
    #[arg(long, value_name = "N", default_value_t = 1000)]
    entities: u32,
    /// Number of queries in one batch
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    queries: u64,
    /// Number of moves that are queued before they are applied
    #[arg(long, value_name = "N", default_value_t = 100)]
    batch: usize,
    /// Side length of the regions by which the index groups queued changes
    #[arg(long, value_name = "X", default_value_t = 50.0)]
    region: f32,
}

/// The operation to measure.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Operation {
    /// Rebuild the index
    Build,
    /// Find all entries within a radius of 50
    Nearby,
    /// Find the nearest entry
    Nearest,
    /// Find all entries in a square with sides of 100
    Range,
    /// Move half of the agents, in batches
    Update,
}

/// Measures one operation.
///
/// # Errors
/// Currently returns no error. The caller checks the parameters.
pub fn measure(arguments: &SpatialArgs, budget: Budget, seed: u64) -> Result<Report> {
    let mut scene = scene(arguments, seed);
    let report = Report::new().metric("index_bytes", vec![scene.index().bytes() as f64]);
    Ok(match arguments.operation {
        Operation::Build => build(&mut scene, budget, report),
        Operation::Update => update(arguments, scene, budget, report),
        Operation::Nearby => {
            let ask = |scene: &mut SpatialScene, query| scene.nearby(query, RADIUS);
            query(arguments, &mut scene, budget, report, "nearby", ask)
        }
        Operation::Nearest => {
            query(arguments, &mut scene, budget, report, "nearest", |scene, query| {
                scene.nearest(query)
            })
        }
        Operation::Range => {
            let ask = |scene: &mut SpatialScene, query| scene.range(query, RADIUS);
            query(arguments, &mut scene, budget, report, "range", ask)
        }
    })
}

fn scene(arguments: &SpatialArgs, seed: u64) -> SpatialScene {
    let world = Area { min: Point::new(0.0, 0.0), max: Point::new(WORLD, WORLD) };
    let policy = FlushPolicy {
        batch_size: arguments.batch.max(1),
        region_size: arguments.region.max(0.01),
        ..FlushPolicy::default()
    };
    SpatialScene::new(arguments.index, arguments.entities, world, None, policy, seed)
}

fn build(scene: &mut SpatialScene, budget: Budget, report: Report) -> Report {
    let times = harness::time(budget, || scene.rebuild());
    report.metric("build_ns", times).counter("entries", scene.entries().len() as f64)
}

fn query(
    arguments: &SpatialArgs,
    scene: &mut SpatialScene,
    budget: Budget,
    mut report: Report,
    name: &str,
    ask: impl Fn(&mut SpatialScene, u64) -> QueryResult,
) -> Report {
    let count = arguments.queries;
    let all = |scene: &mut SpatialScene| {
        (0..count).map(|query| ask(scene, query)).fold((0, 0u64), |(hits, digest), found| {
            (hits + found.hits, digest.wrapping_mul(31).wrapping_add(found.digest))
        })
    };
    let (hits, digest) = all(scene);
    let batches = harness::time(budget, || all(scene));
    let each = batches.into_iter().map(|ns| ns / count as f64).collect();
    report.digest = hex(digest);
    let report = report
        .metric(&format!("{name}_ns"), each)
        .counter("queries", count as f64)
        .counter("hits", hits as f64);
    let clock = Clock::calibrate();
    let single: Vec<f64> = (0..SINGLE).map(|query| clock.time_once(|| ask(scene, query))).collect();
    latencies(report, name, &single)
}

/// Measures moving half of the agents and applying the queued moves. Times are per move; counters
/// are those of one round.
fn update(
    arguments: &SpatialArgs,
    mut scene: SpatialScene,
    budget: Budget,
    mut report: Report,
) -> Report {
    let moved = (arguments.entities as usize / 2).max(1);
    let before = scene.index().counters();
    scene.queue_moves(moved, MOVE, 0);
    scene.flush();
    let after = scene.index().counters();
    report.digest = hex((0..100).fold(0u64, |digest, query| {
        digest.wrapping_mul(31).wrapping_add(scene.nearby(query, RADIUS).digest)
    }));
    let mut round = 1;
    let times = harness::time(budget, || {
        scene.queue_moves(moved, MOVE, round);
        scene.flush();
        round += 1;
    });
    let each = times.into_iter().map(|ns| ns / moved as f64).collect();
    report
        .metric("update_ns", each)
        .counter("moves_queued", (after.queued - before.queued) as f64)
        .counter("moves_applied", (after.applied - before.applied) as f64)
        .counter("flushes", (after.flushes - before.flushes) as f64)
        .counter("dirty_regions", (after.dirty_regions - before.dirty_regions) as f64)
        .counter("rebuilds", (after.rebuilds - before.rebuilds) as f64)
}
