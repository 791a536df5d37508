//! Tests of complete runs: which parameters change the final state, which do not, and what happens in a run.

use simprof_simulation::action::ActionKind;
use simprof_simulation::agent::AgentType;
use simprof_simulation::observation::{ResourceSource, StorageKind};
use simprof_simulation::policy::PolicyKind;
use simprof_simulation::spatial::{FlushPolicy, IndexKind};
use simprof_simulation::{Config, DatabaseConfig, Layout, Preset, Simulation, StepEvent, Summary};

/// A change of a configuration.
type Change = fn(&mut Config);

fn run(config: &Config) -> Summary {
    let mut simulation = Simulation::new(config).unwrap();
    simulation.run(|_| {}).unwrap();
    simulation.finish().unwrap()
}

fn short() -> Config {
    Config { agents: 60, steps: 100, ..Config::default() }
}

fn hash(change: impl FnOnce(&mut Config)) -> u64 {
    let mut config = short();
    change(&mut config);
    run(&config).state_hash
}

/// The final state of the default run. It is the same on every machine and changes only if the rules or their order change.
#[test]
fn the_final_state_of_the_default_run_is_unchanged() {
    let summary = run(&Config::default());
    assert_eq!(format!("{:016x}", summary.state_hash), "2bc900a1281afb3a");
}

#[test]
fn index_kinds_and_flush_settings_do_not_change_a_run() {
    for &policy in PolicyKind::ALL {
        let expected = hash(|config| {
            config.policy = policy;
            config.steps = 25;
        });
        for &agents in IndexKind::ALL {
            for &resources in IndexKind::ALL {
                let with = |flush: FlushPolicy| {
                    hash(|config| {
                        config.policy = policy;
                        config.agent_index = agents;
                        config.resource_index = resources;
                        config.steps = 25;
                        config.flush = flush;
                        config.cell_size = Some(3.0);
                    })
                };
                for batch_size in [1, 9, 1000] {
                    let flush = FlushPolicy {
                        batch_size,
                        region_size: 7.0,
                        every_steps: batch_size as u64 / 3,
                        ..FlushPolicy::default()
                    };
                    assert_eq!(with(flush), expected, "{policy} {agents} {resources}");
                }
            }
        }
    }
}

#[test]
fn storage_of_observations_does_not_change_a_greedy_run() {
    let greedy = |change: fn(&mut Config)| {
        hash(|config| {
            config.policy = PolicyKind::Greedy;
            change(config);
        })
    };
    let expected = greedy(|_| {});
    assert_eq!(greedy(|c| c.observation.storage = StorageKind::Sparse), expected);
    assert_eq!(greedy(|c| c.observation.storage = StorageKind::Hybrid), expected);
    assert_eq!(greedy(|c| c.observation.source = ResourceSource::MemoryMap), expected);
}

#[test]
fn logging_does_not_change_a_run() {
    let folder = tempfile::tempdir().unwrap();
    let expected = hash(|_| {});
    for threaded in [false, true] {
        let mut database = DatabaseConfig::new(folder.path().join(format!("{threaded}.db")));
        database.writer_thread = threaded;
        assert_eq!(hash(|config| config.database = Some(database)), expected);
    }
    assert_eq!(hash(|config| config.observe = false), expected);
}

#[test]
fn parameters_change_a_run() {
    let expected = hash(|_| {});
    let changes: [(&str, Change); 15] = [
        ("seed", |c| c.seed += 1),
        ("policy", |c| c.policy = PolicyKind::Uniform),
        ("greedy", |c| c.policy = PolicyKind::Greedy),
        ("width", |c| c.width = 60.0),
        ("steps", |c| c.steps += 1),
        ("cap", |c| c.population_cap = Some(60)),
        ("layout", |c| c.resources.layout = Layout::Clustered),
        ("density", |c| c.resources.density = Some(0.01)),
        ("regeneration", |c| c.resources.regeneration = 3.0),
        ("move distance", |c| c.rules.move_distance = 8.0),
        ("consumption", |c| c.rules.consumption = 0.3),
        ("defence", |c| c.rules.defence_turns = 0),
        ("gather multiplier", |c| {
            c.rules.types[AgentType::System as usize].gather_multiplier = 0.7;
        }),
        ("share weight", |c| {
            c.rules.types[AgentType::System as usize].share_weight = 0.05;
        }),
        ("attack weight", |c| {
            c.rules.types[AgentType::System as usize].attack_weight = 0.25;
        }),
    ];
    for (name, change) in changes {
        assert_ne!(hash(change), expected, "{name}");
    }
    let greedy = |radius| {
        hash(|config| {
            config.policy = PolicyKind::Greedy;
            config.observation.radius = radius;
        })
    };
    assert_ne!(greedy(6), greedy(2));
}

#[test]
fn every_action_succeeds_in_a_default_run() {
    for &policy in PolicyKind::ALL {
        let summary = run(&Config { policy, ..Config::default() });
        let totals = summary.totals;
        let kinds = ActionKind::ALL.iter().filter(|&&kind| {
            // Greedy agents never pass.
            policy != PolicyKind::Greedy || kind != ActionKind::Pass
        });
        for &kind in kinds {
            assert!(totals.succeeded(kind) > 0, "{policy}: {kind}");
        }
        assert!(totals.births > 0 && totals.deaths > 0, "{policy}");
        assert!(summary.living > 0, "{policy}");
        assert!(totals.queries > 0 && totals.hits > 0, "{policy}");
        assert!(totals.index_rebuilds > 100, "{policy}");
        assert!(totals.index_moves > 1000, "{policy}");
        assert_eq!(totals.observations, totals.tried.iter().sum::<u64>());
    }
}

#[test]
fn the_population_never_exceeds_the_cap() {
    let mut config = short();
    config.population_cap = Some(70);
    config.rules.reproduction_minimum = 0.0;
    config.rules.reproduction_chance = 1.0;
    config.rules.attack_strength = 0.0;
    let mut simulation = Simulation::new(&config).unwrap();
    let mut most = 0;
    simulation
        .run(|event| {
            if let StepEvent::End(report) = event {
                most = most.max(report.living);
            }
        })
        .unwrap();
    assert_eq!(most, 70);
}

#[test]
fn depleted_resources_stay_and_amounts_stay_in_range() {
    let mut config = short();
    config.resources.regeneration_chance = 0.01;
    let mut simulation = Simulation::new(&config).unwrap();
    let mut depleted = false;
    for _ in 0..config.steps {
        simulation.step().unwrap();
        let resources = &simulation.world().resources;
        assert_eq!(resources.len(), 20);
        assert!(resources.amounts.iter().all(|amount| (0.0..=30.0).contains(amount)));
        depleted |= resources.amounts.contains(&0.0);
    }
    assert!(depleted);
}

#[test]
fn agents_stay_inside_and_children_act_from_the_next_step() {
    let mut config = short();
    config.width = 20.0;
    config.height = 15.0;
    let mut simulation = Simulation::new(&config).unwrap();
    let mut living = 60;
    for _ in 0..config.steps {
        let report = simulation.step().unwrap();
        let world = simulation.world();
        assert!(world.agents.iter().all(|agent| world.area.contains(agent.at)));
        assert!(world.agents.is_sorted_by_key(|agent| agent.id));
        let counters = report.counters;
        // Only agents that were alive before the step act, and all of them act unless they die first.
        let acted: u64 = counters.tried.iter().sum();
        assert!(acted <= living && acted + counters.deaths >= living);
        living = living + counters.births - counters.deaths;
        assert_eq!(report.living, living);
    }
}

#[test]
fn a_starving_world_dies_out() {
    let mut config = short();
    config.resources.count = 0;
    config.steps = 200;
    config.rules.attack_strength = 0.0;
    config.rules.child_resource = 0.0;
    let summary = run(&config);
    assert_eq!(summary.living, 0);
    assert_eq!(summary.totals.deaths, 60 + summary.totals.births);
}

#[test]
fn each_step_has_a_begin_and_an_end_event() {
    let mut simulation = Simulation::new(&Config::preset(Preset::Testing)).unwrap();
    let mut events = Vec::new();
    simulation.run(|event| events.push(event)).unwrap();
    assert_eq!(events.len(), 1000);
    for (step, pair) in events.chunks_exact(2).enumerate() {
        assert_eq!(pair[0], StepEvent::Begin { step: step as u64 });
        assert!(matches!(pair[1], StepEvent::End(report) if report.step == step as u64));
    }
}
