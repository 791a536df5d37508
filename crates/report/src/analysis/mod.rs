//! Figures drawn from profiles, steps and timelines, as pure functions.

mod bottlenecks;
mod components;
mod follow;
mod functions;
mod heap;
mod lines;
mod names;
mod origin;
mod patterns;
mod python;
mod resources;
mod select;
mod steps;
mod weights;

pub use bottlenecks::{Bottlenecks, bottlenecks};
pub use components::{ComponentRules, ComponentShare, OTHER, components, default_component_names};
pub use follow::{FollowStep, follow_wrappers};
pub use functions::{
    FunctionCost, UNKNOWN, functions, sort_by_charged, sort_by_self, sort_by_total,
};
pub use heap::{
    Churn, GrowthPer, HeapLine, LeakSearch, LeakSuspect, bytes_interval, charged_to_target, churn,
    count_interval, drawn_interval, heap_lines, heap_lines_with_callees, leak_suspects,
    without_small_stacks,
};
pub use lines::{CalleeCost, FunctionLines, HotLine, LineCost, Whose, function_lines, hot_lines};
pub use origin::{Origin, origin};
pub use python::{ThreadTime, Waiting, of_interpreter, runs_python, thread_time, waiting};
pub use resources::{ResourceUse, resource_use};
pub use select::FunctionSet;
pub use steps::{
    Latency, StepSummary, WithinSteps, latency, step_summary, warm_up_steps, within_steps,
};

pub(crate) use names::python_module;
pub(crate) use origin::{origin_of_file, origins};
use python::interpreter_modules;
pub(crate) use weights::{Groups, by_stack, share};
