//! One module for each command.

pub mod analyze;
pub mod component;
pub mod doctor;
pub mod init;
pub mod into;
pub mod run;
mod run_end;
pub mod simulate;
pub mod status;
