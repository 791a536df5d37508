//! Agents: what they are, and what one turn of theirs does.

mod act;

pub use act::{Turn, agent_act};

use crate::config::{Rules, TypeParameters};
use crate::geometry::Point;
use crate::kinds::kinds;

kinds! {
    /// The type of an agent; agents of one type are allies, all others enemies.
    AgentType, "agent type" {
        /// Shares much, attacks little.
        System = "system",
        /// Gathers much, attacks much.
        Independent = "independent",
        /// Between the two.
        Control = "control",
    }
}

/// One agent.
#[derive(Debug, Clone, PartialEq)]
pub struct Agent {
    /// Its number; numbers rise with time and are never used again.
    pub id: u32,
    /// Its type.
    pub kind: AgentType,
    /// Whether it lives.
    pub alive: bool,
    /// Where it is.
    pub at: Point,
    /// Direction of its last move in degrees: 0 right, 90 up, 180 left, 270 down.
    pub orientation: f32,
    /// Its resource level; at or below 0 it starves.
    pub resource: f32,
    /// Its health, 0 to the rules' start health.
    pub health: f32,
    /// Turns for which it still defends.
    pub defence_timer: u32,
    /// Turns in a row that it starved.
    pub starvation: u32,
    /// The step it was born in.
    pub birth_step: u64,
    /// 0 for those of the start, one more than the parent's for children.
    pub generation: u32,
    /// Its parameters, inherited unchanged.
    pub genome: TypeParameters,
    /// Rewards summed over its life.
    pub total_reward: f32,
}

impl Agent {
    /// An agent of the start.
    #[must_use]
    pub fn new(id: u32, kind: AgentType, at: Point, rules: &Rules) -> Self {
        Self {
            id,
            kind,
            alive: true,
            at,
            orientation: 0.0,
            resource: rules.start_resource,
            health: rules.start_health,
            defence_timer: 0,
            starvation: 0,
            birth_step: 0,
            generation: 0,
            genome: rules.types[kind as usize],
            total_reward: 0.0,
        }
    }

    /// The child of this agent, at its place.
    #[must_use]
    pub fn child(&self, id: u32, step: u64, rules: &Rules) -> Self {
        Self {
            resource: rules.child_resource,
            birth_step: step,
            generation: self.generation + 1,
            genome: self.genome,
            ..Self::new(id, self.kind, self.at, rules)
        }
    }

    /// Whether it defends now.
    #[must_use]
    pub fn defending(&self) -> bool {
        self.defence_timer > 0
    }
}
