//! Memory per step.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use simprof_model::HeapProfile;

use crate::analysis::sum_interval;
use crate::summary::common::Bounds;

/// Memory per step. Allocations outside of steps do not count.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MemoryPerStep {
    /// Mean bytes allocated per step.
    pub allocated_bytes: f64,
    /// 95 % interval of that mean, for the uncertainty from sampling; its ends are equal if it is exact.
    pub allocated_bytes_interval: Bounds,
    /// Mean number of allocations per step.
    pub allocations: f64,
    /// Mean bytes allocated and freed within a step.
    pub temporary_bytes: f64,
    /// Mean bytes allocated per step and living agent; `null` if the target reports no population.
    pub allocated_bytes_per_agent: Option<f64>,
    /// Live bytes per agent at the end of the last step.
    pub live_bytes_per_agent: Option<f64>,
    /// 95 % interval of the live bytes per agent.
    pub live_bytes_per_agent_interval: Option<Bounds>,
}

impl MemoryPerStep {
    /// Returns the memory per step of a profile, or `None` without steps.
    pub(super) fn new(profile: &HeapProfile) -> Option<Self> {
        let steps: u64 = profile.ticks.iter().map(|tick| tick.steps).sum();
        if steps == 0 {
            return None;
        }
        let sum = |value: fn(&simprof_model::HeapTick) -> u64| {
            profile.ticks.iter().map(value).sum::<u64>() as f64
        };
        let allocated = sum(|tick| tick.in_steps_bytes);
        let agent_steps: Option<u64> =
            profile.ticks.iter().map(|tick| Some(tick.population? * tick.steps)).sum();
        let last = profile.ticks.last()?;
        let agents = last.population.filter(|&population| population > 0);
        let interval_bytes = profile.provenance.interval_bytes;
        let per_step = sum_interval(allocated, interval_bytes).map(|bytes| bytes / steps as f64);
        let per_agent = |bytes: f64| agents.map(|agents| bytes / agents as f64);
        let live = last.live_bytes as f64;
        let [low, high] = sum_interval(live, interval_bytes).map(per_agent);
        Some(Self {
            allocated_bytes: allocated / steps as f64,
            allocated_bytes_interval: per_step,
            allocations: sum(|tick| tick.in_steps_allocations) / steps as f64,
            temporary_bytes: sum(|tick| tick.temporary_bytes) / steps as f64,
            allocated_bytes_per_agent: agent_steps.filter(|&n| n > 0).map(|n| allocated / n as f64),
            live_bytes_per_agent: per_agent(live),
            live_bytes_per_agent_interval: low.zip(high).map(<[f64; 2]>::from),
        })
    }
}
