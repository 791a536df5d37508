//! Whole recordings of programs whose answer is known.

mod end;
mod heap;
mod marks;
mod nothing_left;
mod output;
mod resources;
