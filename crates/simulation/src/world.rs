//! The world: everybody and everything in it, and the changes that turns make.

use crate::action::Outcome;
use crate::agent::{Agent, AgentType};
use crate::config::{Config, Rules};
use crate::counters::Counters;
use crate::database::{AgentRow, DeathRow, HealthCause, HealthRow, Log};
use crate::digest::Digest;
use crate::error::Error;
use crate::geometry::{Area, Entry, Point};
use crate::observation::{Channel, EventFields, ResourceGrid, ResourceSource, Terrain};
use crate::resource::{self, Resources};
use crate::spatial::{BatchedIndex, Change, IndexCounters, Priority};

/// The state of a run.
///
/// Agents are kept in the order of their numbers; an agent's place in the list is its slot, and slots are what the index of
/// agents holds, so that ties by slot are ties by number. The dead keep their slots until they are swept out.
#[derive(Debug)]
pub struct World {
    /// The extent.
    pub area: Area,
    /// The seed of all random numbers.
    pub seed: u64,
    /// The step that runs.
    pub step: u64,
    /// Turns taken since the start, of all agents.
    pub turn: u64,
    /// The rules of a turn.
    pub rules: Rules,
    /// Living agents at which nobody reproduces.
    pub cap: usize,
    /// Agents by slot, the dead of late among them.
    pub agents: Vec<Agent>,
    /// How many of them live.
    pub living: usize,
    /// All resources.
    pub resources: Resources,
    /// Where agents are.
    pub agent_index: BatchedIndex,
    /// Where resources are.
    pub resource_index: BatchedIndex,
    /// What observers may see of past turns, if agents observe.
    pub events: Option<EventFields>,
    /// The terrain, if agents observe it.
    pub terrain: Option<Terrain>,
    /// The memory-mapped grid, if observations read from it.
    pub resource_grid: Option<ResourceGrid>,
    /// Work done in the step that runs, without that of the indexes.
    pub counters: Counters,
    /// Rows for the database, if there is one.
    pub(crate) log: Option<Log>,
    /// Room for the answers of queries.
    pub(crate) scratch: Vec<Entry>,
    next_id: u32,
    /// Counters of both indexes at the last call of `take_counters`.
    counted: [IndexCounters; 2],
}

impl World {
    /// The world of a configuration at step 0, without a log.
    ///
    /// # Errors
    ///
    /// [`Error::File`] if the memory-mapped grid cannot be made.
    pub fn new(config: &Config) -> Result<Self, Error> {
        let area = Area::world(config.width, config.height);
        let resources = Resources::place(config, area);
        let agents = place_agents(config, area);
        let channels = config.observation.channels;
        let mapped = config.observe && config.observation.source == ResourceSource::MemoryMap;
        let spread = config.observation.spread;
        let index = |kind, entries: &[Entry]| {
            BatchedIndex::new(kind, area, config.cell_size, config.flush, entries)
        };
        Ok(Self {
            area,
            seed: config.seed,
            step: 0,
            turn: 0,
            rules: config.rules,
            cap: config.cap() as usize,
            living: agents.len(),
            agent_index: index(config.agent_index, &slot_entries(&agents)),
            resource_index: index(config.resource_index, &resources.entries()),
            events: config.observe.then(|| EventFields::new(area, channels)),
            terrain: (config.observe && channels.has(Channel::TerrainCost))
                .then(|| Terrain::new(area, config.seed)),
            resource_grid: if mapped {
                Some(ResourceGrid::new(area, spread, &resources)?)
            } else {
                None
            },
            counters: Counters::default(),
            log: None,
            scratch: Vec::new(),
            next_id: config.agents,
            counted: [IndexCounters::default(); 2],
            agents,
            resources,
        })
    }

    /// The nearest resource within `range` that holds something.
    #[must_use]
    pub fn nearest_resource(&self, at: Point, range: f32) -> Option<u32> {
        let amounts = &self.resources.amounts;
        self.resource_index
            .nearest(at, range, |id| amounts[id as usize] > 0.0)
            .map(|found| found.entry.id)
    }

    /// Takes up to `wanted` from a resource.
    pub(crate) fn take_resource(&mut self, id: u32, wanted: f32) -> f32 {
        let before = self.resources.amounts[id as usize];
        let given = self.resources.take(id, wanted);
        if let Some(grid) = &mut self.resource_grid {
            let at = self.resources.positions[id as usize];
            grid.change(at, before, self.resources.amounts[id as usize]);
        }
        given
    }

    /// Moves the agent at a slot; it leaves a trail.
    pub(crate) fn relocate(&mut self, slot: usize, to: Point) {
        let from = std::mem::replace(&mut self.agents[slot].at, to);
        if let Some(events) = &mut self.events {
            events.trail(from, self.turn);
        }
        self.agent_index.queue_move(slot as u32, from, to, Priority::Normal);
    }

    /// The agent at a slot signals to its allies.
    pub(crate) fn signal(&mut self, slot: usize) {
        let agent = &self.agents[slot];
        if let Some(events) = &mut self.events {
            events.signal(agent.kind, agent.at, self.turn);
        }
    }

    /// The agent at a slot was hurt.
    pub(crate) fn damage_heat(&mut self, slot: usize, damage: f32) {
        let strength = self.rules.attack_strength;
        if let Some(events) = &mut self.events
            && strength > 0.0
        {
            events.heat(self.agents[slot].at, damage / strength, self.turn);
        }
    }

    /// Adds a child of the agent at a slot; returns its number.
    pub(crate) fn bear(&mut self, slot: usize) -> u32 {
        let id = self.next_id;
        self.next_id += 1;
        let child = self.agents[slot].child(id, self.step, &self.rules);
        let parent = self.agents[slot].id;
        if let Some(log) = &mut self.log {
            log.agent(AgentRow::of(&child, Some(parent)));
        }
        let change = Change { id: self.agents.len() as u32, from: None, to: Some(child.at) };
        self.agents.push(child);
        self.living += 1;
        self.counters.births += 1;
        self.agent_index.queue(change, Priority::Normal);
        id
    }

    /// Ends the life of the agent at a slot.
    pub(crate) fn kill(&mut self, slot: usize, cause: HealthCause, source: Option<u32>) {
        let step = self.step;
        let agent = &mut self.agents[slot];
        agent.alive = false;
        let before = std::mem::replace(&mut agent.health, 0.0);
        let change = Change { id: slot as u32, from: Some(agent.at), to: None };
        let (id, cause_name) = (agent.id, cause.name());
        self.living -= 1;
        self.counters.deaths += 1;
        self.agent_index.queue(change, Priority::Normal);
        if let Some(log) = &mut self.log {
            // A deadly attack has logged its damage already.
            if before > 0.0 {
                log.health(HealthRow {
                    step,
                    agent: id,
                    before,
                    after: 0.0,
                    cause,
                    source,
                    number: 0,
                });
            }
            log.death(DeathRow { agent: id, step, cause: cause_name });
        }
    }

    /// Lets resources regenerate.
    pub(crate) fn regenerate(&mut self) {
        let grid = &mut self.resource_grid;
        self.resources.regenerate(self.seed, self.step, |at, before, after| {
            if let Some(grid) = grid {
                grid.change(at, before, after);
            }
        });
    }

    pub(crate) fn count_action(&mut self, outcome: &Outcome) {
        self.counters.tried[outcome.kind as usize] += 1;
        self.counters.succeeded[outcome.kind as usize] += u64::from(outcome.succeeded);
    }

    /// Whether the dead take up so many slots that they should be swept out.
    #[must_use]
    pub(crate) fn needs_sweep(&self) -> bool {
        let dead = self.agents.len() - self.living;
        dead > 16 && dead * 4 > self.agents.len()
    }

    /// Removes the dead, which changes slots, and rebuilds the index of agents.
    pub(crate) fn sweep(&mut self) {
        self.agents.retain(|agent| agent.alive);
        self.agent_index.rebuild(&slot_entries(&self.agents));
    }

    /// The work done since the last call, that of the indexes included.
    pub(crate) fn take_counters(&mut self) -> Counters {
        let mut counters = std::mem::take(&mut self.counters);
        for (index, counted) in
            [&self.agent_index, &self.resource_index].into_iter().zip(&mut self.counted)
        {
            let now = index.counters();
            counters.queries += now.queries - counted.queries;
            counters.hits += now.hits - counted.hits;
            counters.index_rebuilds += now.rebuilds - counted.rebuilds;
            counters.index_moves += now.applied - counted.applied;
            counters.index_flushes += now.flushes - counted.flushes;
            counters.dirty_regions += now.dirty_regions - counted.dirty_regions;
            *counted = now;
        }
        counters
    }

    /// A digest of everything that later steps depend on, and of what agents earned.
    #[must_use]
    pub fn state_hash(&self) -> u64 {
        let mut digest = Digest::default();
        digest.word(self.step);
        digest.word(u64::from(self.next_id));
        for agent in self.agents.iter().filter(|agent| agent.alive) {
            digest_agent(&mut digest, agent);
        }
        for (at, &amount) in self.resources.positions.iter().zip(&self.resources.amounts) {
            [at.x, at.y, amount].into_iter().for_each(|value| digest.float(value));
        }
        digest.finish()
    }
}

fn digest_agent(digest: &mut Digest, agent: &Agent) {
    digest.word(u64::from(agent.id) << 8 | agent.kind as u64);
    let counts = [agent.defence_timer, agent.starvation, agent.generation];
    counts.into_iter().for_each(|count| digest.word(u64::from(count)));
    digest.word(agent.birth_step);
    let values = [
        agent.at.x,
        agent.at.y,
        agent.orientation,
        agent.resource,
        agent.health,
        agent.total_reward,
    ];
    values.into_iter().for_each(|value| digest.float(value));
}

/// Agents of the start, types in turn, placed uniformly.
fn place_agents(config: &Config, area: Area) -> Vec<Agent> {
    let kinds = AgentType::ALL;
    (0..config.agents)
        .map(|id| {
            let kind = kinds[id as usize % kinds.len()];
            let at = resource::uniform(u64::from(id), area, config.seed);
            Agent::new(id, kind, at, &config.rules)
        })
        .collect()
}

/// Index entries of the living agents, by slot.
fn slot_entries(agents: &[Agent]) -> Vec<Entry> {
    agents
        .iter()
        .enumerate()
        .filter(|(_, agent)| agent.alive)
        .map(|(slot, agent)| Entry { id: slot as u32, at: agent.at })
        .collect()
}
