//! The resources of a world: points with an amount that agents gather and that regenerates.

use crate::config::{Config, Layout};
use crate::geometry::{Area, Entry, Point};
use crate::random::{Domain, Random};

/// All resources. The number of a resource is its index. Depleted resources stay.
#[derive(Debug, Clone, PartialEq)]
pub struct Resources {
    /// Position of each resource.
    pub positions: Vec<Point>,
    /// Amount of each resource, 0 to `amount_max`.
    pub amounts: Vec<f32>,
    /// Largest amount of a resource.
    pub amount_max: f32,
    regeneration: f32,
    regeneration_chance: f32,
}

impl Resources {
    /// Creates the resources of a configuration with random amounts between half of the maximum and the maximum.
    #[must_use]
    pub fn new(config: &Config, world: Area) -> Self {
        let count = config.resource_count();
        let held = config.resources;
        let amounts = (0..count).map(|id| {
            let mut random = Random::keyed(config.seed, Domain::Placement, subject(id), 1);
            held.amount_max * (0.5 + 0.5 * random.unit())
        });
        Self {
            positions: positions(held.layout, count, world, config.seed),
            amounts: amounts.collect(),
            amount_max: held.amount_max,
            regeneration: held.regeneration,
            regeneration_chance: held.regeneration_chance,
        }
    }

    /// Returns the number of resources.
    #[must_use]
    pub fn len(&self) -> usize {
        self.positions.len()
    }

    /// Returns whether there are no resources.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.positions.is_empty()
    }

    /// Returns the entries for a spatial index.
    #[must_use]
    pub fn entries(&self) -> Vec<Entry> {
        self.positions.iter().enumerate().map(|(id, &at)| Entry { id: id as u32, at }).collect()
    }

    /// Takes up to `wanted` from a resource and returns the amount taken.
    pub fn take(&mut self, id: u32, wanted: f32) -> f32 {
        let held = &mut self.amounts[id as usize];
        let taken = held.min(wanted);
        *held -= taken;
        taken
    }

    /// Lets each resource regenerate at random. Calls `changed` with the position and the amounts before and after.
    pub fn regenerate(&mut self, seed: u64, step: u64, mut changed: impl FnMut(Point, f32, f32)) {
        for (id, amount) in self.amounts.iter_mut().enumerate() {
            if *amount >= self.amount_max {
                continue;
            }
            let mut random = Random::keyed(seed, Domain::Regeneration, id as u64, step);
            if random.chance(self.regeneration_chance) {
                let before = *amount;
                *amount = (before + self.regeneration).min(self.amount_max);
                changed(self.positions[id], before, *amount);
            }
        }
    }
}

/// Returns the subject that keys the random numbers of a resource. It differs from the subjects of agents.
fn subject(id: u32) -> u64 {
    u64::from(id) | 1 << 40
}

fn positions(layout: Layout, count: u32, world: Area, seed: u64) -> Vec<Point> {
    (0..count)
        .map(|id| match layout {
            Layout::Uniform => uniform(subject(id), world, seed),
            Layout::Grid => on_grid(id, count, world),
            Layout::Clustered => near_centre(id, world, seed),
        })
        .collect()
}

/// Returns a uniformly distributed position.
pub(crate) fn uniform(subject: u64, world: Area, seed: u64) -> Point {
    let mut random = Random::keyed(seed, Domain::Placement, subject, 0);
    Point::new(random.unit() * world.width(), random.unit() * world.height())
}

/// Returns the centre of a cell in a grid of nearly square cells.
fn on_grid(id: u32, count: u32, world: Area) -> Point {
    let aspect = world.width() / world.height();
    let columns = ((count as f32 * aspect).sqrt().ceil() as u32).clamp(1, count);
    let rows = count.div_ceil(columns);
    Point::new(
        (id % columns) as f32 / columns as f32 * world.width()
            + world.width() * 0.5 / columns as f32,
        (id / columns) as f32 / rows as f32 * world.height() + world.height() * 0.5 / rows as f32,
    )
}

/// Returns a position near the centre of a cluster of ten resources. The distribution is triangular and extends over a tenth of the
/// world to each side.
fn near_centre(id: u32, world: Area, seed: u64) -> Point {
    let centre = uniform(subject(id / 10) | 1 << 41, world, seed);
    let mut random = Random::keyed(seed, Domain::Placement, subject(id), 2);
    let mut offset = |extent: f32| (random.unit() + random.unit() - 1.0) * extent * 0.1;
    Point::new(
        (centre.x + offset(world.width())).clamp(0.0, world.width()),
        (centre.y + offset(world.height())).clamp(0.0, world.height()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placed(layout: Layout) -> Resources {
        let mut config = Config::default();
        config.resources.layout = layout;
        config.resources.count = 200;
        Resources::new(&config, Area::world(config.width, config.height))
    }

    #[test]
    fn layouts_differ_and_stay_inside_the_world() {
        let world = Area::world(100.0, 100.0);
        let all: Vec<Resources> = Layout::ALL.iter().map(|&layout| placed(layout)).collect();
        for resources in &all {
            assert!(resources.positions.iter().all(|&at| world.contains(at)));
            assert!(resources.amounts.iter().all(|&a| (15.0..=30.0).contains(&a)));
        }
        assert_ne!(all[0].positions, all[1].positions);
        assert_ne!(all[0].positions, all[2].positions);
    }

    #[test]
    fn clustered_resources_are_closer_together_than_uniform_ones() {
        let spread = |layout| {
            let resources = placed(layout);
            let nearest = resources.positions.iter().enumerate().map(|(id, &at)| {
                let others = resources.positions.iter().enumerate();
                let distances =
                    others.filter(|other| other.0 != id).map(|other| other.1.squared_distance(at));
                distances.fold(f32::INFINITY, f32::min).sqrt()
            });
            nearest.sum::<f32>()
        };
        assert!(spread(Layout::Clustered) < spread(Layout::Uniform));
        assert!(spread(Layout::Uniform) < spread(Layout::Grid));
    }

    #[test]
    fn a_depleted_resource_stays_and_regenerates() {
        let mut resources = placed(Layout::Uniform);
        let initial = resources.amounts[3];
        assert_eq!(resources.take(3, 100.0), initial);
        assert_eq!(resources.take(3, 1.0), 0.0);
        assert_eq!(resources.len(), 200);
        let mut regained = 0.0;
        let position = resources.positions[3];
        for step in 0..200 {
            resources.regenerate(1, step, |at, before, after| {
                if at == position {
                    regained += after - before;
                }
            });
        }
        assert_eq!(regained, resources.amounts[3]);
        assert!(regained > 0.0);
    }
}
