//! Adds the recorded waits of threads to a profile.

use std::collections::HashMap;

use simprof_model::{FrameId, ProfileBuilder, WaitCause, WaitSample};
use simprof_preload::format::Cause;

use super::merged_stacks::StackMerger;
use super::{PythonTrace, PythonWait};
use crate::sample::thread_states::RunStates;
use crate::sample::trace::RawThread;

/// Adds all waits that the preload library recorded.
pub fn add(
    recorded: &PythonTrace,
    threads: &[RawThread],
    states: &RunStates,
    merger: &mut StackMerger<'_>,
    builder: &mut ProfileBuilder,
) {
    let names: HashMap<(u32, u32), &str> =
        threads.iter().map(|thread| ((thread.pid, thread.tid), thread.name.as_str())).collect();
    for wait in &recorded.waits {
        let Some(cause) = cause(wait.cause) else { continue };
        let frames = frames(wait, merger, builder);
        let stack = builder.stack(frames);
        let (pid, tid) = (wait.stack.pid, wait.stack.tid);
        let thread = builder.thread(pid, tid, names.get(&(pid, tid)).copied().unwrap_or_default());
        let time_ns = wait.stack.time_ns;
        let weight_ns = (wait.weight_ns as f64 * states.waiting_part(pid, tid)).round() as u64;
        builder.wait(WaitSample { time_ns, thread, stack, weight_ns, cause });
    }
}

/// Returns the Python frames from the root, followed by the native function that called the waiting one, unless that belongs to
/// the interpreter.
fn frames(
    wait: &PythonWait,
    merger: &mut StackMerger<'_>,
    builder: &mut ProfileBuilder,
) -> Vec<FrameId> {
    let mut frames = merger.python_only((wait.stack.node, wait.stack.flags), builder);
    if let Some(caller) = wait.caller {
        frames.extend(merger.program_frames(caller, builder));
    }
    frames
}

fn cause(number: u32) -> Option<WaitCause> {
    let causes = [
        (Cause::Interpreter, WaitCause::Interpreter),
        (Cause::Synchronisation, WaitCause::Synchronisation),
        (Cause::Sleep, WaitCause::Sleep),
        (Cause::Events, WaitCause::Events),
        (Cause::Io, WaitCause::Io),
        (Cause::Child, WaitCause::Child),
    ];
    causes.into_iter().find(|(format, _)| *format as u32 == number).map(|(_, cause)| cause)
}
