//! Fixtures, and functions that inspect profiles.

mod blocked;
mod fixture;
mod profiles;

pub use blocked::Blocked;
pub use fixture::{Fixture, RECORD_ONE, record, symbolised, written_pids};
pub use profiles::*;
