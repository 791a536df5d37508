//! One file for each thing that can be asked for.

pub mod analyze;
pub mod component;
pub mod doctor;
pub mod init;
pub mod run;
pub mod simulate;
pub mod status;
