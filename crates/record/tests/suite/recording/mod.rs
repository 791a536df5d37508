//! Complete recordings of programs whose results are known.

mod end;
mod heap;
mod input;
mod marks;
mod nothing_left;
mod output;
mod resources;
