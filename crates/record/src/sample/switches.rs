//! The events that report when threads get and leave a CPU, and the stacks of threads that leave one.

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use simprof_model::{Notice, NoticeId};

use super::Sampling;
use super::drain::Source;
use super::event::{self, Event};
use super::python::Output;
use super::raw_stacks::RawStackId;
use super::ring::{Ring, page_size};
use super::scheduling::{Leaving, Scheduling};

/// Buffer for stacks of threads that leave a CPU, bytes per CPU. If they leave faster than the buffer is read, stacks are dropped: this
/// limits the cost.
const STACK_BYTES: usize = 1 << 20;
/// Largest total size of these buffers, bytes.
const TOTAL_BYTES: usize = 64 << 20;
/// Largest rate of sampled departures per thread and CPU. A sample costs about as much as the switch itself, so a thread that switches
/// all the time is not sampled each time.
const RATE_HZ: u32 = 10_000;
/// Bytes of user stack copied per departure, at most: enough for most functions that wait.
const COPIED_BYTES: u32 = 8192;

/// Events on the switches of a target, one of each kind per CPU.
#[derive(Debug)]
pub(super) struct SwitchEvents {
    /// The events whose records of switches go to the buffers of the samples. They end when these are closed.
    pub records: Vec<OwnedFd>,
    /// The events that sample departures, with their buffers.
    pub departures: Vec<Source>,
    /// Their ids.
    pub ids: Vec<u64>,
    /// What is missing.
    pub notice: Option<Notice>,
}

impl SwitchEvents {
    /// Opens the events on process `pid`, as far as the system allows. `outputs` are the buffers of the samples.
    pub fn open(pid: u32, event: Event, sampling: &Sampling, outputs: &[Output]) -> Self {
        let mut opened =
            Self { records: Vec::new(), departures: Vec::new(), ids: Vec::new(), notice: None };
        match records(pid, event, outputs) {
            Ok(records) => opened.records = records,
            Err(error) => {
                opened.notice = Some(states_unknown(&error));
                return opened;
            }
        }
        if !event.kernel {
            opened.notice = Some(not_located(
                "that needs kernel.perf_event_paranoid of 1 or less, or CAP_PERFMON",
            ));
            return opened;
        }
        match departures(pid, event, sampling, outputs) {
            Ok((departures, ids)) => (opened.departures, opened.ids) = (departures, ids),
            Err(error) => opened.notice = Some(not_located(&error.to_string())),
        }
        opened
    }
}

fn records(pid: u32, event: Event, outputs: &[Output]) -> io::Result<Vec<OwnedFd>> {
    let attr = event.switch_attr();
    let open = |output: &Output| {
        let event = event::open(&attr, pid, output.cpu)?;
        event::redirect(&event, output.fd)?;
        Ok(event)
    };
    outputs.iter().map(open).collect()
}

fn departures(
    pid: u32,
    event: Event,
    sampling: &Sampling,
    outputs: &[Output],
) -> io::Result<(Vec<Source>, Vec<u64>)> {
    let attr = event.departure_attr(rate_hz(), sampling.stack_bytes.min(COPIED_BYTES));
    let share = (TOTAL_BYTES / outputs.len().max(1)).max(page_size());
    let bytes = STACK_BYTES.min(1 << share.ilog2());
    let open = |output: &Output| {
        let fd = event::open(&attr, pid, output.cpu)?;
        let id = event::id(&fd)?;
        let ring = Ring::map(fd.as_fd(), bytes, event::layout(&attr))?;
        Ok((Source { fd, cpu: output.cpu, ring, lifecycle: false }, id))
    };
    outputs.iter().map(open).collect()
}

/// Returns the rate of sampled departures per thread and CPU, as far as the system allows.
fn rate_hz() -> u32 {
    let text = std::fs::read_to_string("/proc/sys/kernel/perf_event_max_sample_rate");
    let max = text.ok().and_then(|text| text.trim().parse().ok());
    max.unwrap_or(RATE_HZ).min(RATE_HZ)
}

fn states_unknown(error: &io::Error) -> Notice {
    let text = format!(
        "The kernel did not allow to record when threads get and leave a CPU ({error}). So it is unknown whether threads that were not \
         on a CPU waited or were ready to run."
    );
    Notice::new(NoticeId::ThreadStatesUnknown, text)
}

fn not_located(reason: &str) -> Notice {
    let text = format!(
        "Where native code waits, and for what, is not recorded: {reason}. How long threads wait is recorded."
    );
    Notice::new(NoticeId::WaitsNotLocated, text)
}

/// The addresses of a sample of a thread that is about to leave its CPU, leaf first.
#[derive(Debug, Default)]
pub(super) struct Departure {
    pub user: Vec<u64>,
    pub kernel: Vec<u64>,
}

/// What the records of switches show.
#[derive(Debug, Default)]
pub(super) struct Switches {
    pub scheduling: Scheduling,
    /// Ids of the events that sample departures.
    pub events: HashSet<u64>,
    /// Samples whose thread has not left its CPU yet, by thread.
    departures: HashMap<u32, Departure>,
    chains: Vec<Vec<u64>>,
    chain_ids: HashMap<Vec<u64>, u32>,
}

impl Switches {
    /// Remembers the sample of a thread until it leaves its CPU.
    pub fn departs(&mut self, thread: u32, departure: Departure) {
        self.departures.insert(thread, departure);
    }

    /// Returns the sample of a thread that leaves its CPU.
    pub fn take_departure(&mut self, thread: u32) -> Option<Departure> {
        self.departures.remove(&thread)
    }

    /// Interns the kernel frames of a sample whose user frames are `stack`.
    pub fn leaving(&mut self, stack: Option<RawStackId>, departure: Departure) -> Leaving {
        let chains = &mut self.chains;
        let kernel = *self.chain_ids.entry(departure.kernel).or_insert_with_key(|chain| {
            chains.push(chain.clone());
            u32::try_from(chains.len() - 1).expect("fewer than 2^32 chains")
        });
        Leaving { stack, kernel }
    }

    /// Returns the states of threads, and the distinct chains of kernel frames, leaf first.
    pub fn finish(self) -> (Scheduling, Vec<Vec<u64>>) {
        (self.scheduling, self.chains)
    }
}
