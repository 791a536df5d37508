//! The rows of each table, and how their values are bound to a statement.

use super::insert::{Binder, Row};
use crate::action::ActionKind;
use crate::agent::Agent;
use crate::counters::Counters;
use crate::kinds::kinds;
use crate::world::World;

kinds! {
    /// The cause of a change of health.
    HealthCause, "health cause" {
        /// An attack by another agent.
        Attack = "attack",
        /// Death by starvation.
        Starvation = "starvation",
        /// Healing by defending.
        Healing = "healing",
    }
}

/// The parameters of a run, written when its database is created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunRow {
    /// Seed.
    pub seed: u64,
    /// All parameters as text.
    pub parameters: String,
    /// Planned number of steps.
    pub steps: u64,
}

/// A new agent.
#[derive(Debug, Clone, PartialEq)]
pub struct AgentRow {
    /// The agent at its birth.
    pub agent: Agent,
    /// Number of its parent. `None` for initial agents.
    pub parent: Option<u32>,
}

impl AgentRow {
    /// Creates the row of a new agent.
    #[must_use]
    pub fn from_agent(agent: &Agent, parent: Option<u32>) -> Self {
        Self { agent: agent.clone(), parent }
    }
}

impl Row for AgentRow {
    const TABLE: &'static str = "agents";
    const COLUMNS: &'static [&'static str] = &[
        "agent_id",
        "simulation_id",
        "agent_type",
        "birth_step",
        "parent_id",
        "generation",
        "x",
        "y",
        "start_resource",
        "start_health",
        "gather_multiplier",
        "share_weight",
        "attack_weight",
    ];

    fn bind(&self, to: &mut Binder<'_, '_>) -> rusqlite::Result<()> {
        let agent = &self.agent;
        to.integer(agent.id)?;
        to.integer(1u32)?;
        to.text(agent.kind.name())?;
        to.long(agent.birth_step)?;
        to.optional(self.parent)?;
        to.integer(agent.generation)?;
        to.real(agent.at.x)?;
        to.real(agent.at.y)?;
        to.real(agent.resource)?;
        to.real(agent.health)?;
        to.real(agent.genome.gather_multiplier)?;
        to.real(agent.genome.share_weight)?;
        to.real(agent.genome.attack_weight)
    }
}

/// A death. It updates the row of the agent in `agents`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DeathRow {
    /// Number of the agent.
    pub agent: u32,
    /// Step of its death.
    pub step: u64,
    /// Cause of its death.
    pub cause: &'static str,
}

/// An agent at the end of a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StateRow {
    /// Number of the step.
    pub step: u64,
    /// Number of the agent.
    pub agent: u32,
    /// Position and orientation: x and y in world units, angle in degrees.
    pub pose: [f32; 3],
    /// Resource level.
    pub resource: f32,
    /// Health.
    pub health: f32,
    /// Whether it is defending.
    pub defending: bool,
    /// Consecutive turns of starvation.
    pub starvation: u32,
    /// Sum of its rewards so far.
    pub total_reward: f32,
}

impl StateRow {
    /// Creates the row of an agent.
    #[must_use]
    pub fn from_agent(agent: &Agent, step: u64) -> Self {
        Self {
            step,
            agent: agent.id,
            pose: [agent.at.x, agent.at.y, agent.orientation],
            resource: agent.resource,
            health: agent.health,
            defending: agent.defending(),
            starvation: agent.starvation,
            total_reward: agent.total_reward,
        }
    }
}

impl Row for StateRow {
    const TABLE: &'static str = "agent_states";
    const COLUMNS: &'static [&'static str] = &[
        "step",
        "agent_id",
        "x",
        "y",
        "orientation",
        "resource",
        "health",
        "defending",
        "starvation",
        "total_reward",
    ];

    fn bind(&self, to: &mut Binder<'_, '_>) -> rusqlite::Result<()> {
        to.long(self.step)?;
        to.integer(self.agent)?;
        to.real(self.pose[0])?;
        to.real(self.pose[1])?;
        to.real(self.pose[2])?;
        to.real(self.resource)?;
        to.real(self.health)?;
        to.integer(u32::from(self.defending))?;
        to.integer(self.starvation)?;
        to.real(self.total_reward)
    }
}

/// A resource at the end of a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ResourceRow {
    /// Number of the step.
    pub step: u64,
    /// Number of the resource.
    pub resource: u32,
    /// Position: x, y.
    pub at: [f32; 2],
    /// Amount.
    pub amount: f32,
}

impl Row for ResourceRow {
    const TABLE: &'static str = "resource_states";
    const COLUMNS: &'static [&'static str] = &["step", "resource_id", "x", "y", "amount"];

    fn bind(&self, to: &mut Binder<'_, '_>) -> rusqlite::Result<()> {
        to.long(self.step)?;
        to.integer(self.resource)?;
        to.real(self.at[0])?;
        to.real(self.at[1])?;
        to.real(self.amount)
    }
}

/// An action.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ActionRow {
    /// Number of the step.
    pub step: u64,
    /// Number of the acting agent.
    pub agent: u32,
    /// Kind of action.
    pub kind: ActionKind,
    /// Whether it succeeded.
    pub succeeded: bool,
    /// Number of the target agent or resource.
    pub target: Option<u32>,
    /// Amount gathered or shared, damage done, health healed, distance moved or cost paid.
    pub amount: f32,
    /// Resource level before the turn.
    pub resource_before: f32,
    /// Resource level after the turn.
    pub resource_after: f32,
    /// Reward of the turn.
    pub reward: f32,
    /// Direction of a move, or the reason of a failure.
    pub details: Option<&'static str>,
}

impl Row for ActionRow {
    const TABLE: &'static str = "agent_actions";
    const COLUMNS: &'static [&'static str] = &[
        "step",
        "agent_id",
        "action",
        "succeeded",
        "target_id",
        "amount",
        "resource_before",
        "resource_after",
        "reward",
        "details",
    ];

    fn bind(&self, to: &mut Binder<'_, '_>) -> rusqlite::Result<()> {
        to.long(self.step)?;
        to.integer(self.agent)?;
        to.text(self.kind.name())?;
        to.integer(u32::from(self.succeeded))?;
        to.optional(self.target)?;
        to.real(self.amount)?;
        to.real(self.resource_before)?;
        to.real(self.resource_after)?;
        to.real(self.reward)?;
        to.optional_text(self.details)
    }
}

/// An interaction of two agents.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct InteractionRow {
    /// Number of the step.
    pub step: u64,
    /// Number of the acting agent.
    pub source: u32,
    /// Number of the other agent.
    pub target: u32,
    /// Kind of action.
    pub kind: ActionKind,
    /// Amount shared, damage done, or cost of a child.
    pub amount: f32,
}

impl Row for InteractionRow {
    const TABLE: &'static str = "interactions";
    const COLUMNS: &'static [&'static str] =
        &["step", "source_id", "target_id", "interaction", "amount"];

    fn bind(&self, to: &mut Binder<'_, '_>) -> rusqlite::Result<()> {
        to.long(self.step)?;
        to.integer(self.source)?;
        to.integer(self.target)?;
        to.text(self.kind.name())?;
        to.real(self.amount)
    }
}

/// The metrics of a step.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct StepRow {
    /// Number of the step.
    pub step: u64,
    /// Number of living agents at the end of the step, by type.
    pub living: [u32; 3],
    /// Births.
    pub births: u64,
    /// Deaths.
    pub deaths: u64,
    /// Attempted actions.
    pub actions: u64,
    /// Successful actions.
    pub succeeded: u64,
    /// Sum of the amounts of all resources.
    pub total_resources: f64,
    /// Means over living agents: resource level, health, total reward.
    pub averages: [f64; 3],
}

impl StepRow {
    /// Computes the metrics of a world at the end of a step.
    #[must_use]
    pub fn from_world(world: &World, counters: &Counters) -> Self {
        let mut row = Self {
            step: world.step,
            births: counters.births,
            deaths: counters.deaths,
            actions: counters.tried.iter().sum(),
            succeeded: counters.succeeded.iter().sum(),
            total_resources: world.resources.amounts.iter().map(|&a| f64::from(a)).sum(),
            ..Self::default()
        };
        for agent in world.agents.iter().filter(|agent| agent.alive) {
            row.living[agent.kind as usize] += 1;
            row.averages[0] += f64::from(agent.resource);
            row.averages[1] += f64::from(agent.health);
            row.averages[2] += f64::from(agent.total_reward);
        }
        let count = world.living.max(1) as f64;
        row.averages.iter_mut().for_each(|sum| *sum /= count);
        row
    }
}

impl Row for StepRow {
    const TABLE: &'static str = "simulation_steps";
    const COLUMNS: &'static [&'static str] = &[
        "step",
        "living",
        "system_agents",
        "independent_agents",
        "control_agents",
        "births",
        "deaths",
        "actions",
        "actions_succeeded",
        "total_resources",
        "average_resource",
        "average_health",
        "average_reward",
    ];

    fn bind(&self, to: &mut Binder<'_, '_>) -> rusqlite::Result<()> {
        to.long(self.step)?;
        to.integer(self.living.iter().sum::<u32>())?;
        for count in self.living {
            to.integer(count)?;
        }
        for count in [self.births, self.deaths, self.actions, self.succeeded] {
            to.long(count)?;
        }
        to.double(self.total_resources)?;
        to.double(self.averages[0])?;
        to.double(self.averages[1])?;
        to.double(self.averages[2])
    }
}

/// An attempt to reproduce.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ReproductionRow {
    /// Number of the step.
    pub step: u64,
    /// Number of the parent.
    pub parent: u32,
    /// Number of the child. `None` if the attempt failed.
    pub child: Option<u32>,
    /// Resource level of the parent before the attempt.
    pub resource_before: f32,
    /// Resource level of the parent after the attempt.
    pub resource_after: f32,
    /// Reason of a failure.
    pub reason: Option<&'static str>,
}

impl Row for ReproductionRow {
    const TABLE: &'static str = "reproduction_events";
    const COLUMNS: &'static [&'static str] =
        &["step", "parent_id", "child_id", "resource_before", "resource_after", "failure"];

    fn bind(&self, to: &mut Binder<'_, '_>) -> rusqlite::Result<()> {
        to.long(self.step)?;
        to.integer(self.parent)?;
        to.optional(self.child)?;
        to.real(self.resource_before)?;
        to.real(self.resource_after)?;
        to.optional_text(self.reason)
    }
}

/// A change of an agent's health.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HealthRow {
    /// Number of the step.
    pub step: u64,
    /// Number of the agent.
    pub agent: u32,
    /// Health before the change.
    pub before: f32,
    /// Health after the change.
    pub after: f32,
    /// Cause of the change.
    pub cause: HealthCause,
    /// Number of the agent that caused the change. `None` if no other agent did.
    pub source: Option<u32>,
    /// Number of the row within the step. [`super::Log`] sets it.
    pub number: u32,
}

impl Row for HealthRow {
    const TABLE: &'static str = "health_incidents";
    const COLUMNS: &'static [&'static str] =
        &["step", "number", "agent_id", "health_before", "health_after", "cause", "source_id"];

    fn bind(&self, to: &mut Binder<'_, '_>) -> rusqlite::Result<()> {
        to.long(self.step)?;
        to.integer(self.number)?;
        to.integer(self.agent)?;
        to.real(self.before)?;
        to.real(self.after)?;
        to.text(self.cause.name())?;
        to.optional(self.source)
    }
}

/// Buffered rows, by table.
#[derive(Debug, Default)]
pub struct Batch {
    /// Births.
    pub agents: Vec<AgentRow>,
    /// Deaths.
    pub deaths: Vec<DeathRow>,
    /// States of agents at the end of a step.
    pub states: Vec<StateRow>,
    /// States of resources at the end of a step.
    pub resources: Vec<ResourceRow>,
    /// Actions.
    pub actions: Vec<ActionRow>,
    /// Interactions.
    pub interactions: Vec<InteractionRow>,
    /// Metrics of steps.
    pub steps: Vec<StepRow>,
    /// Attempts to reproduce.
    pub reproductions: Vec<ReproductionRow>,
    /// Changes of health.
    pub health: Vec<HealthRow>,
    /// Whether the batch ends with a complete step, so that it can be committed.
    pub commit: bool,
}

impl Batch {
    /// Returns the number of rows to insert. Deaths do not count, because they update existing rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.agents.len()
            + self.states.len()
            + self.resources.len()
            + self.actions.len()
            + self.interactions.len()
            + self.steps.len()
            + self.reproductions.len()
            + self.health.len()
    }

    /// Removes all rows. The capacity stays allocated.
    pub fn clear(&mut self) {
        self.agents.clear();
        self.deaths.clear();
        self.states.clear();
        self.resources.clear();
        self.actions.clear();
        self.interactions.clear();
        self.steps.clear();
        self.reproductions.clear();
        self.health.clear();
        self.commit = false;
    }
}
