//! What threads wait for, as the library records it in real programs.

mod memory;
mod program;

mod causes;
mod results;
mod script;
