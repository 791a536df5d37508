//! Costs of functions, lines and components, and findings about steps, threads and memory: pure functions of the data.

mod bottlenecks;
mod charged_components;
mod components;
mod follow;
mod functions;
mod heap;
mod heavy_path;
mod lines;
mod names;
mod origin;
mod part_states;
mod patterns;
mod placeholders;
mod python;
mod run_parts;
mod select;
mod spin_loops;
mod spinning;
mod stack_kinds;
mod step_spans;
mod steps;
mod thread_time;
mod wait_places;
mod weights;

pub use bottlenecks::{Bottlenecks, bottlenecks};
pub use charged_components::ChargedComponents;
pub(crate) use components::default_component_names;
pub use components::{ComponentRules, ComponentShare, OTHER, components};
pub use follow::{FollowStep, follow_wrappers};
pub use functions::{FunctionCost, functions, sort_by_charged, sort_by_self, sort_by_total};
pub use heap::{
    Churn, GrowthPer, HeapLine, LeakSearch, LeakSuspect, TooLittleData, bytes_interval,
    charged_to_target, churn, count_interval, heap_lines, heap_lines_with_callees, leak_suspects,
    sum_interval, without_small_stacks,
};
pub use heavy_path::{HeavyCallee, heavy_callee};
pub use lines::{
    CalleeCost, FunctionLines, HotLine, LineCost, LoopCost, LoopLineCost, function_lines, hot_lines,
};
pub use origin::{Origin, origin};
pub use placeholders::UNKNOWN;
pub use python::{interpreter_functions, runs_python};
pub use run_parts::{PartCost, RunPart, RunSplit, split_run};
pub use select::FunctionSet;
pub use spin_loops::SpinKind;
pub use spinning::{SpinCaller, SpinLine, mark_spinning, spin_callers, spin_lines};
pub use step_spans::RunSteps;
pub use steps::{StepSummary, step_summary};
pub use thread_time::{
    ThreadGroup, ThreadTime, ThreadTimes, Waiting, thread_time, thread_times, waiting,
};
pub use wait_places::UnknownPlace;

pub(crate) use names::python_module;
pub(crate) use origin::{origin_of_file, origins};
pub(crate) use placeholders::{BUILT_IN, GENERATED, UNKNOWN_FILE, UNNAMED};
use python::interpreter_modules;
pub(crate) use stack_kinds::{ImportRole, import_role};
pub(crate) use weights::{Groups, by_stack, share};
