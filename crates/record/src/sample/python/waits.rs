//! What threads waited for, as samples of waiting time.

use std::collections::HashMap;

use simprof_model::{FrameId, ProfileBuilder, WaitCause, WaitSample};
use simprof_preload::format::Cause;

use super::mixed::Mixed;
use super::plumbing::Role;
use super::{Told, ToldWait};
use crate::sample::observer::RawThread;

/// Adds the waits that were told.
pub fn add(
    told: &Told,
    threads: &[RawThread],
    mixed: &mut Mixed<'_>,
    builder: &mut ProfileBuilder,
) {
    let names: HashMap<(u32, u32), &str> =
        threads.iter().map(|thread| ((thread.pid, thread.tid), thread.name.as_str())).collect();
    for wait in &told.waits {
        let Some(cause) = cause(wait.cause) else { continue };
        let stack = frames(wait, mixed, builder);
        let stack = builder.stack(stack);
        let (pid, tid) = (wait.stack.pid, wait.stack.tid);
        let thread = builder.thread(pid, tid, names.get(&(pid, tid)).copied().unwrap_or_default());
        let (time_ns, weight_ns) = (wait.stack.time_ns, wait.weight_ns);
        builder.wait(WaitSample { time_ns, thread, stack, weight_ns, cause });
    }
}

/// The Python frames, and the native function that called the one which waits, where it is not of the interpreter.
fn frames(wait: &ToldWait, mixed: &mut Mixed<'_>, builder: &mut ProfileBuilder) -> Vec<FrameId> {
    let mut frames = mixed.python_alone((wait.stack.node, wait.stack.flags), builder);
    let caller = wait.caller.map(|caller| mixed.expanded(caller)).unwrap_or_default();
    let outside = caller
        .last()
        .is_some_and(|outermost| outermost.role == Role::Work && !outermost.in_interpreter);
    if outside {
        frames.extend(caller.iter().rev().map(|expanded| expanded.frame));
    }
    frames
}

fn cause(number: u32) -> Option<WaitCause> {
    let known = [
        (Cause::Interpreter, WaitCause::Interpreter),
        (Cause::Synchronisation, WaitCause::Synchronisation),
        (Cause::Sleep, WaitCause::Sleep),
        (Cause::Events, WaitCause::Events),
        (Cause::Io, WaitCause::Io),
        (Cause::Child, WaitCause::Child),
    ];
    known.into_iter().find(|(told, _)| *told as u32 == number).map(|(_, cause)| cause)
}
