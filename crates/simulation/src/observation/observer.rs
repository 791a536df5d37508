//! Makes the observation of an agent, part by part.

use super::agent_memory::{AgentMemory, REMEMBERED};
use super::event::EventFields;
use super::ground::{at_edge, read_obstacles};
use super::spread::{Share, value};
use super::window::{Cell, CellGrid, Window};
use super::{Channel, ResourceSource};
use crate::config::ObservationConfig;
use crate::digest::Digest;
use crate::geometry::Entry;
use crate::world::World;

/// An observation: thirteen planes of `side` by `side` cells with the agent in the centre. Cells are in row-major order from the
/// lower left.
#[derive(Debug, Clone)]
pub struct Observation {
    side: usize,
    values: Vec<f32>,
}

impl Observation {
    fn new(side: usize) -> Self {
        Self { side, values: vec![0.0; Channel::COUNT * side * side] }
    }

    /// Returns the number of cells per side.
    #[must_use]
    pub fn side(&self) -> usize {
        self.side
    }

    /// Returns all values, channel by channel.
    #[must_use]
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Returns the plane of a channel.
    #[must_use]
    pub fn plane(&self, channel: Channel) -> &[f32] {
        let len = self.side * self.side;
        &self.values[channel as usize * len..][..len]
    }

    fn plane_mut(&mut self, channel: Channel) -> &mut [f32] {
        let len = self.side * self.side;
        &mut self.values[channel as usize * len..][..len]
    }

    /// Returns the offset from the centre (right, up) of the first cell of a channel that is not 0. `None` if all are 0.
    #[must_use]
    pub fn find(&self, channel: Channel) -> Option<(i32, i32)> {
        let index = self.plane(channel).iter().position(|&value| value != 0.0)?;
        let radius = self.side as i32 / 2;
        let offset = |at: usize| at as i32 - radius;
        Some((offset(index % self.side), offset(index / self.side)))
    }

    /// Returns a digest of all values.
    #[must_use]
    pub fn digest(&self) -> u64 {
        let mut digest = Digest::default();
        self.values.iter().for_each(|&value| digest.float(value));
        digest.finish()
    }
}

/// Makes observations. It owns the buffer of the current observation and the memories of all agents.
#[derive(Debug)]
pub struct Observer {
    config: ObservationConfig,
    window: Window,
    grid: CellGrid,
    observation: Observation,
    /// Memories by slot.
    memories: Vec<Option<AgentMemory>>,
    /// Memories of dead agents, reused for newborn ones.
    spare: Vec<AgentMemory>,
    found: Vec<Entry>,
    /// Sums of resource shares by cell. All are 0 between observations.
    sums: Vec<Share>,
    /// Cells of sparsely written channels that must be cleared before the next observation.
    touched: Vec<(Channel, u32)>,
    /// Whether the obstacle plane has cells that are not 0.
    has_obstacles: bool,
}

impl Observer {
    /// Creates an observer of a world.
    #[must_use]
    pub fn new(config: ObservationConfig, world: &World) -> Self {
        let window = Window::new(config.radius, config.field_of_view);
        let mut observation = Observation::new(window.side);
        if config.channels.has(Channel::Visibility) {
            let plane = observation.plane_mut(Channel::Visibility);
            window.disk().for_each(|span| plane[span].fill(1.0));
        }
        Self {
            config,
            grid: CellGrid::for_world(world.area),
            observation,
            memories: Vec::new(),
            spare: Vec::new(),
            found: Vec::new(),
            sums: vec![0; window.len()],
            touched: Vec::new(),
            has_obstacles: false,
            window,
        }
    }

    /// Returns the last observation.
    #[must_use]
    pub fn observation(&self) -> &Observation {
        &self.observation
    }

    /// Returns the heap size of all memories in bytes.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let held = self.memories.iter().flatten().chain(&self.spare);
        held.map(AgentMemory::bytes).sum::<usize>()
            + self.memories.capacity() * size_of::<Option<AgentMemory>>()
    }

    /// Makes the observation of the agent at a slot. See [`observe`].
    pub fn observe(&mut self, world: &World, slot: usize) -> &Observation {
        observe(self, world, slot)
    }

    /// Keeps the memories of the slots for which `keep` returns `true`, in order.
    pub fn retain_slots(&mut self, keep: impl Fn(usize) -> bool) {
        let mut slot = 0;
        let spare = &mut self.spare;
        self.memories.retain_mut(|memory| {
            let kept = keep(slot);
            slot += 1;
            if !kept {
                spare.extend(memory.take());
            }
            kept
        });
    }

    /// Clears the cells that the last observation wrote in sparsely written planes.
    pub fn clear(&mut self) {
        let len = self.window.len();
        for (channel, index) in self.touched.drain(..) {
            self.observation.values[channel as usize * len + index as usize] = 0.0;
        }
        if self.config.source == ResourceSource::MemoryMap {
            self.observation.plane_mut(Channel::Resources).fill(0.0);
        }
    }

    fn has(&self, channel: Channel) -> bool {
        self.config.channels.has(channel)
    }

    fn set_max(&mut self, channel: Channel, index: usize, value: f32) {
        let held = &mut self.observation.plane_mut(channel)[index];
        *held = held.max(value);
        self.touched.push((channel, index as u32));
    }

    /// Writes own health, allies and enemies.
    pub fn perceive_agents(&mut self, world: &World, slot: usize) {
        let own = &world.agents[slot];
        let full = world.rules.start_health;
        if self.has(Channel::OwnHealth) {
            self.set_max(Channel::OwnHealth, self.window.centre(), own.health / full);
        }
        if !self.has(Channel::AllyHealth) && !self.has(Channel::EnemyHealth) {
            return;
        }
        let centre = self.grid.cell(own.at);
        let mut found = std::mem::take(&mut self.found);
        found.clear();
        world.agent_index.range(&self.window.square(centre, 0.0), &mut found);
        for entry in &found {
            let visible = self.window.visible(centre, self.grid.cell(entry.at));
            let (Some(index), true) = (visible, entry.id as usize != slot) else {
                continue;
            };
            let other = &world.agents[entry.id as usize];
            let channel =
                if other.kind == own.kind { Channel::AllyHealth } else { Channel::EnemyHealth };
            if self.has(channel) {
                self.set_max(channel, index, other.health / full);
            }
        }
        self.found = found;
    }

    /// Writes resources, from the configured source.
    pub fn perceive_resources(&mut self, world: &World, slot: usize) {
        if !self.has(Channel::Resources) {
            return;
        }
        let centre = self.grid.cell(world.agents[slot].at);
        match (self.config.source, &world.resource_grid) {
            (ResourceSource::MemoryMap, Some(grid)) => {
                let plane = self.observation.plane_mut(Channel::Resources);
                grid.read(&self.window, centre, plane);
            }
            _ => self.query_resources(world, centre),
        }
    }

    fn query_resources(&mut self, world: &World, centre: Cell) {
        let spread = self.config.spread;
        let area = self.window.square(centre, spread.reach());
        let mut found = std::mem::take(&mut self.found);
        found.clear();
        world.resource_index.range(&area, &mut found);
        let first = self.touched.len();
        for entry in &found {
            let level = world.resources.amounts[entry.id as usize] / world.resources.amount_max;
            for (cell, share) in spread.shares(self.grid, entry.at, level) {
                let Some(index) = self.window.visible(centre, cell).filter(|_| share != 0) else {
                    continue;
                };
                self.sums[index] += share;
                self.touched.push((Channel::Resources, index as u32));
            }
        }
        let plane = self.observation.plane_mut(Channel::Resources);
        for &(_, index) in &self.touched[first..] {
            let sum = std::mem::take(&mut self.sums[index as usize]);
            if sum != 0 {
                plane[index as usize] = value(sum);
            }
        }
        self.found = found;
    }

    /// Writes obstacles, terrain and the goal.
    pub fn perceive_ground(&mut self, world: &World, slot: usize) {
        let at = world.agents[slot].at;
        let centre = self.grid.cell(at);
        if self.has(Channel::Obstacles) {
            let edge = at_edge(self.grid, &self.window, centre);
            if edge || self.has_obstacles {
                let plane = self.observation.plane_mut(Channel::Obstacles);
                read_obstacles(self.grid, &self.window, centre, plane);
            }
            self.has_obstacles = edge;
        }
        if let (true, Some(terrain)) = (self.has(Channel::TerrainCost), &world.terrain) {
            let plane = self.observation.plane_mut(Channel::TerrainCost);
            terrain.read(&self.window, centre, plane);
        }
        if self.has(Channel::Goal)
            && let Some(id) = world.nearest_resource(at, world.rules.gather_range)
        {
            let goal = self.grid.cell(world.resources.positions[id as usize]);
            let radius = self.window.radius;
            let offset = |to: i32, from: i32| (to - from).clamp(-radius, radius);
            let index = self.window.index(offset(goal.x, centre.x), offset(goal.y, centre.y));
            self.set_max(Channel::Goal, index, 1.0);
        }
    }

    /// Shifts and decays the memory of the agent at a slot.
    pub fn shift_memory(&mut self, world: &World, slot: usize) {
        let centre = self.grid.cell(world.agents[slot].at);
        if slot >= self.memories.len() {
            self.memories.resize_with(slot + 1, || None);
        }
        let channels = self.config.channels;
        if let Some(memory) = &mut self.memories[slot] {
            memory.shift_and_decay(centre, self.window.side, channels);
            return;
        }
        let storage = self.config.storage;
        let mut memory = self.spare.pop().unwrap_or_else(|| AgentMemory::new(storage));
        memory.reset(centre, world.turn);
        self.memories[slot] = Some(memory);
    }

    /// Writes the remembered planes, adds new events and stores the result in the memory.
    pub fn write_out(&mut self, world: &World, slot: usize) {
        let Some(memory) = self.memories.get_mut(slot).and_then(Option::as_mut) else {
            return;
        };
        let kind = world.agents[slot].kind;
        let centre = memory.centre;
        let len = self.window.len();
        let first = Channel::KnownEmpty as usize;
        let (instant, remembered) = self.observation.values.split_at_mut(len * first);
        for (plane, channel) in memory.planes.iter_mut().zip(REMEMBERED) {
            if !self.config.channels.has(channel) {
                continue;
            }
            let out = &mut remembered[(channel as usize - first) * len..][..len];
            if !matches!(plane, super::Plane::Dense { empty: false, .. }) {
                out.fill(0.0);
            }
            plane.write(out);
            let changed = match (channel, &world.events) {
                (Channel::KnownEmpty, _) => mark_empty(&self.window, instant, out),
                (Channel::Landmarks, _) => mark_landmarks(&self.window, instant, out),
                (_, Some(events)) => {
                    let view = (&self.window, centre);
                    EventFields::read(events, channel, kind, view, memory.since, out)
                }
                (_, None) => false,
            };
            if changed {
                plane.store(out);
            }
        }
        memory.since = world.turn;
    }
}

/// Sets visible cells to 1 if they are empty and to 0 if not. Returns `true`: the plane always changes.
fn mark_empty(window: &Window, instant: &[f32], plane: &mut [f32]) -> bool {
    let len = window.len();
    let channel = |channel: Channel| &instant[channel as usize * len..][..len];
    let (allies, enemies) = (channel(Channel::AllyHealth), channel(Channel::EnemyHealth));
    let resources = channel(Channel::Resources);
    for span in window.disk() {
        let held =
            allies[span.clone()].iter().zip(&enemies[span.clone()]).zip(&resources[span.clone()]);
        for (cell, ((ally, enemy), resource)) in plane[span].iter_mut().zip(held) {
            *cell = f32::from(u8::from(*ally + *enemy + *resource == 0.0));
        }
    }
    plane[window.centre()] = 0.0;
    true
}

/// Sets visible cells with a resource to 1. Returns whether the plane changed.
fn mark_landmarks(window: &Window, instant: &[f32], plane: &mut [f32]) -> bool {
    let len = window.len();
    let resources = &instant[Channel::Resources as usize * len..][..len];
    let mut changed = false;
    for span in window.disk() {
        for (cell, &resource) in plane[span.clone()].iter_mut().zip(&resources[span]) {
            if resource > 0.0 && *cell == 0.0 {
                *cell = 1.0;
                changed = true;
            }
        }
    }
    changed
}

/// Makes the observation of the agent at a slot.
///
/// The parts, in order: [`Observer::clear`], [`Observer::perceive_agents`], [`Observer::perceive_resources`],
/// [`Observer::perceive_ground`], [`Observer::shift_memory`] and [`Observer::write_out`].
#[inline(never)]
pub fn observe<'a>(observer: &'a mut Observer, world: &World, slot: usize) -> &'a Observation {
    observer.clear();
    observer.perceive_agents(world, slot);
    observer.perceive_resources(world, slot);
    observer.perceive_ground(world, slot);
    observer.shift_memory(world, slot);
    observer.write_out(world, slot);
    &observer.observation
}
