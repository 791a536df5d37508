//! Policies: how agents choose their actions.

use crate::action::{Action, ActionKind, Direction};
use crate::agent::Agent;
use crate::config::{Rules, TypeParameters};
use crate::kinds::kinds;
use crate::observation::{Channel, Observation};
use crate::random::Random;

kinds! {
    /// The kind of a policy.
    PolicyKind, "policy" {
        /// All actions have the same probability.
        Uniform = "uniform",
        /// Each action has a weight. The type of the agent adds to it.
        Weighted = "weighted",
        /// The action that looks best in the observation.
        Greedy = "greedy",
    }
}

/// The input of a decision.
pub struct Situation<'a> {
    /// The agent whose turn it is.
    pub agent: &'a Agent,
    /// The rules of the run.
    pub rules: &'a Rules,
    /// The observation of the agent. `None` if agents do not observe.
    pub observation: Option<&'a Observation>,
    /// The random numbers of this turn.
    pub random: Random,
}

/// Chooses actions. A policy may keep state between turns, but its decisions must depend only on the situations it has seen.
pub trait Policy: Send {
    /// Chooses the action of the agent in this turn.
    fn decide(&mut self, situation: &mut Situation<'_>) -> Action;
}

/// Creates a policy.
#[must_use]
pub fn new_policy(kind: PolicyKind) -> Box<dyn Policy> {
    match kind {
        PolicyKind::Uniform => Box::new(Uniform),
        PolicyKind::Weighted => Box::new(Weighted),
        PolicyKind::Greedy => Box::new(Greedy),
    }
}

/// Chooses among all actions with equal probability.
#[derive(Debug, Clone, Copy)]
pub struct Uniform;

impl Policy for Uniform {
    fn decide(&mut self, situation: &mut Situation<'_>) -> Action {
        let index = situation.random.below(ActionKind::COUNT as u64);
        ActionKind::ALL[index as usize].into()
    }
}

/// Chooses each action with a probability proportional to its weight.
#[derive(Debug, Clone, Copy)]
pub struct Weighted;

impl Policy for Weighted {
    fn decide(&mut self, situation: &mut Situation<'_>) -> Action {
        let weights = action_weights(situation.rules, &situation.agent.genome);
        let mut remaining = situation.random.unit() * weights.iter().sum::<f32>();
        for (&kind, weight) in ActionKind::ALL.iter().zip(weights) {
            if remaining < weight {
                return kind.into();
            }
            remaining -= weight;
        }
        ActionKind::Pass.into()
    }
}

/// Returns the weight of each action: the base weights plus those of the genome.
#[must_use]
pub fn action_weights(rules: &Rules, genome: &TypeParameters) -> [f32; ActionKind::COUNT] {
    let mut weights = rules.weights;
    weights[ActionKind::Share as usize] += genome.share_weight;
    weights[ActionKind::Attack as usize] += genome.attack_weight;
    weights
}

/// Chooses by the observation. In this order: defend if threatened, reproduce if possible, attack or share at random by weight,
/// gather or go to the nearest resource.
#[derive(Debug, Clone, Copy)]
pub struct Greedy;

/// The values that a greedy agent reads from its observation.
#[derive(Debug, Clone, Copy, Default)]
struct View {
    /// Health of the strongest visible enemy, 0 if there is none.
    enemy: f32,
    /// Whether an ally is visible.
    ally: bool,
    /// Largest recent damage near the agent.
    heat: f32,
    /// Offset from the agent to its goal in cells: right, up.
    goal: Option<(i32, i32)>,
}

impl View {
    fn from_observation(observation: &Observation) -> Self {
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
        let view = situation.observation.map(View::from_observation).unwrap_or_default();
        let (agent, rules) = (situation.agent, situation.rules);
        let weights = action_weights(rules, &agent.genome);
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

/// Gathers or moves towards the goal. Without a goal, moves in a random direction.
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

/// Returns the cardinal direction that shortens the larger of the two distances.
fn towards(right: i32, up: i32) -> Direction {
    match (right.abs() >= up.abs(), right > 0, up > 0) {
        (true, true, _) => Direction::Right,
        (true, false, _) => Direction::Left,
        (false, _, true) => Direction::Up,
        (false, _, false) => Direction::Down,
    }
}
