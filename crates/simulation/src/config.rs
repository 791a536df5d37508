//! The parameters of a run, with defaults, presets and validation.

use std::path::PathBuf;
use std::time::Duration;

use crate::action::ActionKind;
use crate::database::PragmaProfile;
use crate::error::Error;
use crate::kinds::kinds;
use crate::observation::{ChannelSet, ResourceSource, Spread, StorageKind};
use crate::policy::PolicyKind;
use crate::spatial::{FlushPolicy, IndexKind};

kinds! {
    /// A named size of run.
    Preset, "preset" {
        /// World 25 x 25, 10 agents.
        Testing = "testing",
        /// World 50 x 50, 20 agents.
        Development = "development",
        /// World 75 x 75, 30 agents.
        Benchmark = "benchmark",
        /// World 100 x 100, 30 agents; the default.
        Simulation = "simulation",
        /// World 150 x 150, 60 agents.
        Research = "research",
        /// World 200 x 200, 120 agents.
        Production = "production",
    }
}

kinds! {
    /// The initial positions of resources.
    Layout, "resource layout" {
        /// Uniformly distributed.
        Uniform = "uniform",
        /// On a regular grid.
        Grid = "grid",
        /// In clusters of ten.
        Clustered = "clustered",
    }
}

/// The parameters of a run. They determine it completely.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Number of initial agents. The three types have equal shares, to within one agent.
    pub agents: u32,
    /// Number of steps.
    pub steps: u64,
    /// Width of the world in world units, 1 to 100,000.
    pub width: f32,
    /// Height of the world in world units, 1 to 100,000.
    pub height: f32,
    /// Seed of all random numbers.
    pub seed: u64,
    /// Number of living agents at which reproduction stops. If `None`, it is the number of initial agents, but at least 300.
    pub population_cap: Option<u32>,
    /// How agents choose actions.
    pub policy: PolicyKind,
    /// Whether agents observe. The greedy policy requires it.
    pub observe: bool,
    /// Kind of the index of agents.
    pub agent_index: IndexKind,
    /// Kind of the index of resources.
    pub resource_index: IndexKind,
    /// Cell size of spatial hashes in world units. If `None`, it follows from the area and the number of entries.
    pub cell_size: Option<f32>,
    /// When queued changes are applied to the index of agents.
    pub flush: FlushPolicy,
    /// Parameters of resources.
    pub resources: ResourceConfig,
    /// Parameters of observations.
    pub observation: ObservationConfig,
    /// Parameters of a turn.
    pub rules: Rules,
    /// Parameters of the database. If `None`, the run is not logged.
    pub database: Option<DatabaseConfig>,
}

/// Number and growth of resources.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ResourceConfig {
    /// Number of resources. Ignored if `density` is given.
    pub count: u32,
    /// Resources per square world unit. It overrides `count`.
    pub density: Option<f32>,
    /// Initial positions.
    pub layout: Layout,
    /// Largest amount of a resource. Initial amounts are between half of it and this amount.
    pub amount_max: f32,
    /// Amount that a resource gains when it regenerates.
    pub regeneration: f32,
    /// Probability per step that a resource regenerates, 0 to 1.
    pub regeneration_chance: f32,
}

/// Parameters of observations.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ObservationConfig {
    /// Radius R of the window in cells, 1 to 64. The window is a square of 2R + 1 cells per side.
    pub radius: u32,
    /// Radius of the visibility disk in cells. Values above `radius` count as `radius`.
    pub field_of_view: u32,
    /// How remembered planes are stored.
    pub storage: StorageKind,
    /// How a resource spreads over cells.
    pub spread: Spread,
    /// Where observations read resources from.
    pub source: ResourceSource,
    /// The channels to produce. The others are 0.
    pub channels: ChannelSet,
}

/// Parameters of a turn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rules {
    /// Resource level of initial agents.
    pub start_resource: f32,
    /// Health of agents at birth. It is also the maximum.
    pub start_health: f32,
    /// Resource that each turn consumes.
    pub consumption: f32,
    /// Number of consecutive turns without resource after which an agent dies.
    pub starvation_limit: u32,
    /// Distance of a move in world units, 0.001 to 8.
    pub move_distance: f32,
    /// Range of gathering in world units.
    pub gather_range: f32,
    /// Largest amount gathered per turn, before the multiplier of the type.
    pub gather_amount: f32,
    /// Range of sharing in world units.
    pub share_range: f32,
    /// Amount shared.
    pub share_amount: f32,
    /// Smallest resource level that an agent keeps when it shares.
    pub share_reserve: f32,
    /// Range of an attack in world units.
    pub attack_range: f32,
    /// Damage by an attacker in full health.
    pub attack_strength: f32,
    /// Resource level needed to reproduce.
    pub reproduction_minimum: f32,
    /// Probability that an attempt to reproduce succeeds.
    pub reproduction_chance: f32,
    /// Resource that a child costs its parent.
    pub reproduction_cost: f32,
    /// Resource level of a newborn child.
    pub child_resource: f32,
    /// Duration of a defence in turns.
    pub defence_turns: u32,
    /// Health gained by defending.
    pub defence_heal: f32,
    /// Base weight of each action, in the order of [`ActionKind::ALL`]. The weights of the type are added.
    pub weights: [f32; ActionKind::COUNT],
    /// Parameters of the types, in the order of [`crate::agent::AgentType::ALL`].
    pub types: [TypeParameters; 3],
}

/// Parameters of an agent type.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TypeParameters {
    /// Factor of the gathered amount.
    pub gather_multiplier: f32,
    /// Added to the base weight of sharing.
    pub share_weight: f32,
    /// Added to the base weight of attacking.
    pub attack_weight: f32,
}

/// Parameters of the database.
#[derive(Debug, Clone, PartialEq)]
pub struct DatabaseConfig {
    /// The file to create. It must not exist.
    pub path: PathBuf,
    /// Settings of SQLite.
    pub profile: PragmaProfile,
    /// Number of rows kept in memory before they are passed to SQLite, at least 1.
    pub buffer_size: usize,
    /// Rows per INSERT statement, 1 to 500.
    pub batch_rows: usize,
    /// Largest time between commits. It is checked only at the end of each step.
    pub flush_interval: Option<Duration>,
    /// Number of steps between commits. If 0, only the buffer and the interval cause commits.
    pub flush_every_steps: u64,
    /// Whether a separate thread writes to SQLite.
    pub writer_thread: bool,
    /// Whether to write to memory and copy the database to disk at the end.
    pub in_memory: bool,
}

impl DatabaseConfig {
    /// Returns the default parameters for a file.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            profile: PragmaProfile::Balanced,
            buffer_size: 10_000,
            batch_rows: 50,
            flush_interval: None,
            flush_every_steps: 100,
            writer_thread: false,
            in_memory: false,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            agents: 30,
            steps: 500,
            width: 100.0,
            height: 100.0,
            seed: 42,
            population_cap: None,
            policy: PolicyKind::Weighted,
            observe: true,
            agent_index: IndexKind::KdTree,
            resource_index: IndexKind::KdTree,
            cell_size: None,
            flush: FlushPolicy::default(),
            resources: ResourceConfig::default(),
            observation: ObservationConfig::default(),
            rules: Rules::default(),
            database: None,
        }
    }
}

impl Default for ResourceConfig {
    fn default() -> Self {
        Self {
            count: 20,
            density: None,
            layout: Layout::Uniform,
            amount_max: 30.0,
            regeneration: 2.0,
            regeneration_chance: 0.1,
        }
    }
}

impl Default for ObservationConfig {
    fn default() -> Self {
        Self {
            radius: 6,
            field_of_view: 6,
            storage: StorageKind::Dense,
            spread: Spread::Bilinear,
            source: ResourceSource::Spatial,
            channels: ChannelSet::all(),
        }
    }
}

impl Default for Rules {
    fn default() -> Self {
        let parameters = |gather_multiplier, share_weight, attack_weight| TypeParameters {
            gather_multiplier,
            share_weight,
            attack_weight,
        };
        Self {
            start_resource: 5.0,
            start_health: 100.0,
            consumption: 0.15,
            starvation_limit: 100,
            move_distance: 1.0,
            gather_range: 30.0,
            gather_amount: 10.0,
            share_range: 30.0,
            share_amount: 2.0,
            share_reserve: 5.0,
            attack_range: 20.0,
            attack_strength: 10.0,
            reproduction_minimum: 13.0,
            reproduction_chance: 0.5,
            reproduction_cost: 3.0,
            child_resource: 5.0,
            defence_turns: 3,
            defence_heal: 1.0,
            weights: [0.4, 0.3, 0.2, 0.1, 0.15, 0.25, 0.05],
            types: [
                parameters(0.4, 0.3, 0.05),
                parameters(0.7, 0.05, 0.25),
                parameters(0.55, 0.15, 0.15),
            ],
        }
    }
}

/// Largest number of agents. More are rejected, because a machine would hardly have enough memory for them.
const MOST_AGENTS: u32 = 10_000_000;

impl Config {
    /// Returns the parameters of a preset.
    #[must_use]
    pub fn preset(preset: Preset) -> Self {
        let (side, agents) = match preset {
            Preset::Testing => (25.0, 10),
            Preset::Development => (50.0, 20),
            Preset::Benchmark => (75.0, 30),
            Preset::Simulation => (100.0, 30),
            Preset::Research => (150.0, 60),
            Preset::Production => (200.0, 120),
        };
        Self { width: side, height: side, agents, ..Self::default() }
    }

    /// Returns the number of living agents at which reproduction stops.
    #[must_use]
    pub fn cap(&self) -> u32 {
        self.population_cap.unwrap_or(self.agents.max(300))
    }

    /// Returns the number of resources.
    #[must_use]
    pub fn resource_count(&self) -> u32 {
        self.resources.density.map_or(self.resources.count, |density| {
            (f64::from(density) * f64::from(self.width) * f64::from(self.height)).round() as u32
        })
    }

    /// Checks all parameters.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Config`] for the first parameter that is out of range.
    pub fn validate(&self) -> Result<(), Error> {
        self.validate_world()?;
        self.validate_resources()?;
        self.validate_observation()?;
        self.rules.validate()?;
        self.database.as_ref().map_or(Ok(()), DatabaseConfig::validate)
    }

    fn validate_world(&self) -> Result<(), Error> {
        within("width", self.width, 1.0, 100_000.0)?;
        within("height", self.height, 1.0, 100_000.0)?;
        at_least("flush.batch_size", self.flush.batch_size as u64, 1)?;
        within("flush.region_size", self.flush.region_size, 0.01, f32::MAX)?;
        if let Some(size) = self.cell_size {
            within("cell_size", size, 0.01, f32::MAX)?;
        }
        if self.agents.max(self.cap()) > MOST_AGENTS {
            let reason = format!("more than {MOST_AGENTS} agents");
            return Err(Error::config("agents", reason));
        }
        if self.agents > self.cap() {
            let reason =
                format!("{} agents at the start exceed the cap of {}", self.agents, self.cap());
            return Err(Error::config("population_cap", reason));
        }
        if self.policy == PolicyKind::Greedy && !self.observe {
            let reason = "the greedy policy needs observations; turn them on";
            return Err(Error::config("observe", reason));
        }
        Ok(())
    }

    fn validate_resources(&self) -> Result<(), Error> {
        let held = &self.resources;
        if let Some(density) = held.density {
            within("resources.density", density, 0.0, 1000.0)?;
        }
        within("resources.amount_max", held.amount_max, 0.01, 1e6)?;
        within("resources.regeneration", held.regeneration, 0.0, 1e6)?;
        within("resources.regeneration_chance", held.regeneration_chance, 0.0, 1.0)
    }

    fn validate_observation(&self) -> Result<(), Error> {
        let radius = self.observation.radius;
        if !(1..=64).contains(&radius) {
            let reason = format!("{radius} is not between 1 and 64");
            return Err(Error::config("observation.radius", reason));
        }
        Ok(())
    }
}

impl Rules {
    fn validate(&self) -> Result<(), Error> {
        within("rules.move_distance", self.move_distance, 0.001, 8.0)?;
        within("rules.start_health", self.start_health, 0.001, 1e6)?;
        within("rules.reproduction_chance", self.reproduction_chance, 0.0, 1.0)?;
        let amounts = [
            ("rules.start_resource", self.start_resource),
            ("rules.consumption", self.consumption),
            ("rules.gather_range", self.gather_range),
            ("rules.gather_amount", self.gather_amount),
            ("rules.share_range", self.share_range),
            ("rules.share_amount", self.share_amount),
            ("rules.share_reserve", self.share_reserve),
            ("rules.attack_range", self.attack_range),
            ("rules.attack_strength", self.attack_strength),
            ("rules.reproduction_minimum", self.reproduction_minimum),
            ("rules.reproduction_cost", self.reproduction_cost),
            ("rules.child_resource", self.child_resource),
            ("rules.defence_heal", self.defence_heal),
        ];
        for (field, value) in amounts {
            within(field, value, 0.0, 1e6)?;
        }
        for kind in self.types {
            within("rules.types.gather_multiplier", kind.gather_multiplier, 0.0, 1e6)?;
            within("rules.types.share_weight", kind.share_weight, 0.0, 1e6)?;
            within("rules.types.attack_weight", kind.attack_weight, 0.0, 1e6)?;
        }
        for weight in self.weights {
            within("rules.weights", weight, 0.0, 1e6)?;
        }
        within("rules.weights", self.weights.iter().sum(), f32::MIN_POSITIVE, 1e7)
    }
}

impl DatabaseConfig {
    /// Checks all parameters.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Config`] for the first parameter that is out of range.
    pub fn validate(&self) -> Result<(), Error> {
        at_least("database.buffer_size", self.buffer_size as u64, 1)?;
        at_least("database.batch_rows", self.batch_rows as u64, 1)?;
        if self.batch_rows > 500 {
            let reason = format!("{} is above 500", self.batch_rows);
            return Err(Error::config("database.batch_rows", reason));
        }
        if self.path.file_name().is_none() {
            return Err(Error::config("database.path", "names no file"));
        }
        Ok(())
    }
}

/// Checks that a number is within `low..=high`. NaN is an error.
fn within(field: &'static str, value: f32, low: f32, high: f32) -> Result<(), Error> {
    if (low..=high).contains(&value) {
        return Ok(());
    }
    let reason = if high == f32::MAX {
        format!("{value} is not at least {low}")
    } else {
        format!("{value} is not between {low} and {high}")
    };
    Err(Error::config(field, reason))
}

fn at_least(field: &'static str, value: u64, low: u64) -> Result<(), Error> {
    if value >= low {
        return Ok(());
    }
    Err(Error::config(field, format!("{value} is below {low}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error_of(change: impl FnOnce(&mut Config)) -> String {
        let mut config = Config::default();
        change(&mut config);
        config.validate().unwrap_err().to_string()
    }

    #[test]
    fn defaults_and_presets_are_valid() {
        assert!(Config::default().validate().is_ok());
        for &preset in Preset::ALL {
            assert!(Config::preset(preset).validate().is_ok(), "{preset}");
        }
        assert_eq!(Config::preset(Preset::Simulation), Config::default());
    }

    #[test]
    fn errors_name_the_field() {
        assert_eq!(error_of(|c| c.width = f32::NAN), "width: NaN is not between 1 and 100000");
        assert_eq!(error_of(|c| c.flush.batch_size = 0), "flush.batch_size: 0 is below 1");
        assert_eq!(
            error_of(|c| c.rules.move_distance = 9.0),
            "rules.move_distance: 9 is not between 0.001 and 8"
        );
        assert_eq!(
            error_of(|c| c.population_cap = Some(29)),
            "population_cap: 30 agents at the start exceed the cap of 29"
        );
        assert!(
            error_of(|c| {
                c.policy = PolicyKind::Greedy;
                c.observe = false;
            })
            .starts_with("observe: ")
        );
        assert!(error_of(|c| c.observation.radius = 0).starts_with("observation.radius: "));
        assert!(
            error_of(|c| {
                let mut database = DatabaseConfig::new("x.db");
                database.batch_rows = 501;
                c.database = Some(database);
            })
            .starts_with("database.batch_rows: ")
        );
    }

    #[test]
    fn density_overrides_count() {
        let mut config = Config::default();
        assert_eq!(config.resource_count(), 20);
        config.resources.density = Some(0.01);
        assert_eq!(config.resource_count(), 100);
    }
}
