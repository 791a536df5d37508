//! The fallback order of sampling events, and explanations of the system's refusals.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use super::event::{self, Clock, Event};
use super::{Recorder, Refusal, SampleError, Sampling};

/// Lists the CPUs that are online.
const ONLINE: &str = "/sys/devices/system/cpu/online";
/// Holds the level of restrictions for ordinary users.
const PARANOID: &str = "/proc/sys/kernel/perf_event_paranoid";

/// The two events of one CPU.
#[derive(Debug)]
pub(super) struct CpuEvents {
    pub cpu: u32,
    pub samples: OwnedFd,
    pub lifecycle: OwnedFd,
}

/// The opened events, and the refusals of those that were tried before.
#[derive(Debug)]
pub(super) struct Opened {
    pub event: Event,
    pub refusals: Vec<Refusal>,
    pub cpus: Vec<CpuEvents>,
}

/// Opens the first event in the fallback order that the system allows, on every CPU.
///
/// # Errors
///
/// Returns an error if the system refuses all events, if the process does not exist, or if the CPUs are unknown.
pub(super) fn open_first_allowed(pid: u32, sampling: &Sampling) -> Result<Opened, SampleError> {
    let online = online_cpus()?;
    let mut refusals = Vec::new();
    for event in fallback_order(sampling.recorder, sampling.kernel) {
        match open_most_precise(pid, event, sampling, &online) {
            Ok((event, cpus)) => return Ok(Opened { event, refusals, cpus }),
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {
                return Err(SampleError::NoSuchProcess { pid });
            }
            Err(error) => refusals.push(refusal(event, &error)),
        }
    }
    let hint = hint(&refusals);
    Err(SampleError::Refused { pid, refusals, hint })
}

/// Returns the events to try, best first.
fn fallback_order(recorder: Recorder, kernel: bool) -> Vec<Event> {
    let clocks: &[Clock] = match recorder {
        Recorder::Auto => &[Clock::Cycles, Clock::CpuClock],
        Recorder::Cycles => &[Clock::Cycles],
        Recorder::CpuClock => &[Clock::CpuClock],
    };
    let with_kernel: &[bool] = if kernel { &[true, false] } else { &[false] };
    clocks
        .iter()
        .flat_map(|&clock| {
            with_kernel.iter().map(move |&kernel| Event { clock, kernel, precise: 0 })
        })
        .collect()
}

/// Opens an event with the highest precision that the processor has.
///
/// # Errors
///
/// Returns the system's error for the event without precision.
fn open_most_precise(
    pid: u32,
    event: Event,
    sampling: &Sampling,
    online: &[u32],
) -> io::Result<(Event, Vec<CpuEvents>)> {
    for precise in precisions(event.clock) {
        let event = Event { precise, ..event };
        if let Ok(cpus) = open_on_all(pid, event, sampling, online) {
            return Ok((event, cpus));
        }
    }
    Ok((event, open_on_all(pid, event, sampling, online)?))
}

fn open_on_all(
    pid: u32,
    event: Event,
    sampling: &Sampling,
    online: &[u32],
) -> io::Result<Vec<CpuEvents>> {
    let samples = event.sampling_attr(sampling.rate_hz, sampling.stack_bytes);
    let lifecycle = event::lifecycle_attr();
    let mut cpus = Vec::with_capacity(online.len());
    for &cpu in online {
        match open_on_one(&samples, &lifecycle, pid, cpu) {
            Ok(events) => cpus.push(events),
            // The CPU went offline since it was listed.
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => {}
            Err(error) => return Err(error),
        }
    }
    if cpus.is_empty() { Err(io::Error::from_raw_os_error(libc::ENODEV)) } else { Ok(cpus) }
}

/// Returns the precisions above 0 to try, best first. Only hardware counters have any.
fn precisions(clock: Clock) -> impl Iterator<Item = u8> {
    let highest = match clock {
        Clock::Cycles => 3,
        Clock::CpuClock => 0,
    };
    (1..=highest).rev()
}

fn open_on_one(
    samples: &perf_event_open_sys::bindings::perf_event_attr,
    lifecycle: &perf_event_open_sys::bindings::perf_event_attr,
    pid: u32,
    cpu: u32,
) -> io::Result<CpuEvents> {
    let samples = event::open(samples, pid, cpu)?;
    let lifecycle = event::open(lifecycle, pid, cpu)?;
    Ok(CpuEvents { cpu, samples, lifecycle })
}

/// Returns the numbers of the CPUs that are online.
fn online_cpus() -> Result<Vec<u32>, SampleError> {
    let path = Path::new(ONLINE);
    let error = |source| SampleError::Cpus { path: path.to_owned(), source };
    let text = std::fs::read_to_string(path).map_err(error)?;
    parse_cpu_list(&text)
        .ok_or_else(|| error(io::Error::new(io::ErrorKind::InvalidData, text.trim().to_owned())))
}

/// Parses a list such as `0-3,8`. Returns `None` if it is empty or malformed.
fn parse_cpu_list(text: &str) -> Option<Vec<u32>> {
    let mut cpus = Vec::new();
    for part in text.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        cpus.extend(first.parse().ok()?..=last.parse::<u32>().ok()?);
    }
    (!cpus.is_empty()).then_some(cpus)
}

/// Explains why an event was refused.
fn refusal(event: Event, error: &io::Error) -> Refusal {
    let errno = error.raw_os_error().unwrap_or(0);
    let reason = match errno {
        libc::ENOENT | libc::ENODEV | libc::EOPNOTSUPP if event.clock == Clock::Cycles => {
            "this machine has no hardware cycle counter (virtual machines often have none)".into()
        }
        libc::EACCES if event.kernel => format!(
            "sampling the kernel needs perf_event_paranoid of 1 or less (it is {}) or CAP_PERFMON",
            paranoid()
        ),
        libc::EACCES => format!(
            "perf_event_paranoid forbids it (it is {}), or the process belongs to another user",
            paranoid()
        ),
        libc::EPERM => "a seccomp filter (as containers have) or a security module denies \
                        perf_event_open"
            .into(),
        libc::ENOSYS => "this kernel or sandbox does not provide perf_event_open".into(),
        libc::EMFILE => "too many open files: two are needed for each CPU (see `ulimit -n`)".into(),
        _ => error.to_string(),
    };
    Refusal { event: event.name(), reason, errno }
}

/// Suggests how to make sampling work, based on the last refusal, which is of the least demanding event.
fn hint(refusals: &[Refusal]) -> String {
    let errno = refusals.last().map_or(0, |refusal| refusal.errno);
    match errno {
        libc::EACCES => "set kernel.perf_event_paranoid to 2 or less with sysctl, or give \
                         simprof CAP_PERFMON (CAP_SYS_ADMIN before Linux 5.8)"
            .into(),
        libc::EPERM => "start the container with `--cap-add PERFMON` and a seccomp profile that \
                        allows perf_event_open"
            .into(),
        libc::ENOSYS => "use a kernel with CONFIG_PERF_EVENTS".into(),
        libc::EMFILE => "raise the limit of open files".into(),
        _ if refusals.iter().all(|refusal| refusal.event.starts_with("cycles")) => {
            "use the cpu-clock event instead".into()
        }
        _ => "no other event is available".into(),
    }
}

fn paranoid() -> String {
    match std::fs::read_to_string(PARANOID) {
        Ok(value) => value.trim().to_owned(),
        Err(_) => "unknown".to_owned(),
    }
}

/// Whether this user can open an event on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventProbe {
    /// The event, such as `cycles:uk`.
    pub event: String,
    /// The error is the reason of the refusal.
    pub result: Result<(), String>,
}

/// Opens every event on the calling process, closes it again, and returns what happened.
pub fn probe_events() -> Vec<EventProbe> {
    let sampling =
        Sampling { rate_hz: 1000, stack_bytes: 16384, kernel: true, recorder: Recorder::Auto };
    let online = online_cpus().map_err(|error| error.to_string());
    fallback_order(sampling.recorder, sampling.kernel)
        .into_iter()
        .map(|event| {
            let result = online.clone().and_then(|online| {
                open_on_all(std::process::id(), event, &sampling, &online)
                    .map(drop)
                    .map_err(|error| refusal(event, &error).reason)
            });
            EventProbe { event: event.name(), result }
        })
        .collect()
}

/// Checks on the calling process whether samples can raise a signal in the sampled thread, as Python frames need.
///
/// # Errors
///
/// Returns the reason if not.
pub(crate) fn probe_signalling() -> Result<(), String> {
    let online = online_cpus().map_err(|error| error.to_string())?;
    let event = Event { clock: Clock::CpuClock, kernel: false, precise: 0 };
    let attr = event.signalling_attr(1, 0);
    let opened = event::open(&attr, std::process::id(), online[0]);
    opened.map(drop).map_err(|error| match error.raw_os_error() {
        Some(libc::EINVAL | libc::E2BIG) => {
            "this kernel cannot signal samples to the sampled process".to_owned()
        }
        _ => refusal(event, &error).reason,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_lists_are_parsed() {
        let table: [(&str, Option<Vec<u32>>); 6] = [
            ("0\n", Some(vec![0])),
            ("0-3\n", Some(vec![0, 1, 2, 3])),
            ("0-1,4,6-7\n", Some(vec![0, 1, 4, 6, 7])),
            ("\n", None),
            ("0-\n", None),
            ("x", None),
        ];
        for (text, cpus) in table {
            assert_eq!(parse_cpu_list(text), cpus, "{text:?}");
        }
    }

    #[test]
    fn the_fallback_order_starts_with_the_most_informative_event() {
        let names = |recorder, kernel| -> Vec<String> {
            fallback_order(recorder, kernel).into_iter().map(Event::name).collect()
        };
        assert_eq!(
            names(Recorder::Auto, true),
            ["cycles:uk", "cycles:u", "cpu-clock:uk", "cpu-clock:u"]
        );
        assert_eq!(names(Recorder::Auto, false), ["cycles:u", "cpu-clock:u"]);
        assert_eq!(names(Recorder::Cycles, false), ["cycles:u"]);
        assert_eq!(names(Recorder::CpuClock, true), ["cpu-clock:uk", "cpu-clock:u"]);
    }

    #[test]
    fn hardware_counters_are_tried_with_the_highest_precision_first() {
        assert_eq!(precisions(Clock::Cycles).collect::<Vec<_>>(), [3, 2, 1]);
        assert_eq!(precisions(Clock::CpuClock).count(), 0);
        let event = Event { clock: Clock::Cycles, kernel: true, precise: 2 };
        assert_eq!(event.name(), "cycles:ukpp");
        assert_eq!(event.sampling_attr(1000, 0).precise_ip(), 2);
        for other in
            [event.switch_attr(), event.departure_attr(1000, 0), event.signalling_attr(1000, 0)]
        {
            assert_eq!(other.precise_ip(), 0);
        }
    }

    #[test]
    fn a_refusal_has_a_reason_and_a_fix() {
        let event = Event { clock: Clock::CpuClock, kernel: false, precise: 0 };
        let table = [
            (libc::EACCES, "perf_event_paranoid", "sysctl"),
            (libc::EPERM, "seccomp", "--cap-add PERFMON"),
            (libc::ENOSYS, "perf_event_open", "CONFIG_PERF_EVENTS"),
        ];
        for (errno, reason, fix) in table {
            let refusal = refusal(event, &io::Error::from_raw_os_error(errno));
            assert!(refusal.reason.contains(reason), "{refusal}");
            assert!(hint(&[refusal]).contains(fix));
        }
    }
}
