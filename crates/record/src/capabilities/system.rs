//! Checks what can be recorded on the machine and its kernel.

use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::Capability;
use crate::machine::{affinity_cores, is_root, limits, line, load_average, number};
use crate::sample;

/// Free disk space that suffices for the results of any run, bytes.
const ENOUGH_BYTES: u64 = 1 << 30;

/// Memory of the ring buffers per core, KiB: the kernel's default allowance beyond the ulimit.
const RING_KIB: u64 = 516;

pub fn sampling() -> Capability {
    let name = "sampled stacks";
    let probes = sample::probe_events();
    let refused: Vec<_> = probes
        .iter()
        .filter_map(|probe| Some(format!("{}: {}", probe.event, probe.result.as_ref().err()?)))
        .collect();
    let Some(best) = probes.iter().find(|probe| probe.result.is_ok()) else {
        return Capability::missing(
            name,
            refused.join("; "),
            "no stacks are sampled, so there are no results by function and line",
            "set the sysctl kernel.perf_event_paranoid to 2 or less, or grant CAP_PERFMON; in a \
             container, allow the system call perf_event_open",
        );
    };
    if refused.is_empty() {
        return Capability::available(name, format!("by the event {}", best.event));
    }
    let detail = format!("by the event {}; not available: {}", best.event, refused.join("; "));
    if best.event.starts_with("cycles") {
        return Capability::available(name, detail);
    }
    Capability::degraded(
        name,
        detail,
        "a kernel timer takes the samples: kernel code that runs with interrupts disabled is \
         sampled late, at the line that enables them",
        "run on a machine that offers hardware counters; most virtual machines do not",
    )
}

pub fn kernel_frames() -> Capability {
    let name = "kernel frames";
    let paranoid: i32 = number("/proc/sys/kernel/perf_event_paranoid").unwrap_or(i32::MAX);
    let hidden = number("/proc/sys/kernel/kptr_restrict").unwrap_or(0);
    let detail = format!("perf_event_paranoid is {paranoid}, kptr_restrict is {hidden}");
    let with_kernel =
        |probe: &sample::EventProbe| probe.event.ends_with("uk") && probe.result.is_ok();
    let allowed = sample::probe_events().iter().any(with_kernel);
    if !allowed {
        return Capability::missing(
            name,
            detail,
            "time in the kernel is not sampled, so system calls seem to take no time",
            "set the sysctl kernel.perf_event_paranoid to 1, or grant CAP_PERFMON",
        );
    }
    // 0 shows addresses to processes that may read them, 1 to root only, 2 to no process.
    if hidden >= 2 || hidden == 1 && !is_root() {
        return Capability::degraded(
            name,
            detail,
            "time in the kernel is sampled, but kernel functions have no names",
            "set the sysctl kernel.kptr_restrict to 0",
        );
    }
    Capability::available(name, detail)
}

pub fn locked_memory() -> Capability {
    let name = "locked memory";
    let per_core: u64 = number("/proc/sys/kernel/perf_event_mlock_kb").unwrap_or(RING_KIB);
    // SAFETY: zero is a valid value of both fields.
    let mut limit: libc::rlimit = unsafe { std::mem::zeroed() };
    // SAFETY: `limit` is a valid `rlimit` to write to.
    unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut limit) };
    let own = match limit.rlim_cur {
        libc::RLIM_INFINITY => "no limit".to_owned(),
        bytes => format!("{} KiB", bytes / 1024),
    };
    let detail = format!("{per_core} KiB per core, and for this user {own}");
    if is_root() || per_core >= RING_KIB || limit.rlim_cur >= (8 << 20) {
        return Capability::available(name, detail);
    }
    Capability::degraded(
        name,
        detail,
        "the buffers for samples are smaller, so more samples are lost when many come at once",
        "raise the sysctl kernel.perf_event_mlock_kb, or `ulimit -l`",
    )
}

pub fn storage_io() -> Capability {
    let name = "storage I/O of processes";
    match fs::read("/proc/self/io") {
        Ok(_) => Capability::available(name, "/proc/PID/io can be read"),
        Err(error) => Capability::missing(
            name,
            format!("/proc/PID/io: {error}"),
            "bytes read from and written to storage are not recorded",
            "use a kernel with CONFIG_TASK_IO_ACCOUNTING",
        ),
    }
}

pub fn proportional_set() -> Capability {
    let name = "proportional memory";
    match fs::read("/proc/self/smaps_rollup") {
        Ok(_) => Capability::available(name, "/proc/PID/smaps_rollup can be read"),
        Err(error) => Capability::degraded(
            name,
            format!("/proc/PID/smaps_rollup: {error}"),
            "memory that several processes share is counted in each of them",
            "use Linux 4.14 or later with CONFIG_PROC_PAGE_MONITOR",
        ),
    }
}

pub fn cores() -> Capability {
    let name = "cores";
    let (cores, limits) = (affinity_cores(), limits());
    let online: u32 = procfs_cores().unwrap_or(cores);
    let detail = format!("{cores} of {online} online");
    match limits.cpus.filter(|cpus| *cpus < f64::from(cores)) {
        Some(cpus) => Capability::degraded(
            name,
            format!("{detail}, but a control group limits CPU time to {cpus:.2} cores"),
            "threads that use more are stopped, which shows as pauses in timings",
            "lift the CPU quota of the container",
        ),
        None if cores == 1 => Capability::degraded(
            name,
            detail,
            "simprof and the target share one core, so timings are too long",
            "use a machine, or a CPU affinity mask, with at least two cores",
        ),
        None => Capability::available(name, detail),
    }
}

fn procfs_cores() -> Option<u32> {
    // SAFETY: sysconf has no preconditions.
    u32::try_from(unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) }).ok()
}

pub fn governor() -> Capability {
    let name = "frequency governor";
    match line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").as_deref() {
        None => Capability::available(name, "the kernel does not control the frequency"),
        Some("performance") => Capability::available(name, "performance"),
        Some(other) => Capability::degraded(
            name,
            other,
            "the speed of a core changes with its load, so timings vary more",
            "run `cpupower frequency-set -g performance` as root",
        ),
    }
}

pub fn load() -> Capability {
    let name = "quiet machine";
    let cores = f64::from(affinity_cores());
    let Some(load) = load_average() else {
        return Capability::available(name, "the load average cannot be read");
    };
    let detail = format!("load average {load:.1} on {cores} cores");
    if load <= cores / 2.0 {
        return Capability::available(name, detail);
    }
    Capability::degraded(name, detail, "timings vary more and are too long", "stop other programs")
}

pub fn clock_source() -> Capability {
    let name = "clock source";
    let source = line("/sys/devices/system/clocksource/clocksource0/current_clocksource");
    match source.as_deref() {
        Some("hpet" | "acpi_pm" | "jiffies" | "xen" | "refined-jiffies") => Capability::degraded(
            name,
            source.unwrap_or_default(),
            "reading the time needs a system call, so each step mark takes much more than 100 ns",
            "boot with `clocksource=tsc` if the hardware allows it",
        ),
        Some(other) => Capability::available(name, other),
        None => Capability::available(name, "the kernel does not report it"),
    }
}

pub fn disk(output: &Path) -> Capability {
    let name = "disk space for results";
    let folder = output.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("."));
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let Some(bytes) = free_bytes(folder) else {
        return Capability::degraded(
            name,
            format!("the free space of {} cannot be read", folder.display()),
            "it is unknown whether the results fit",
            "",
        );
    };
    let detail =
        format!("{:.1} GiB free in {}", bytes as f64 / f64::from(1 << 30), folder.display());
    if !is_writable(folder) {
        return Capability::missing(
            name,
            format!("this user cannot write to {}", folder.display()),
            "no results can be written",
            "choose another folder with --output-dir",
        );
    }
    if bytes < ENOUGH_BYTES {
        return Capability::degraded(
            name,
            detail,
            "logs and profiles may be truncated",
            "delete files there, or choose another folder with --output-dir",
        );
    }
    Capability::available(name, detail)
}

fn is_writable(path: &Path) -> bool {
    let Ok(name) = CString::new(path.as_os_str().as_bytes()) else { return false };
    // SAFETY: `name` is a valid C string.
    unsafe { libc::faccessat(libc::AT_FDCWD, name.as_ptr(), libc::W_OK, libc::AT_EACCESS) == 0 }
}

fn free_bytes(path: &Path) -> Option<u64> {
    let name = CString::new(path.as_os_str().as_bytes()).ok()?;
    // SAFETY: zero is a valid value of every field.
    let mut disk: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: `name` is a valid C string and `disk` a valid `statvfs` to write to.
    let status = unsafe { libc::statvfs(name.as_ptr(), &raw mut disk) };
    (status == 0).then(|| disk.f_bavail.saturating_mul(disk.f_frsize))
}
