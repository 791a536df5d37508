//! Opens events on the processes that ask for them, and closes them again.

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

/// The event of a CPU whose buffer the samples of all events go to.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    pub cpu: u32,
    pub fd: RawFd,
}

/// Arms processes, and keeps their events.
pub struct Armer {
    loadable: Arc<Injection>,
    outputs: Vec<Output>,
    /// Raise the signal with each sample.
    signalling: perf_event_attr,
    /// Sample what the launched process starts, from its exec on.
    ordinary: perf_event_attr,
    /// The process that was launched, on which the ordinary events were opened.
    launched: u32,
    armed: HashMap<u32, Armed>,
    /// Ordinary events that wait for the next exec; the first ones own the buffers and are kept elsewhere.
    successors: Vec<OwnedFd>,
    refused: HashMap<u32, u32>,
}

/// A process that is sampled with signals.
struct Armed {
    since_ns: u64,
    /// Closing an event ends what was inherited from it.
    _events: Vec<OwnedFd>,
}

impl Armer {
    /// `launched` is the process on which `event` was opened for all `outputs`.
    pub fn new(
        loadable: Arc<Injection>,
        launched: u32,
        outputs: Vec<Output>,
        event: Event,
        sampling: &Sampling,
    ) -> Self {
        let Sampling { rate_hz, stack_bytes, .. } = *sampling;
        Self {
            loadable,
            outputs,
            signalling: event.signalling_attr(rate_hz, stack_bytes),
            ordinary: event.sampling_attr(rate_hz, stack_bytes),
            launched,
            armed: HashMap::new(),
            successors: Vec::new(),
            refused: HashMap::new(),
        }
    }

    /// Answers all who ask.
    pub fn serve(&mut self, observer: &mut Observer) {
        let loadable = Arc::clone(&self.loadable);
        for place in loadable.take_requests() {
            if let Some(process) = loadable.memory.process(place) {
                self.answer(place, process, observer);
            }
        }
    }

    /// Places that were refused, each with the error: a process that replaces its image leaves no trace of it in its place.
    pub fn refused(&self) -> &HashMap<u32, u32> {
        &self.refused
    }

    /// Closes the events of processes that have ended, or run another program since the given time.
    pub fn release(&mut self, ended: impl IntoIterator<Item = (u32, u64)>) {
        for (pid, time_ns) in ended {
            if self.armed.get(&pid).is_some_and(|armed| armed.since_ns <= time_ns) {
                self.armed.remove(&pid);
            }
        }
    }

    fn answer(&mut self, place: u32, process: &Process, observer: &mut Observer) {
        // One that gave up waiting has its signal handler nevertheless: late is better than not at all.
        if !change(process, state::ASKS, state::OPENING)
            && !change(process, state::UNSAMPLED, state::OPENING)
        {
            return;
        }
        let pid = process.pid.load(Ordering::Relaxed);
        if let Err(error) = self.arm(pid, process, observer) {
            let errno = error.raw_os_error().unwrap_or(0).unsigned_abs();
            self.refused.insert(place, errno);
            process.reason.store(errno, Ordering::Relaxed);
            change(process, state::OPENING, state::REFUSED);
        }
        wake(&process.state);
    }

    fn arm(&mut self, pid: u32, process: &Process, observer: &mut Observer) -> io::Result<()> {
        // The number may be of another namespace; the signal would kill a process that does not expect it.
        if !has_memory(pid, self.loadable.memory.inode()) {
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
        let mut events = Vec::new();
        for tid in threads(pid)? {
            events.extend(open(&self.signalling, tid, &self.outputs)?);
        }
        for event in &events {
            observer.python_event(event::id(event)?);
        }
        // Nothing is enabled before this: one that began to run another program meanwhile would die of the first sample.
        if !change(process, state::OPENING, state::SAMPLED) {
            return Ok(());
        }
        let since_ns = clock::now_ns();
        if pid == self.launched && observer.is_alone(pid) {
            // Where it fails, both events run, and the samples of one of them are dropped.
            let _ = self.succeed();
        }
        events.iter().try_for_each(event::enable)?;
        observer.arm(pid, since_ns);
        self.armed.insert(pid, Armed { since_ns, _events: events });
        Ok(())
    }

    /// Stops the ordinary events, of which the launched process needs none any more; new ones wait for what it starts.
    fn succeed(&mut self) -> io::Result<()> {
        self.successors = open(&self.ordinary, self.launched, &self.outputs)?;
        self.outputs.iter().try_for_each(|output| event::disable(output.fd))
    }
}

fn change(process: &Process, from: u32, to: u32) -> bool {
    process.state.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed).is_ok()
}

/// Opens an event on a thread for each CPU, each writing to the buffer of that CPU.
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

/// The threads that a process has: an event on one of them is inherited by those that it starts, and by no other.
fn threads(pid: u32) -> io::Result<Vec<u32>> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/task"))
        .map_err(|_| io::Error::from_raw_os_error(libc::ESRCH))?;
    Ok(entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect())
}

/// Whether a process maps the file of that number: whether it is really the one that asks.
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
    fn only_who_maps_the_memory_is_armed() {
        let loadable = Injection::create(&Preload::python(), None).expect("memory");
        let inode = loadable.memory.inode();
        assert!(has_memory(std::process::id(), inode));
        assert!(!has_memory(std::process::id(), inode + 1));
        assert!(!has_memory(1 << 30, inode));
    }

    #[test]
    fn the_own_threads_are_found() {
        assert!(threads(std::process::id()).expect("this process").contains(&std::process::id()));
        let error = threads(1 << 30).expect_err("no such process");
        assert_eq!(error.raw_os_error(), Some(libc::ESRCH));
    }
}
