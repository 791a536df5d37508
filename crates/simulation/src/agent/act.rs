//! One turn of an agent, from consumption to reward.

use crate::action::{ActionKind, Outcome, perform};
use crate::database::{ActionRow, HealthCause};
use crate::observation::Observer;
use crate::policy::{Policy, Situation};
use crate::random::{Domain, Random};
use crate::world::World;

/// The state that a turn reads and changes.
pub struct Turn<'a> {
    /// The world with all agents.
    pub world: &'a mut World,
    /// Makes observations. If `None`, agents decide without one.
    pub observer: Option<&'a mut Observer>,
    /// Chooses actions.
    pub policy: &'a mut dyn Policy,
}

/// Lets the agent at a slot take its turn.
///
/// The parts, in order: consumption, starvation (an agent that dies ends its turn here), observation, decision, action, defence
/// timer, reward, log. The reward is the sum of:
///
/// - 0.1 times the change of the resource level,
/// - 0.5 times the change of health,
/// - 0.1 if the agent is alive, -10 if it is dead,
/// - 0.05 unless the action was to pass.
#[inline(never)]
pub fn agent_act(turn: &mut Turn<'_>, slot: usize) {
    let world = &mut *turn.world;
    let before = (world.agents[slot].resource, world.agents[slot].health);
    if starves(world, slot) {
        world.agents[slot].total_reward += reward(world, slot, before, ActionKind::Pass);
        return;
    }
    let timer = world.agents[slot].defence_timer;
    let observation = turn.observer.as_deref_mut().map(|observer| observer.observe(world, slot));
    let agent = &world.agents[slot];
    let random = Random::keyed(world.seed, Domain::Turn, u64::from(agent.id), world.step);
    let mut situation = Situation { agent, rules: &world.rules, observation, random };
    world.counters.observations += u64::from(situation.observation.is_some());
    let action = turn.policy.decide(&mut situation);
    let mut random = situation.random;
    let outcome = perform(world, slot, action, &mut random);
    world.count_action(&outcome);
    // A defence that starts in this turn lasts its full number of turns, so only an earlier one counts down.
    if outcome.kind != ActionKind::Defend && timer > 0 {
        world.agents[slot].defence_timer = timer - 1;
    }
    let reward = reward(world, slot, before, outcome.kind);
    world.agents[slot].total_reward += reward;
    log_action(world, slot, &outcome, before.0, reward);
}

/// Subtracts the consumption and counts starvation. Returns whether the agent died.
fn starves(world: &mut World, slot: usize) -> bool {
    let (consumption, limit) = (world.rules.consumption, world.rules.starvation_limit);
    let agent = &mut world.agents[slot];
    agent.resource -= consumption;
    if agent.resource > 0.0 {
        agent.starvation = 0;
        return false;
    }
    agent.resource = 0.0;
    agent.starvation += 1;
    if agent.starvation < limit {
        return false;
    }
    world.kill(slot, HealthCause::Starvation, None);
    true
}

fn reward(world: &World, slot: usize, before: (f32, f32), kind: ActionKind) -> f32 {
    let agent = &world.agents[slot];
    let change = 0.1 * (agent.resource - before.0) + 0.5 * (agent.health - before.1);
    let life = if agent.alive { 0.1 } else { -10.0 };
    let effort = if kind == ActionKind::Pass { 0.0 } else { 0.05 };
    change + life + effort
}

fn log_action(
    world: &mut World,
    slot: usize,
    outcome: &Outcome,
    resource_before: f32,
    reward: f32,
) {
    let (agent, step) = (&world.agents[slot], world.step);
    let row = ActionRow {
        step,
        agent: agent.id,
        kind: outcome.kind,
        succeeded: outcome.succeeded,
        target: outcome.target,
        amount: outcome.amount,
        resource_before,
        resource_after: agent.resource,
        reward,
        details: outcome.details,
    };
    if let Some(log) = &mut world.log {
        log.action(row);
    }
}
