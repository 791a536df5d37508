//! The waits that the library records in real programs.

mod memory;
mod program;

mod causes;
mod results;
mod script;
