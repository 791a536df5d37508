//! The world: its agents, resources and indexes, and the changes that turns make.

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
/// Agents are stored in the order of their numbers. The slot of an agent is its position in `agents`. The spatial index stores slots
/// as the numbers of its entries. Slots and numbers have the same order, so a tie goes to the agent with the smaller number.
#[derive(Debug)]
pub struct World {
    /// Extent of the world.
    pub area: Area,
    /// Seed of all random numbers.
    pub seed: u64,
    /// Number of the current step.
    pub step: u64,
    /// Number of turns taken by all agents since the start.
    pub turn: u64,
    /// Parameters of a turn.
    pub rules: Rules,
    /// Number of living agents at which reproduction stops.
    pub cap: usize,
    /// Agents by slot. Dead agents stay until they are removed.
    pub agents: Vec<Agent>,
    /// Number of living agents.
    pub living: usize,
    /// All resources.
    pub resources: Resources,
    /// Spatial index of agents. The number of an entry is the slot of the agent.
    pub agent_index: BatchedIndex,
    /// Spatial index of resources.
    pub resource_index: BatchedIndex,
    /// Past events that agents can observe. `None` if agents do not observe.
    pub events: Option<EventFields>,
    /// The terrain. `None` if agents do not observe it.
    pub terrain: Option<Terrain>,
    /// The memory-mapped grid. `None` if observations do not read from it.
    pub resource_grid: Option<ResourceGrid>,
    /// Work done in the current step, except that of the indexes.
    pub counters: Counters,
    /// The log. `None` without a database.
    pub(crate) log: Option<Log>,
    /// Buffer for query results, reused between turns.
    pub(crate) scratch: Vec<Entry>,
    next_id: u32,
    /// Counters of both indexes at the last call of `take_counters`.
    counted: [IndexCounters; 2],
}

impl World {
    /// Creates the world of a configuration at step 0, without a log.
    ///
    /// # Errors
    ///
    /// Returns [`Error::File`] if the memory-mapped grid cannot be created.
    pub fn new(config: &Config) -> Result<Self, Error> {
        let area = Area::world(config.width, config.height);
        let resources = Resources::new(config, area);
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

    /// Returns the nearest resource within `range` that is not empty.
    #[must_use]
    pub fn nearest_resource(&self, at: Point, range: f32) -> Option<u32> {
        let amounts = &self.resources.amounts;
        self.resource_index
            .nearest(at, range, |id| amounts[id as usize] > 0.0)
            .map(|found| found.entry.id)
    }

    /// Takes up to `wanted` from a resource and returns the amount taken.
    pub(crate) fn take_resource(&mut self, id: u32, wanted: f32) -> f32 {
        let before = self.resources.amounts[id as usize];
        let taken = self.resources.take(id, wanted);
        if let Some(grid) = &mut self.resource_grid {
            let at = self.resources.positions[id as usize];
            grid.change(at, before, self.resources.amounts[id as usize]);
        }
        taken
    }

    /// Moves the agent at a slot and records its trail.
    pub(crate) fn relocate(&mut self, slot: usize, to: Point) {
        let from = std::mem::replace(&mut self.agents[slot].at, to);
        if let Some(events) = &mut self.events {
            events.trail(from, self.turn);
        }
        self.agent_index.queue_move(slot as u32, from, to, Priority::Normal);
    }

    /// Records a signal of the agent at a slot to its allies.
    pub(crate) fn signal(&mut self, slot: usize) {
        let agent = &self.agents[slot];
        if let Some(events) = &mut self.events {
            events.signal(agent.kind, agent.at, self.turn);
        }
    }

    /// Records damage to the agent at a slot.
    pub(crate) fn damage_heat(&mut self, slot: usize, damage: f32) {
        let strength = self.rules.attack_strength;
        if let Some(events) = &mut self.events
            && strength > 0.0
        {
            events.heat(self.agents[slot].at, damage / strength, self.turn);
        }
    }

    /// Adds a child of the agent at a slot and returns the number of the child.
    pub(crate) fn add_child(&mut self, slot: usize) -> u32 {
        let id = self.next_id;
        self.next_id += 1;
        let child = self.agents[slot].child(id, self.step, &self.rules);
        let parent = self.agents[slot].id;
        if let Some(log) = &mut self.log {
            log.agent(AgentRow::from_agent(&child, Some(parent)));
        }
        let change = Change { id: self.agents.len() as u32, from: None, to: Some(child.at) };
        self.agents.push(child);
        self.living += 1;
        self.counters.births += 1;
        self.agent_index.queue(change, Priority::Normal);
        id
    }

    /// Marks the agent at a slot as dead.
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
            // For a deadly attack, the damage has already been logged.
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

    /// Returns whether dead agents use so many slots that they should be removed.
    #[must_use]
    pub(crate) fn needs_sweep(&self) -> bool {
        let dead = self.agents.len() - self.living;
        dead > 16 && dead * 4 > self.agents.len()
    }

    /// Removes dead agents, which changes slots, and rebuilds the index of agents.
    pub(crate) fn sweep(&mut self) {
        self.agents.retain(|agent| agent.alive);
        self.agent_index.rebuild(&slot_entries(&self.agents));
    }

    /// Returns the work done since the last call, including that of the indexes.
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

    /// Returns a digest of all state that later steps depend on, and of the rewards of agents.
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

/// Creates the initial agents at uniformly distributed positions. The types alternate.
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

/// Returns the index entries of the living agents. The number of an entry is the slot.
fn slot_entries(agents: &[Agent]) -> Vec<Entry> {
    agents
        .iter()
        .enumerate()
        .filter(|(_, agent)| agent.alive)
        .map(|(slot, agent)| Entry { id: slot as u32, at: agent.at })
        .collect()
}
