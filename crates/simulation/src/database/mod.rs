//! Logging to SQLite: rows, buffering, writing and reading.

mod connection;
mod insert;
mod log;
mod pragma;
mod read;
mod rows;
mod scene;
mod schema;
mod sink;
mod writer;

#[cfg(test)]
mod tests;

pub use log::{Log, database_log};
pub use pragma::PragmaProfile;
pub use read::{Queries, Reader};
pub use rows::{
    ActionRow, AgentRow, Batch, DeathRow, HealthCause, HealthRow, InteractionRow, ReproductionRow,
    ResourceRow, RunRow, StateRow, StepRow,
};
pub use scene::{DatabaseScene, ReadResult, read};
pub use schema::TABLES;
pub use sink::Sink;
pub use writer::Writer;
