//! Opens the sampling events, drains them in a thread, and finishes with the samples.

use std::collections::HashMap;
use std::io::{self, PipeWriter, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use simprof_model::{Notice, NoticeId};

use super::drain::{self, Drained, Source};
use super::event::{self, Event};
use super::event_fallback::{self, CpuEvents, Opened};
use super::python::{self, Attached, Listener, Output};
use super::ring::{Ring, page_size};
use super::samples::{RunInfo, Samples};
use super::switches::SwitchEvents;
use super::trace::{RawSample, RawThread, Trace};
use super::{Refusal, SampleError, Sampling};
use crate::preload::Injection;

/// Smallest buffer for samples that is requested, bytes per CPU.
const SAMPLE_BYTES: usize = 512 << 10;
/// Seconds of samples that a buffer should hold, since busy CPUs may delay the draining thread for that long.
const BUFFERED_S: f64 = 0.2;
/// Bytes of a sample besides its stack: header, registers, kernel frames.
const SAMPLE_OVERHEAD: usize = 512;
/// Buffer for lifecycle records, bytes per CPU.
const LIFECYCLE_BYTES: usize = 64 << 10;
/// Largest total size of the buffers for samples of all CPUs, bytes.
const TOTAL_BYTES: usize = 256 << 20;

/// Samples a process, its threads and its children, from its next exec on.
#[derive(Debug)]
pub struct Sampler {
    drain: Option<DrainThread>,
    sampling: Sampling,
    event: Event,
    refusals: Vec<Refusal>,
    notices: Vec<Notice>,
    samples: Arc<AtomicU64>,
}

#[derive(Debug)]
struct DrainThread {
    stop: PipeWriter,
    thread: JoinHandle<Drained>,
}

impl Sampler {
    /// Opens events on process `pid`, which must not have called exec yet, and starts to drain them.
    ///
    /// Threads and children are sampled too. Nothing is recorded before the exec.
    ///
    /// # Errors
    ///
    /// Returns [`SampleError::Refused`] if the system refuses all events, [`SampleError::NoSuchProcess`] if the process has
    /// ended, [`SampleError::Ring`] if the system refuses memory for the buffers, and [`SampleError::OutOfRange`] if the kernel
    /// does not support the rate or the stack size.
    pub fn open(pid: u32, sampling: &Sampling) -> Result<Self, SampleError> {
        Self::open_with(pid, sampling, None)
    }

    /// As [`Sampler::open`], and records Python frames and waits with the preload library if there is one.
    pub(crate) fn open_with(
        pid: u32,
        sampling: &Sampling,
        injection: Option<&Arc<Injection>>,
    ) -> Result<Self, SampleError> {
        check(sampling)?;
        let opened = event_fallback::open_first_allowed(pid, sampling)?;
        let (event, refusals) = (opened.event, opened.refusals.clone());
        refusals.iter().for_each(|refusal| log::debug!("event not available: {refusal}"));
        log::info!("sampling process {pid} by {} at {} Hz", event.name(), sampling.rate_hz);
        let (sources, mut notices) = map_rings(opened, sampling)?;
        let outputs = outputs(&sources);
        let switches = SwitchEvents::open(pid, event, sampling, &outputs);
        notices.extend(switches.notice.clone());
        let listener = injection
            .map(|injection| Listener::new(Arc::clone(injection), pid, outputs, event, sampling));
        let samples = Arc::new(AtomicU64::new(0));
        let drain = start(sources, switches, listener, &samples)?;
        Ok(Self { drain: Some(drain), sampling: *sampling, event, refusals, notices, samples })
    }

    /// Returns the number of samples that were read from the buffers so far. It is at most 0.1 s old.
    pub fn samples_so_far(&self) -> u64 {
        self.samples.load(Ordering::Relaxed)
    }

    /// Stops sampling and returns all samples. [`symbolise`](super::symbolise) turns them into a profile.
    ///
    /// Call this after the target has ended. `target_cpu_ns` is the CPU time of the target and all its children: hardware cycles
    /// are scaled to it, and the achieved rate is computed from it.
    ///
    /// # Errors
    ///
    /// Returns [`SampleError::Thread`] if the draining thread cannot be stopped, and [`SampleError::Panicked`] if it panicked.
    pub fn finish(mut self, target_cpu_ns: u64) -> Result<Samples, SampleError> {
        let drain =
            self.drain.take().expect("only finish and drop take it, and both end the sampler");
        let drained = drain.end()?;
        let info = RunInfo {
            sampling: self.sampling,
            event: self.event,
            refusals: std::mem::take(&mut self.refusals),
            notices: std::mem::take(&mut self.notices),
            target_cpu_ns,
            recorder_cpu_ns: drained.cpu_ns,
            target_system_ns: 0,
            thread_runnable_ns: HashMap::new(),
        };
        let mut trace = drained.trace;
        attach_python(&mut trace);
        Ok(Samples { trace, info })
    }
}

/// Attaches the Python stacks to the samples.
fn attach_python(trace: &mut Trace) {
    let Some(recorded) = &trace.python else { return };
    let expects_stack = |sample: &&mut RawSample| sample.python == Attached::Lost;
    let samples: Vec<&mut RawSample> = trace.samples.iter_mut().filter(expects_stack).collect();
    let key = |sample: &&mut RawSample| {
        let RawThread { pid, tid, .. } = trace.threads[sample.thread as usize];
        let (time_ns, in_kernel) = (sample.time_ns, sample.in_kernel);
        python::SampleKey { time_ns, pid, tid, in_kernel }
    };
    let keys: Vec<_> = samples.iter().map(key).collect();
    let attached = python::attach(&keys, &recorded.stacks);
    for (sample, attached) in samples.into_iter().zip(attached) {
        sample.python = attached;
    }
}

/// Returns the buffers to which samples are written, one per CPU.
fn outputs(sources: &[Source]) -> Vec<Output> {
    let samples = sources.iter().filter(|source| !source.lifecycle);
    samples.map(|source| Output { cpu: source.cpu, fd: source.fd.as_raw_fd() }).collect()
}

impl Drop for Sampler {
    fn drop(&mut self) {
        if let Some(drain) = self.drain.take() {
            // The samples are not needed any more, so an error does not matter.
            let _ = drain.end();
        }
    }
}

impl DrainThread {
    fn end(mut self) -> Result<Drained, SampleError> {
        // Closing the pipe would not be enough, as a process that was forked meanwhile may hold a copy of it.
        self.stop
            .write_all(&[0])
            .map_err(|source| SampleError::Thread { action: "stop", source })?;
        self.thread.join().map_err(|panic| {
            let message = panic
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            SampleError::Panicked { message: message.unwrap_or_default() }
        })
    }
}

fn check(sampling: &Sampling) -> Result<(), SampleError> {
    let Sampling { rate_hz, stack_bytes, .. } = *sampling;
    if !(1..=100_000).contains(&rate_hz) {
        let range = "1 to 100,000 per second";
        return Err(SampleError::OutOfRange { what: "the sampling rate", value: rate_hz, range });
    }
    if stack_bytes % 8 != 0 || stack_bytes > 65528 {
        let range = "a multiple of 8, at most 65,528 bytes";
        let what = "the stack copied per sample";
        return Err(SampleError::OutOfRange { what, value: stack_bytes, range });
    }
    Ok(())
}

fn start(
    mut sources: Vec<Source>,
    switches: SwitchEvents,
    listener: Option<Listener>,
    samples: &Arc<AtomicU64>,
) -> Result<DrainThread, SampleError> {
    let error = |source| SampleError::Thread { action: "start", source };
    let (stopped, stop) = io::pipe().map_err(error)?;
    let samples = Arc::clone(samples);
    let SwitchEvents { records, departures, ids, .. } = switches;
    sources.extend(departures);
    let thread = std::thread::Builder::new()
        .name("simprof-drain".to_owned())
        .spawn(move || {
            let _open = records;
            drain::run(sources, &ids, listener, stopped.as_raw_fd(), &samples)
        })
        .map_err(error)?;
    Ok(DrainThread { stop, thread })
}

/// Maps the buffers of all events, as large as the system allows.
///
/// Ordinary users may lock little memory, which all CPUs share: if one buffer is refused, all are mapped again at half the size.
fn map_rings(
    opened: Opened,
    sampling: &Sampling,
) -> Result<(Vec<Source>, Vec<Notice>), SampleError> {
    let layouts = Layouts {
        samples: event::layout(&opened.event.sampling_attr(sampling.rate_hz, sampling.stack_bytes)),
        lifecycle: event::layout(&event::lifecycle_attr()),
    };
    let wanted = wanted_bytes(opened.cpus.len(), sampling);
    let least = page_size().max((sampling.stack_bytes as usize * 2).next_power_of_two());
    let mut bytes = wanted.max(least);
    loop {
        match map_all(&opened.cpus, bytes, &layouts) {
            Ok(rings) => {
                let notices =
                    if bytes < wanted { vec![reduced(wanted, bytes)] } else { Vec::new() };
                return Ok((sources(opened.cpus, rings), notices));
            }
            Err((_, source)) if is_out_of_memory(&source) && bytes / 2 >= least => bytes /= 2,
            Err((cpu, source)) => return Err(SampleError::Ring { cpu, bytes, source }),
        }
    }
}

/// The layouts of the records in the two kinds of buffers.
struct Layouts {
    samples: linux_perf_event_reader::RecordParseInfo,
    lifecycle: linux_perf_event_reader::RecordParseInfo,
}

/// The ring buffers of one CPU: samples, lifecycle.
type CpuRings = (Ring, Ring);

fn map_all(
    cpus: &[CpuEvents],
    bytes: usize,
    layouts: &Layouts,
) -> Result<Vec<CpuRings>, (u32, io::Error)> {
    cpus.iter()
        .map(|events| {
            let error = |source| (events.cpu, source);
            let lifecycle_bytes = LIFECYCLE_BYTES.min(bytes).max(page_size());
            let lifecycle = Ring::map(events.lifecycle.as_fd(), lifecycle_bytes, layouts.lifecycle)
                .map_err(error)?;
            let samples =
                Ring::map(events.samples.as_fd(), bytes, layouts.samples).map_err(error)?;
            Ok((samples, lifecycle))
        })
        .collect()
}

fn sources(cpus: Vec<CpuEvents>, rings: Vec<CpuRings>) -> Vec<Source> {
    cpus.into_iter()
        .zip(rings)
        .flat_map(|(events, (samples, lifecycle))| {
            [
                Source { fd: events.lifecycle, cpu: events.cpu, ring: lifecycle, lifecycle: true },
                Source { fd: events.samples, cpu: events.cpu, ring: samples, lifecycle: false },
            ]
        })
        .collect()
}

/// Returns the size of the buffer for samples in bytes per CPU, a power of two.
fn wanted_bytes(cpus: usize, sampling: &Sampling) -> usize {
    let sample = sampling.stack_bytes as usize + SAMPLE_OVERHEAD;
    let burst = (f64::from(sampling.rate_hz) * BUFFERED_S) as usize * sample;
    let share = TOTAL_BYTES / cpus.max(1);
    let largest = if share.is_power_of_two() { share } else { share.next_power_of_two() / 2 };
    burst.max(SAMPLE_BYTES).next_power_of_two().min(largest)
}

/// Returns whether a smaller buffer may avoid this error.
fn is_out_of_memory(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EPERM | libc::ENOMEM | libc::EAGAIN))
}

fn reduced(wanted: usize, bytes: usize) -> Notice {
    let text = format!(
        "The sample buffer is {} KiB per CPU instead of {} KiB, because the limit of locked memory does not allow more: \
         bursts may lose samples. Raise `ulimit -l` or kernel.perf_event_mlock_kb.",
        bytes >> 10,
        wanted >> 10
    );
    Notice::new(NoticeId::BufferReduced, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Recorder;

    #[test]
    fn buffer_sizes_are_powers_of_two_within_the_total() {
        let table = [
            (1, 1000, 16384, 4 << 20),
            (2, 10_000, 16384, 64 << 20),
            (2, 100_000, 65528, 128 << 20),
            (128, 10_000, 16384, 2 << 20),
            (200, 1000, 16384, 1 << 20),
            (0, 10, 0, 512 << 10),
        ];
        for (cpus, rate_hz, stack_bytes, bytes) in table {
            let recorder = Recorder::Auto;
            let sampling = Sampling { rate_hz, stack_bytes, kernel: true, recorder };
            assert_eq!(wanted_bytes(cpus, &sampling), bytes, "{cpus} CPUs, {sampling:?}");
        }
    }

    #[test]
    fn settings_outside_their_range_are_named() {
        let sampling =
            Sampling { rate_hz: 1000, stack_bytes: 16384, kernel: true, recorder: Recorder::Auto };
        let table = [
            (Sampling { rate_hz: 0, ..sampling }, "sampling rate is 0"),
            (Sampling { rate_hz: 100_001, ..sampling }, "sampling rate is 100001"),
            (Sampling { stack_bytes: 100, ..sampling }, "stack copied per sample is 100"),
            (Sampling { stack_bytes: 65536, ..sampling }, "stack copied per sample is 65536"),
        ];
        for (sampling, text) in table {
            let error = check(&sampling).expect_err("out of range").to_string();
            assert!(error.contains(text), "{error}");
        }
        assert!(check(&sampling).is_ok());
    }
}
