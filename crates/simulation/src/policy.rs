//! Policies: how an agent chooses its action.

use crate::action::{Action, ActionKind, Direction};
use crate::agent::Agent;
use crate::config::{Rules, TypeParameters};
use crate::kinds::kinds;
use crate::observation::{Channel, Observation};
use crate::random::Random;

kinds! {
    /// A policy's name.
    PolicyKind, "policy" {
        /// Every action with equal chance.
        Uniform = "uniform",
        /// Each action with its weight, to which the type adds.
        Weighted = "weighted",
        /// What the observation makes look best.
        Greedy = "greedy",
    }
}

/// What a policy decides by.
pub struct Situation<'a> {
    /// The agent whose turn it is.
    pub agent: &'a Agent,
    /// The rules in force.
    pub rules: &'a Rules,
    /// What it sees, if agents observe.
    pub observation: Option<&'a Observation>,
    /// Its random numbers of this turn.
    pub random: Random,
}

/// Chooses actions; a policy may keep state between turns, but must not depend on anything but its situations.
pub trait Policy: Send {
    /// Chooses what the agent does in this turn.
    fn decide(&mut self, situation: &mut Situation<'_>) -> Action;
}

/// Makes the policy of a name.
#[must_use]
pub fn new_policy(kind: PolicyKind) -> Box<dyn Policy> {
    match kind {
        PolicyKind::Uniform => Box::new(Uniform),
        PolicyKind::Weighted => Box::new(Weighted),
        PolicyKind::Greedy => Box::new(Greedy),
    }
}

/// Every action with equal chance.
#[derive(Debug, Clone, Copy)]
pub struct Uniform;

impl Policy for Uniform {
    fn decide(&mut self, situation: &mut Situation<'_>) -> Action {
        let drawn = situation.random.below(ActionKind::COUNT as u64);
        ActionKind::ALL[drawn as usize].into()
    }
}

/// Each action with its weight.
#[derive(Debug, Clone, Copy)]
pub struct Weighted;

impl Policy for Weighted {
    fn decide(&mut self, situation: &mut Situation<'_>) -> Action {
        let weights = weights_of(situation.rules, &situation.agent.genome);
        let mut rest = situation.random.unit() * weights.iter().sum::<f32>();
        for (&kind, weight) in ActionKind::ALL.iter().zip(weights) {
            if rest < weight {
                return kind.into();
            }
            rest -= weight;
        }
        ActionKind::Pass.into()
    }
}

/// The base weights with the genome's own added.
#[must_use]
pub fn weights_of(rules: &Rules, genome: &TypeParameters) -> [f32; ActionKind::COUNT] {
    let mut weights = rules.weights;
    weights[ActionKind::Share as usize] += genome.share_weight;
    weights[ActionKind::Attack as usize] += genome.attack_weight;
    weights
}

/// What the observation makes look best: survival first, then children, fights and gifts by weight, then food.
#[derive(Debug, Clone, Copy)]
pub struct Greedy;

/// What a greedy agent reads from its observation.
#[derive(Debug, Clone, Copy, Default)]
struct View {
    /// Health of the strongest enemy in view, 0 if none is.
    enemy: f32,
    /// Whether an ally is in view.
    ally: bool,
    /// Damage done near the agent of late.
    heat: f32,
    /// Cells from the agent to its goal, right and up.
    goal: Option<(i32, i32)>,
}

impl View {
    fn of(observation: &Observation) -> Self {
        let most = |channel| {
            let plane = observation.plane(channel);
            plane.iter().copied().fold(0.0f32, f32::max)
        };
        Self {
            enemy: most(Channel::EnemyHealth),
            ally: most(Channel::AllyHealth) > 0.0,
            heat: most(Channel::DamageHeat),
            goal: observation.find(Channel::Goal),
        }
    }
}

impl Policy for Greedy {
    fn decide(&mut self, situation: &mut Situation<'_>) -> Action {
        let view = situation.observation.map(View::of).unwrap_or_default();
        let (agent, rules) = (situation.agent, situation.rules);
        let weights = weights_of(rules, &agent.genome);
        let health = agent.health / rules.start_health;
        if (view.enemy > 0.0 || view.heat > 0.1) && health < 0.5 && !agent.defending() {
            return ActionKind::Defend.into();
        }
        if agent.resource >= rules.reproduction_minimum {
            return ActionKind::Reproduce.into();
        }
        let spare = agent.resource - rules.share_amount - rules.share_reserve;
        let fight = weights[ActionKind::Attack as usize];
        if view.enemy > 0.0 && health > view.enemy * 0.5 && situation.random.chance(fight) {
            return ActionKind::Attack.into();
        }
        let give = weights[ActionKind::Share as usize];
        if view.ally && spare > 0.0 && situation.random.chance(give) {
            return ActionKind::Share.into();
        }
        forage(situation, view.goal)
    }
}

/// Gathers what the goal marks, or goes nearer to it; wanders without a goal.
fn forage(situation: &mut Situation<'_>, goal: Option<(i32, i32)>) -> Action {
    match goal {
        Some(_) if situation.random.chance(0.7) => ActionKind::Gather.into(),
        Some((right, up)) if (right, up) != (0, 0) => {
            Action { kind: ActionKind::Move, direction: Some(towards(right, up)) }
        }
        Some(_) => ActionKind::Gather.into(),
        None => ActionKind::Move.into(),
    }
}

/// The cardinal direction that shortens the longer way.
fn towards(right: i32, up: i32) -> Direction {
    match (right.abs() >= up.abs(), right > 0, up > 0) {
        (true, true, _) => Direction::Right,
        (true, false, _) => Direction::Left,
        (false, _, true) => Direction::Up,
        (false, _, false) => Direction::Down,
    }
}
