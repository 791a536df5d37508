//! Agents: their state, and one turn of an agent.

mod act;

pub use act::{Turn, agent_act};

use crate::config::{Rules, TypeParameters};
use crate::geometry::Point;
use crate::kinds::kinds;

kinds! {
    /// The type of an agent. Agents of the same type are allies, all others are enemies.
    AgentType, "agent type" {
        /// Shares often, rarely attacks.
        System = "system",
        /// Gathers much, often attacks.
        Independent = "independent",
        /// Between the other two.
        Control = "control",
    }
}

/// One agent.
#[derive(Debug, Clone, PartialEq)]
pub struct Agent {
    /// Number. Numbers increase with time and are never reused.
    pub id: u32,
    /// Type.
    pub kind: AgentType,
    /// Whether it is alive.
    pub alive: bool,
    /// Position.
    pub at: Point,
    /// Direction of the last move in degrees: 0 right, 90 up, 180 left, 270 down.
    pub orientation: f32,
    /// Resource level. At 0 the agent starves.
    pub resource: f32,
    /// Health, from 0 to the initial health of the rules.
    pub health: f32,
    /// Remaining turns of its defence.
    pub defence_timer: u32,
    /// Consecutive turns of starvation.
    pub starvation: u32,
    /// Step of its birth.
    pub birth_step: u64,
    /// 0 for initial agents, one more than that of the parent for children.
    pub generation: u32,
    /// Parameters, inherited unchanged.
    pub genome: TypeParameters,
    /// Sum of its rewards.
    pub total_reward: f32,
}

impl Agent {
    /// Creates an initial agent.
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

    /// Creates a child of this agent at the same position.
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

    /// Returns whether it is defending.
    #[must_use]
    pub fn defending(&self) -> bool {
        self.defence_timer > 0
    }
}
