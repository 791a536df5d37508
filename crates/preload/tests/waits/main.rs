//! What threads wait for, as the library records it in real programs.

mod memory;
mod program;
#[path = "../support/pythons.rs"]
mod pythons;

mod causes;
mod results;
mod script;
