//! Arms processes that request it: opens events that raise a signal with each sample, and closes them again.

use std::collections::HashMap;
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use perf_event_open_sys::bindings::perf_event_attr;
use simprof_preload::format::{Process, state};

use super::file_limit;
use crate::clock;
use crate::preload::{Injection, wake};
use crate::sample::Sampling;
use crate::sample::event::{self, Event};
use crate::sample::observer::Observer;

/// The event of a CPU to whose buffer all other events of that CPU write.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    pub cpu: u32,
    pub fd: RawFd,
}

/// Arms processes, and keeps their events open.
pub struct Armer {
    injection: Arc<Injection>,
    outputs: Vec<Output>,
    /// Attributes of events that raise the signal.
    signalling: perf_event_attr,
    /// Attributes of the events that sample all other processes, from their exec on.
    ordinary: perf_event_attr,
    /// The launched process, on which the first ordinary events were opened.
    launched: u32,
    armed: HashMap<u32, Armed>,
    /// The second set of ordinary events, which wait for the next exec. The draining thread keeps the first set open, since it
    /// owns the buffers.
    successors: Vec<OwnedFd>,
    /// Error number by slot.
    refused: HashMap<u32, u32>,
}

/// An armed process.
struct Armed {
    since_ns: u64,
    /// Closing an event also ends its inherited copies.
    _events: Vec<OwnedFd>,
}

impl Armer {
    /// Creates an armer for the target whose first process is `launched`. `event` was opened on it for all `outputs`.
    pub fn new(
        injection: Arc<Injection>,
        launched: u32,
        outputs: Vec<Output>,
        event: Event,
        sampling: &Sampling,
    ) -> Self {
        let Sampling { rate_hz, stack_bytes, .. } = *sampling;
        Self {
            injection,
            outputs,
            signalling: event.signalling_attr(rate_hz, stack_bytes),
            ordinary: event.sampling_attr(rate_hz, stack_bytes),
            launched,
            armed: HashMap::new(),
            successors: Vec::new(),
            refused: HashMap::new(),
        }
    }

    /// Answers all requests.
    pub fn answer_requests(&mut self, observer: &mut Observer) {
        let injection = Arc::clone(&self.injection);
        for slot in injection.take_requests() {
            if let Some(process) = injection.memory.process(slot) {
                self.answer(slot, process, observer);
            }
        }
    }

    /// Returns the error numbers of refused requests, by slot. They are kept here because a process that executes another
    /// program resets its slot.
    pub fn refused(&self) -> &HashMap<u32, u32> {
        &self.refused
    }

    /// Closes the events of processes that ended or executed another program, given with the times.
    pub fn release(&mut self, ended: impl IntoIterator<Item = (u32, u64)>) {
        for (pid, time_ns) in ended {
            if self.armed.get(&pid).is_some_and(|armed| armed.since_ns <= time_ns) {
                self.armed.remove(&pid);
            }
        }
    }

    fn answer(&mut self, slot: u32, process: &Process, observer: &mut Observer) {
        // A process that no longer waits for the answer still has its signal handler, so it can be armed late.
        if !change(process, state::ASKS, state::OPENING)
            && !change(process, state::UNSAMPLED, state::OPENING)
        {
            return;
        }
        let pid = process.pid.load(Ordering::Relaxed);
        if let Err(error) = self.arm(pid, process, observer) {
            let errno = error.raw_os_error().unwrap_or(0).unsigned_abs();
            self.refused.insert(slot, errno);
            process.reason.store(errno, Ordering::Relaxed);
            change(process, state::OPENING, state::REFUSED);
        }
        wake(&process.state);
    }

    fn arm(&mut self, pid: u32, process: &Process, observer: &mut Observer) -> io::Result<()> {
        // The pid may be of another namespace. The signal would kill a process without the handler.
        if !has_memory(pid, self.injection.memory.inode()) {
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
        let mut events = Vec::new();
        for tid in threads(pid)? {
            events.extend(open(&self.signalling, tid, &self.outputs)?);
        }
        for event in &events {
            observer.add_python_event(event::id(event)?);
        }
        // Events are enabled only after this check: the first sample would kill a process that executed another program since.
        if !change(process, state::OPENING, state::SAMPLED) {
            return Ok(());
        }
        let since_ns = clock::now_ns();
        if pid == self.launched && observer.is_alone(pid) {
            // If this fails, both events keep running, and the samples of the ordinary one are dropped.
            let _ = self.replace_ordinary_events();
        }
        events.iter().try_for_each(event::enable)?;
        observer.arm(pid, since_ns);
        self.armed.insert(pid, Armed { since_ns, _events: events });
        Ok(())
    }

    /// Disables the ordinary events, which the launched process no longer needs, and opens new ones that wait for the exec of
    /// its children.
    fn replace_ordinary_events(&mut self) -> io::Result<()> {
        self.successors = open(&self.ordinary, self.launched, &self.outputs)?;
        self.outputs.iter().try_for_each(|output| event::disable(output.fd))
    }
}

fn change(process: &Process, from: u32, to: u32) -> bool {
    process.state.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed).is_ok()
}

/// Opens one event per CPU on a thread. Each writes to the buffer of its CPU.
fn open(attr: &perf_event_attr, tid: u32, outputs: &[Output]) -> io::Result<Vec<OwnedFd>> {
    outputs
        .iter()
        .map(|output| {
            let event = match event::open(attr, tid, output.cpu) {
                Err(error) if error.raw_os_error() == Some(libc::EMFILE) && file_limit::raise() => {
                    event::open(attr, tid, output.cpu)?
                }
                result => result?,
            };
            event::redirect(&event, output.fd)?;
            Ok(event)
        })
        .collect()
}

/// Returns the threads of a process. Each needs its own events, since only the threads that it starts later inherit them.
fn threads(pid: u32) -> io::Result<Vec<u32>> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/task"))
        .map_err(|_| io::Error::from_raw_os_error(libc::ESRCH))?;
    Ok(entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect())
}

/// Returns whether a process maps the shared memory with this inode. This proves that it is the process that sent the request.
fn has_memory(pid: u32, inode: u64) -> bool {
    let maps = std::fs::read(format!("/proc/{pid}/maps")).unwrap_or_default();
    let number = inode.to_string();
    maps.split(|&byte| byte == b'\n').any(|line| {
        let mut fields = line.split(|&byte| byte == b' ').filter(|field| !field.is_empty());
        fields.nth(4) == Some(number.as_bytes())
            && fields.next().is_some_and(|path| path.starts_with(b"/memfd:simprof-python"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preload::Preload;

    #[test]
    fn only_processes_that_map_the_memory_are_accepted() {
        let injection = Injection::create(&Preload::python(), None).expect("memory");
        let inode = injection.memory.inode();
        assert!(has_memory(std::process::id(), inode));
        assert!(!has_memory(std::process::id(), inode + 1));
        assert!(!has_memory(1 << 30, inode));
    }

    #[test]
    fn threads_of_a_process_are_listed() {
        assert!(threads(std::process::id()).expect("this process").contains(&std::process::id()));
        let error = threads(1 << 30).expect_err("no such process");
        assert_eq!(error.raw_os_error(), Some(libc::ESRCH));
    }
}
