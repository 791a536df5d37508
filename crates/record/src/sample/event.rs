//! The perf events that are opened on a target: what they count and what their records contain.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use linux_perf_event_reader::{
    BranchSampleFormat, Endianness, ReadFormat, RecordIdParseInfo, RecordParseInfo, SampleFormat,
};
use perf_event_open_sys as sys;
use simprof_preload::supported::PYTHON_KERNEL_TIME_KERNEL;
use sys::bindings::{self, perf_event_attr};

use super::registers;

/// The counter that triggers samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Clock {
    Cycles,
    CpuClock,
}

/// A sampling event: a clock, with or without kernel code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Event {
    pub clock: Clock,
    pub kernel: bool,
    /// How exactly the sampled instruction is known, from 0 (some instructions late) to 3, as in `precise_ip` of perf_event_open(2).
    pub precise: u8,
}

impl Event {
    /// Returns the name that `perf` uses, such as `cpu-clock:u`, or `cycles:ukpp` with precision 2.
    pub fn name(self) -> String {
        let clock = match self.clock {
            Clock::Cycles => "cycles",
            Clock::CpuClock => "cpu-clock",
        };
        let kernel = if self.kernel { "k" } else { "" };
        format!("{clock}:u{kernel}{}", "p".repeat(self.precise.into()))
    }

    /// Returns the attributes for samples at `rate_hz` with `stack_bytes` of stack.
    pub fn sampling_attr(self, rate_hz: u32, stack_bytes: u32) -> perf_event_attr {
        let mut attr = inherited_attr();
        match self.clock {
            Clock::Cycles => {
                attr.type_ = bindings::PERF_TYPE_HARDWARE;
                attr.config = bindings::PERF_COUNT_HW_CPU_CYCLES.into();
                attr.set_freq(1);
                attr.set_precise_ip(self.precise.into());
                attr.__bindgen_anon_1.sample_freq = rate_hz.into();
            }
            Clock::CpuClock => {
                attr.type_ = bindings::PERF_TYPE_SOFTWARE;
                attr.config = bindings::PERF_COUNT_SW_CPU_CLOCK.into();
                attr.__bindgen_anon_1.sample_period = period_ns(rate_hz);
            }
        }
        attr.sample_type = u64::from(
            bindings::PERF_SAMPLE_IDENTIFIER
                | bindings::PERF_SAMPLE_IP
                | bindings::PERF_SAMPLE_TID
                | bindings::PERF_SAMPLE_TIME
                | bindings::PERF_SAMPLE_CPU
                | bindings::PERF_SAMPLE_PERIOD
                | bindings::PERF_SAMPLE_REGS_USER,
        );
        attr.sample_regs_user = registers::REGISTER_MASK;
        if stack_bytes > 0 {
            attr.sample_type |= u64::from(bindings::PERF_SAMPLE_STACK_USER);
            attr.sample_stack_user = stack_bytes;
        }
        if self.kernel {
            attr.sample_type |= u64::from(bindings::PERF_SAMPLE_CALLCHAIN);
            attr.set_exclude_callchain_user(1);
        } else {
            attr.set_exclude_kernel(1);
        }
        attr
    }

    /// Returns the attributes for records of each time that a thread gets or leaves a CPU. They have the same layout as samples, whose
    /// buffer they share.
    pub fn switch_attr(self) -> perf_event_attr {
        let mut attr = self.sampling_attr(1, 0);
        attr.type_ = bindings::PERF_TYPE_SOFTWARE;
        attr.config = bindings::PERF_COUNT_SW_DUMMY.into();
        attr.set_freq(0);
        attr.set_precise_ip(0);
        attr.__bindgen_anon_1.sample_period = 0;
        attr.set_context_switch(1);
        attr
    }

    /// Returns the attributes for a sample of each thread that leaves a CPU. The kernel skips some departures of threads that leave one
    /// more than `rate_hz` times per second.
    pub fn departure_attr(self, rate_hz: u32, stack_bytes: u32) -> perf_event_attr {
        let mut attr = self.sampling_attr(rate_hz, stack_bytes);
        attr.type_ = bindings::PERF_TYPE_SOFTWARE;
        attr.config = bindings::PERF_COUNT_SW_CONTEXT_SWITCHES.into();
        attr.set_freq(1);
        attr.set_precise_ip(0);
        attr.__bindgen_anon_1.sample_freq = rate_hz.into();
        attr
    }

    /// Returns the attributes for the same samples of a process that runs Python. With each sample the kernel also sends
    /// SIGTRAP to the sampled thread, before that executes another instruction of user code.
    ///
    /// Children do not inherit the event: they request their own. It is removed at exec, since the signal would kill a program
    /// without a handler.
    pub fn signalling_attr(self, rate_hz: u32, stack_bytes: u32) -> perf_event_attr {
        let mut attr = self.sampling_attr(rate_hz, stack_bytes);
        attr.set_precise_ip(0);
        attr.set_enable_on_exec(0);
        attr.set_inherit_thread(1);
        attr.set_remove_on_exec(1);
        attr.set_sigtrap(1);
        if !signals_wait_for_system_calls() {
            attr.set_exclude_kernel(1);
        }
        attr
    }
}

/// Returns whether the kernel delivers the signal of a sample in a system call after that call. Older kernels interrupt
/// the call.
pub(super) fn signals_wait_for_system_calls() -> bool {
    kernel_version().is_none_or(|version| version >= PYTHON_KERNEL_TIME_KERNEL)
}

/// Returns major and minor version of the running kernel.
pub(super) fn kernel_version() -> Option<(u32, u32)> {
    let text = std::fs::read_to_string("/proc/sys/kernel/osrelease").ok()?;
    let mut numbers = text.split(['.', '-', '\n']).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// Returns the attributes for lifecycle records of processes: forks, names, mappings, exits.
///
/// The event counts nothing. It has a separate buffer, so that a burst of samples cannot displace a mapping, and so that a new
/// module can be opened while its process is still running.
pub(super) fn lifecycle_attr() -> perf_event_attr {
    let mut attr = inherited_attr();
    attr.type_ = bindings::PERF_TYPE_SOFTWARE;
    attr.config = bindings::PERF_COUNT_SW_DUMMY.into();
    attr.sample_type = u64::from(
        bindings::PERF_SAMPLE_TID | bindings::PERF_SAMPLE_TIME | bindings::PERF_SAMPLE_CPU,
    );
    attr.set_exclude_kernel(1);
    attr.set_mmap(1);
    attr.set_mmap2(1);
    attr.set_comm(1);
    attr.set_comm_exec(1);
    attr.set_task(1);
    attr.__bindgen_anon_2.wakeup_watermark = 1;
    attr
}

/// Returns the attributes that all events share.
fn inherited_attr() -> perf_event_attr {
    let mut attr = perf_event_attr {
        size: u32::try_from(size_of::<perf_event_attr>()).expect("the structure is small"),
        clockid: libc::CLOCK_MONOTONIC,
        ..Default::default()
    };
    attr.set_disabled(1);
    attr.set_enable_on_exec(1);
    attr.set_inherit(1);
    attr.set_exclude_hv(1);
    attr.set_sample_id_all(1);
    attr.set_use_clockid(1);
    // A watermark of zero bytes means half of the buffer.
    attr.set_watermark(1);
    attr
}

/// Opens an event on a process or thread, for the time that it runs on one CPU.
///
/// # Errors
///
/// Returns the system's error.
pub(super) fn open(attr: &perf_event_attr, pid: u32, cpu: u32) -> io::Result<OwnedFd> {
    let mut attr = *attr;
    let (Ok(pid), Ok(cpu)) = (i32::try_from(pid), i32::try_from(cpu)) else {
        return Err(io::Error::from_raw_os_error(libc::ESRCH));
    };
    let flags = bindings::PERF_FLAG_FD_CLOEXEC.into();
    // SAFETY: `attr` is a complete structure with the right size field, and outlives the call.
    let fd = unsafe { sys::perf_event_open(&raw mut attr, pid, cpu, -1, flags) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Returns the id that the records of an event and of its inherited copies carry.
pub(super) fn id(event: &OwnedFd) -> io::Result<u64> {
    let mut id = 0_u64;
    // SAFETY: the descriptor is of an event, and the kernel writes one u64 to `id`.
    check(unsafe { sys::ioctls::ID(event.as_raw_fd(), &raw mut id) })?;
    Ok(id)
}

/// Lets an event write to the buffer of another event on the same CPU.
pub(super) fn redirect(event: &OwnedFd, to: RawFd) -> io::Result<()> {
    // SAFETY: both descriptors are of events; no memory is involved.
    check(unsafe { sys::ioctls::SET_OUTPUT(event.as_raw_fd(), to) })
}

/// Enables an event and its inherited copies.
pub(super) fn enable(event: &OwnedFd) -> io::Result<()> {
    // SAFETY: the descriptor is of an event; no memory is involved.
    check(unsafe { sys::ioctls::ENABLE(event.as_raw_fd(), 0) })
}

/// Disables an event and its inherited copies.
pub(super) fn disable(event: RawFd) -> io::Result<()> {
    // SAFETY: the descriptor is of an event; no memory is involved.
    check(unsafe { sys::ioctls::DISABLE(event, 0) })
}

fn check(status: libc::c_int) -> io::Result<()> {
    if status < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Returns the layout of an event's records.
pub(super) fn layout(attr: &perf_event_attr) -> RecordParseInfo {
    let words =
        |kinds: SampleFormat| 8 * u8::try_from(kinds.bits().count_ones()).unwrap_or(u8::MAX);
    let sample_format = SampleFormat::from_bits_truncate(attr.sample_type);
    let after_time = SampleFormat::TIME | SampleFormat::CPU | SampleFormat::IDENTIFIER;
    let trailer = SampleFormat::TID | after_time;
    let before_time = SampleFormat::IDENTIFIER | SampleFormat::IP | SampleFormat::TID;
    RecordParseInfo {
        endian: if cfg!(target_endian = "little") {
            Endianness::LittleEndian
        } else {
            Endianness::BigEndian
        },
        sample_format,
        branch_sample_format: BranchSampleFormat::empty(),
        read_format: ReadFormat::empty(),
        common_data_offset_from_end: Some(words(sample_format & trailer)),
        sample_regs_user: attr.sample_regs_user,
        user_regs_count: u8::try_from(attr.sample_regs_user.count_ones()).unwrap_or(u8::MAX),
        sample_regs_intr: 0,
        intr_regs_count: 0,
        id_parse_info: RecordIdParseInfo {
            nonsample_record_id_offset_from_end: None,
            sample_record_id_offset_from_start: None,
        },
        nonsample_record_time_offset_from_end: Some(words(sample_format & after_time)),
        sample_record_time_offset_from_start: Some(words(sample_format & before_time)),
    }
}

/// Returns the period of samples by the CPU clock, ns.
///
/// It is 0.7 % longer than the rate implies. Otherwise a program that repeats something every millisecond, or at another round
/// interval, would be sampled at the same point of each repetition.
fn period_ns(rate_hz: u32) -> u64 {
    1_007_000_000 / u64::from(rate_hz)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_repeats_at_a_round_interval_is_sampled_at_all_points() {
        for (rate_hz, repetition_ns) in
            [(100, 10_000_000), (1000, 1_000_000), (1000, 5_000_000), (5000, 1_000_000)]
        {
            let samples = 10 * u64::from(rate_hz);
            let mut tenths = [0; 10];
            for sample in 0..samples {
                let offset_ns = sample * period_ns(rate_hz) % repetition_ns;
                tenths[(offset_ns * 10 / repetition_ns) as usize] += 1;
            }
            let fair = samples / 10;
            let is_fair = |count: &u64| count.abs_diff(fair) * 5 < fair;
            assert!(tenths.iter().all(is_fair), "{rate_hz} Hz, {repetition_ns} ns: {tenths:?}");
        }
    }
}
