//! Compares observations with their definition, and the kinds of storage and of source with each other.

use super::*;
use crate::agent::{Turn, agent_act};
use crate::config::{Config, ObservationConfig};
use crate::policy::{PolicyKind, new_policy};
use crate::simulation::Simulation;
use crate::world::World;

/// A crowded world in which every channel has values.
fn crowded() -> Config {
    let mut config = Config {
        agents: 40,
        steps: 60,
        width: 30.0,
        height: 22.5,
        policy: PolicyKind::Weighted,
        ..Config::default()
    };
    config.resources.count = 60;
    config
}

/// Returns the digests of all observations of a run.
fn observation_digests(change: impl Fn(&mut ObservationConfig)) -> Vec<u64> {
    let mut config = crowded();
    change(&mut config.observation);
    let mut world = World::new(&config).unwrap();
    let mut observer = Observer::new(config.observation, &world);
    let mut policy = new_policy(config.policy);
    let mut digests = Vec::new();
    for _ in 0..config.steps {
        for slot in 0..world.agents.len() {
            if !world.agents[slot].alive {
                continue;
            }
            let mut turn =
                Turn { world: &mut world, observer: Some(&mut observer), policy: &mut *policy };
            agent_act(&mut turn, slot);
            digests.push(observer.observation().digest());
            world.turn += 1;
        }
        world.regenerate();
        world.agent_index.end_step(world.step);
        world.step += 1;
    }
    digests
}

#[test]
fn all_kinds_of_storage_give_the_same_bits() {
    for radius in [3, 6, 9] {
        let digests = |storage| {
            observation_digests(|config| {
                config.radius = radius;
                config.field_of_view = 5;
                config.storage = storage;
            })
        };
        let dense = digests(StorageKind::Dense);
        assert!(dense.len() > 1000);
        assert!(dense == digests(StorageKind::Sparse), "sparse at {radius}");
        assert!(dense == digests(StorageKind::Hybrid), "hybrid at {radius}");
    }
}

#[test]
fn the_memory_map_agrees_with_queries() {
    for &spread in Spread::ALL {
        let mut config = crowded();
        config.observation.spread = spread;
        let mut queried = Simulation::new(&config).unwrap();
        config.observation.source = ResourceSource::MemoryMap;
        let mut mapped = Simulation::new(&config).unwrap();
        for _ in 0..30 {
            queried.step().unwrap();
            mapped.step().unwrap();
            let plane = |simulation: &Simulation| {
                let observer = simulation.observer().unwrap();
                observer.observation().plane(Channel::Resources).to_vec()
            };
            let pairs = plane(&queried).into_iter().zip(plane(&mapped));
            for (query, map) in pairs {
                assert!((query - map).abs() <= 1e-6, "{spread}: {query} and {map}");
            }
        }
        assert_eq!(queried.world().state_hash(), mapped.world().state_hash());
    }
}

#[test]
fn resources_spread_bilinearly_over_visible_cells() {
    let mut config = crowded();
    config.agents = 1;
    config.population_cap = Some(1);
    config.resources.count = 200;
    let mut scene = ObservationScene::new(&config).unwrap();
    let window = Window::new(6, 6);
    let (at, positions) = {
        let world = scene.world();
        (world.agents[0].at, world.resources.positions.clone())
    };
    let levels: Vec<f64> =
        scene.world().resources.amounts.iter().map(|&amount| f64::from(amount) / 30.0).collect();
    let plane = scene.observe(0).plane(Channel::Resources).to_vec();
    let mut expected = 0.0;
    // The definition: a resource contributes to a visible cell the product of (1 - distance) along both axes.
    for (index, value) in plane.iter().enumerate() {
        let dx = (index % 13) as i32 - 6;
        let dy = (index / 13) as i32 - 6;
        let mut sum = 0.0;
        if dx * dx + dy * dy <= window.view * window.view {
            let centre_x = f64::from(at.x.floor()) + f64::from(dx) + 0.5;
            let centre_y = f64::from(at.y.floor()) + f64::from(dy) + 0.5;
            for (position, level) in positions.iter().zip(&levels) {
                let across = (1.0 - (f64::from(position.x) - centre_x).abs()).max(0.0);
                let up = (1.0 - (f64::from(position.y) - centre_y).abs()).max(0.0);
                sum += level * across * up;
            }
        }
        assert!((f64::from(*value) - sum).abs() < 1e-5, "{index}");
        expected += sum;
    }
    assert!(expected > 1.0);
}

#[test]
fn every_channel_has_values_in_some_step() {
    let mut simulation = Simulation::new(&crowded()).unwrap();
    let mut shown = [false; Channel::COUNT];
    for _ in 0..60 {
        simulation.step().unwrap();
        let observation = simulation.observer().unwrap().observation();
        for &channel in Channel::ALL {
            shown[channel as usize] |= observation.plane(channel).iter().any(|&v| v > 0.0);
        }
    }
    for &channel in Channel::ALL {
        assert!(shown[channel as usize], "{channel}");
    }
}

#[test]
fn disabled_channels_stay_empty() {
    for &channel in Channel::ALL {
        let mut config = crowded();
        config.observation.channels = ChannelSet::all().without(channel);
        let mut simulation = Simulation::new(&config).unwrap();
        for _ in 0..10 {
            simulation.step().unwrap();
            let observation = simulation.observer().unwrap().observation();
            assert!(observation.plane(channel).iter().all(|&v| v == 0.0), "{channel}");
        }
    }
}

#[test]
fn agents_are_observed_at_their_positions() {
    let mut config = crowded();
    config.agents = 60;
    let mut scene = ObservationScene::new(&config).unwrap();
    let agents = scene.world().agents.clone();
    for (slot, own) in agents.iter().enumerate() {
        let observation = scene.observe(slot);
        let mut allies = [0.0f32; 169];
        let mut enemies = [0.0f32; 169];
        for (other_slot, other) in agents.iter().enumerate() {
            let dx = other.at.x.floor() - own.at.x.floor();
            let dy = other.at.y.floor() - own.at.y.floor();
            if other_slot != slot && dx * dx + dy * dy <= 36.0 {
                let index = (dy as i32 + 6) as usize * 13 + (dx as i32 + 6) as usize;
                let plane = if other.kind == own.kind { &mut allies } else { &mut enemies };
                plane[index] = 1.0;
            }
        }
        assert_eq!(observation.plane(Channel::AllyHealth), allies, "{slot}");
        assert_eq!(observation.plane(Channel::EnemyHealth), enemies, "{slot}");
        assert_eq!(observation.plane(Channel::OwnHealth)[84], 1.0);
    }
}

#[test]
fn hybrid_storage_is_smaller_than_dense() {
    let bytes = |storage| {
        let mut config = crowded();
        config.observation.storage = storage;
        let mut simulation = Simulation::new(&config).unwrap();
        simulation.run(|_| {}).unwrap();
        simulation.observer().unwrap().memory_bytes()
    };
    assert!(bytes(StorageKind::Hybrid) < bytes(StorageKind::Dense));
}
