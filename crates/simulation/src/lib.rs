//! The agent-based reference simulation.
//!
//! Agents of three types move in a rectangle, gather, share, attack, reproduce and die. The [`Config`] determines a run. The
//! same configuration gives the same final state on every machine. Neither the kind of spatial index nor the settings of the
//! database change it.
//!
//! ```
//! use simprof_simulation::{Config, Simulation};
//!
//! let config = Config { steps: 20, ..Config::default() };
//! let mut simulation = Simulation::new(&config)?;
//! simulation.run(|_event| {})?;
//! let summary = simulation.finish()?;
//! assert_eq!(summary.steps, 20);
//! # Ok::<(), simprof_simulation::Error>(())
//! ```

pub mod action;
pub mod agent;
pub mod config;
pub mod counters;
pub mod database;
pub mod digest;
pub mod error;
pub mod geometry;
mod kinds;
pub mod observation;
pub mod policy;
pub mod random;
pub mod resource;
pub mod simulation;
pub mod spatial;
pub mod world;

pub use config::{
    Config, DatabaseConfig, Layout, ObservationConfig, Preset, ResourceConfig, Rules,
};
pub use counters::Counters;
pub use error::Error;
pub use simulation::{Simulation, StepEvent, StepReport, Summary};
