//! The seven actions and their rules.

use crate::agent::Agent;
use crate::database::{HealthCause, HealthRow, InteractionRow, ReproductionRow};
use crate::geometry::Point;
use crate::kinds::kinds;
use crate::random::Random;
use crate::world::World;

kinds! {
    /// An action of an agent.
    ActionKind, "action" {
        /// Move in a cardinal direction.
        Move = "move",
        /// Take from the nearest resource that is not empty.
        Gather = "gather",
        /// Give to the ally in range with the lowest resource level.
        Share = "share",
        /// Damage the nearest enemy in range.
        Attack = "attack",
        /// Have a child.
        Reproduce = "reproduce",
        /// Halve the damage of attacks for some turns and heal a little.
        Defend = "defend",
        /// Do nothing.
        Pass = "pass",
    }
}

impl ActionKind {
    /// Number of actions.
    pub const COUNT: usize = 7;
}

/// A cardinal direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Towards larger x.
    Right,
    /// Towards larger y.
    Up,
    /// Towards smaller x.
    Left,
    /// Towards smaller y.
    Down,
}

impl Direction {
    /// All directions in the order of their angles.
    pub const ALL: [Self; 4] = [Self::Right, Self::Up, Self::Left, Self::Down];

    /// Returns the unit vector.
    #[must_use]
    pub const fn unit(self) -> (f32, f32) {
        match self {
            Self::Right => (1.0, 0.0),
            Self::Up => (0.0, 1.0),
            Self::Left => (-1.0, 0.0),
            Self::Down => (0.0, -1.0),
        }
    }

    /// Returns the angle in degrees.
    #[must_use]
    pub const fn degrees(self) -> f32 {
        self as u8 as f32 * 90.0
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Right => "right",
            Self::Up => "up",
            Self::Left => "left",
            Self::Down => "down",
        }
    }
}

/// The action that a policy has chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Action {
    /// Kind of action.
    pub kind: ActionKind,
    /// Direction of a move. If `None`, it is random.
    pub direction: Option<Direction>,
}

impl From<ActionKind> for Action {
    fn from(kind: ActionKind) -> Self {
        Self { kind, direction: None }
    }
}

/// The result of an action.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outcome {
    /// Kind of action.
    pub kind: ActionKind,
    /// Whether it succeeded.
    pub succeeded: bool,
    /// Number of the target agent or resource. `None` if the action has no target or found none.
    pub target: Option<u32>,
    /// Amount gathered or shared, damage done, health healed, distance moved or cost paid.
    pub amount: f32,
    /// Direction of a move, or the reason of a failure.
    pub details: Option<&'static str>,
}

impl Outcome {
    fn failed(kind: ActionKind, reason: &'static str) -> Self {
        Self { kind, succeeded: false, target: None, amount: 0.0, details: Some(reason) }
    }

    fn done(kind: ActionKind, target: Option<u32>, amount: f32) -> Self {
        Self { kind, succeeded: true, target, amount, details: None }
    }
}

/// Performs the action of the agent at a slot. Its effects are immediate.
pub fn perform(world: &mut World, slot: usize, action: Action, random: &mut Random) -> Outcome {
    match action.kind {
        ActionKind::Move => {
            let random_direction = || Direction::ALL[random.below(4) as usize];
            let direction = action.direction.unwrap_or_else(random_direction);
            step_to(world, slot, direction)
        }
        ActionKind::Gather => gather(world, slot),
        ActionKind::Share => share(world, slot),
        ActionKind::Attack => attack(world, slot),
        ActionKind::Reproduce => reproduce(world, slot, random),
        ActionKind::Defend => defend(world, slot),
        ActionKind::Pass => Outcome::done(ActionKind::Pass, None, 0.0),
    }
}

fn step_to(world: &mut World, slot: usize, direction: Direction) -> Outcome {
    let distance = world.rules.move_distance;
    let from = world.agents[slot].at;
    let (dx, dy) = direction.unit();
    let to = Point::new(from.x + dx * distance, from.y + dy * distance);
    world.agents[slot].orientation = direction.degrees();
    if !world.area.contains(to) {
        return Outcome::failed(ActionKind::Move, "out of bounds");
    }
    world.relocate(slot, to);
    let mut outcome = Outcome::done(ActionKind::Move, None, distance);
    outcome.details = Some(direction.name());
    outcome
}

fn gather(world: &mut World, slot: usize) -> Outcome {
    let agent = &world.agents[slot];
    let wanted = world.rules.gather_amount * agent.genome.gather_multiplier;
    let Some(id) = world.nearest_resource(agent.at, world.rules.gather_range) else {
        return Outcome::failed(ActionKind::Gather, "no resource in range");
    };
    let given = world.take_resource(id, wanted);
    world.agents[slot].resource += given;
    Outcome::done(ActionKind::Gather, Some(id), given)
}

fn share(world: &mut World, slot: usize) -> Outcome {
    let agent = &world.agents[slot];
    let amount = world.rules.share_amount;
    if agent.resource - amount < world.rules.share_reserve {
        return Outcome::failed(ActionKind::Share, "too little to share");
    }
    let Some(poorest) = poorest_ally(world, slot) else {
        return Outcome::failed(ActionKind::Share, "no ally in range");
    };
    world.agents[slot].resource -= amount;
    world.agents[poorest].resource += amount;
    world.signal(slot);
    interact(world, slot, poorest, ActionKind::Share, amount)
}

/// Returns the slot of the ally in range with the lowest resource level. At a tie the smaller number wins.
fn poorest_ally(world: &mut World, slot: usize) -> Option<usize> {
    let (at, kind) = (world.agents[slot].at, world.agents[slot].kind);
    let mut near = std::mem::take(&mut world.scratch);
    near.clear();
    world.agent_index.nearby(at, world.rules.share_range, &mut near);
    let mut best: Option<(f32, usize)> = None;
    for entry in &near {
        let other = entry.id as usize;
        let ally = &world.agents[other];
        if other != slot && ally.kind == kind && best.is_none_or(|b| (ally.resource, other) < b) {
            best = Some((ally.resource, other));
        }
    }
    world.scratch = near;
    best.map(|best| best.1)
}

fn attack(world: &mut World, slot: usize) -> Outcome {
    let attacker = &world.agents[slot];
    let ratio = attacker.health / world.rules.start_health;
    let Some(victim) = nearest_enemy(world, attacker) else {
        return Outcome::failed(ActionKind::Attack, "no enemy in range");
    };
    let shield = if world.agents[victim].defending() { 0.5 } else { 1.0 };
    let damage = world.rules.attack_strength * ratio * shield;
    hurt(world, slot, victim, damage);
    interact(world, slot, victim, ActionKind::Attack, damage)
}

fn nearest_enemy(world: &World, attacker: &Agent) -> Option<usize> {
    let hostile = |id: u32| {
        let other = &world.agents[id as usize];
        other.alive && other.kind != attacker.kind
    };
    world
        .agent_index
        .nearest(attacker.at, world.rules.attack_range, hostile)
        .map(|found| found.entry.id as usize)
}

fn hurt(world: &mut World, slot: usize, victim: usize, damage: f32) {
    let source = world.agents[slot].id;
    let before = world.agents[victim].health;
    let after = (before - damage).max(0.0);
    world.agents[victim].health = after;
    world.damage_heat(victim, damage);
    let row = HealthRow {
        step: world.step,
        agent: world.agents[victim].id,
        before,
        after,
        cause: HealthCause::Attack,
        source: Some(source),
        number: 0,
    };
    if let Some(log) = &mut world.log {
        log.health(row);
    }
    if after <= 0.0 {
        world.kill(victim, HealthCause::Attack, Some(source));
    }
}

fn reproduce(world: &mut World, slot: usize, random: &mut Random) -> Outcome {
    let before = world.agents[slot].resource;
    let failure = if before < world.rules.reproduction_minimum {
        Some("too little to reproduce")
    } else if world.living >= world.cap {
        Some("population cap reached")
    } else if !random.chance(world.rules.reproduction_chance) {
        Some("by chance")
    } else {
        None
    };
    let child = failure.is_none().then(|| {
        world.agents[slot].resource -= world.rules.reproduction_cost;
        world.add_child(slot)
    });
    let row = ReproductionRow {
        step: world.step,
        parent: world.agents[slot].id,
        child,
        resource_before: before,
        resource_after: world.agents[slot].resource,
        reason: failure,
    };
    if let Some(log) = &mut world.log {
        log.reproduction(row);
    }
    match (child, failure) {
        (Some(_), _) => {
            let (newest, cost) = (world.agents.len() - 1, world.rules.reproduction_cost);
            interact(world, slot, newest, ActionKind::Reproduce, cost)
        }
        (None, reason) => Outcome::failed(ActionKind::Reproduce, reason.unwrap_or_default()),
    }
}

fn defend(world: &mut World, slot: usize) -> Outcome {
    let (turns, heal) = (world.rules.defence_turns, world.rules.defence_heal);
    let (most, step) = (world.rules.start_health, world.step);
    let agent = &mut world.agents[slot];
    let before = agent.health;
    agent.defence_timer = turns;
    agent.health = (before + heal).min(most);
    let row = HealthRow {
        step,
        agent: agent.id,
        before,
        after: agent.health,
        cause: HealthCause::Healing,
        source: None,
        number: 0,
    };
    if let Some(log) = &mut world.log
        && row.after > row.before
    {
        log.health(row);
    }
    Outcome::done(ActionKind::Defend, None, row.after - row.before)
}

/// Logs an interaction with another agent and returns the outcome.
fn interact(
    world: &mut World,
    slot: usize,
    other: usize,
    kind: ActionKind,
    amount: f32,
) -> Outcome {
    let target = world.agents[other].id;
    let row =
        InteractionRow { step: world.step, source: world.agents[slot].id, target, kind, amount };
    if let Some(log) = &mut world.log {
        log.interaction(row);
    }
    Outcome::done(kind, Some(target), amount)
}
