//! The machine that a recording is made on, and notices about everything that makes its timings unreliable.

mod cgroup;
mod hypervisor;

use std::fs;

use procfs::{CpuInfo, Current, Meminfo};
use simprof_model::{Machine, Notice, NoticeId};

pub(crate) use cgroup::{Limits, Throttling, limits};

/// From this load per core on, other programs disturb timings.
const BUSY_LOAD_PER_CORE: f64 = 0.5;

/// Describes the machine. Fields that cannot be read are empty.
pub fn machine() -> Machine {
    let cpuinfo = CpuInfo::current().ok();
    let limits = limits();
    let affinity = affinity_cores();
    let facts = Machine {
        cpu: cpuinfo
            .as_ref()
            .and_then(cpu_model)
            .unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
        cores: usable_cores(affinity, limits.cpus),
        memory_bytes: Meminfo::current().map(|memory| memory.mem_total).unwrap_or(0),
        kernel: line("/proc/sys/kernel/osrelease").unwrap_or_default(),
        os: os_name().unwrap_or_default(),
        hypervisor: hypervisor::name(cpuinfo.as_ref()),
        governor: line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        perf_event_paranoid: number("/proc/sys/kernel/perf_event_paranoid"),
        root: is_root(),
        load: load_average(),
        notices: Vec::new(),
    };
    let notices = notices(&facts, &limits, affinity, on_battery());
    Machine { notices, ..facts }
}

/// Returns the number of processes that run or wait for a core or the disk, averaged over about a minute.
pub fn load_average() -> Option<f64> {
    line("/proc/loadavg")?.split(' ').next()?.parse().ok()
}

fn notices(machine: &Machine, limits: &Limits, affinity: u32, on_battery: bool) -> Vec<Notice> {
    let mut notices = Vec::new();
    let mut add = |id, text: String| notices.push(Notice::new(id, text));
    let cores = f64::from(machine.cores);
    if let Some(load) = machine.load.filter(|load| *load > BUSY_LOAD_PER_CORE * cores) {
        let text =
            format!("Other programs load the machine: load average {load:.1} on {cores} cores.");
        add(NoticeId::MachineBusy, text);
    }
    if let Some(governor) = machine.governor.as_deref().filter(|name| *name != "performance") {
        let text = format!(
            "The frequency governor is {governor}: the speed of a core changes with its load."
        );
        add(NoticeId::FrequencyGovernor, text);
    }
    if let Some(cpus) = limits.cpus.filter(|cpus| *cpus < f64::from(affinity)) {
        let text = format!(
            "A control group limits CPU time to {cpus:.2} of {affinity} cores: threads that use more are stopped."
        );
        add(NoticeId::CpuLimited, text);
    }
    if let Some(bytes) = limits.memory_bytes.filter(|bytes| *bytes < machine.memory_bytes) {
        let mib = bytes >> 20;
        add(NoticeId::MemoryLimited, format!("A control group limits memory to {mib} MiB."));
    }
    if on_battery {
        let text = "The machine runs on battery, which may slow it down.";
        add(NoticeId::OnBattery, text.to_owned());
    }
    notices
}

/// Returns the number of whole cores whose CPU time this process may use.
fn usable_cores(affinity: u32, quota: Option<f64>) -> u32 {
    quota.map_or(affinity, |cpus| affinity.min(cpus as u32)).max(1)
}

/// Returns the number of cores that this process may run on.
pub(crate) fn affinity_cores() -> u32 {
    // Enough for 8,192 cores, eight times as many as the C library's own type.
    let mut mask = [0u64; 128];
    // SAFETY: the length passed is that of `mask`. The raw call returns how many bytes it has filled.
    let length = unsafe {
        libc::syscall(libc::SYS_sched_getaffinity, 0, size_of_val(&mask), mask.as_mut_ptr())
    };
    let counted = mask.iter().map(|word| word.count_ones()).sum();
    if length > 0 { counted } else { fallback_cores() }
}

fn fallback_cores() -> u32 {
    std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32)
}

fn cpu_model(cpuinfo: &CpuInfo) -> Option<String> {
    let named =
        ["model name", "cpu model", "cpu"].iter().find_map(|field| cpuinfo.get_field(0, field));
    named.map(str::to_owned).or_else(|| line("/sys/firmware/devicetree/base/model"))
}

fn os_name() -> Option<String> {
    let text = fs::read_to_string("/etc/os-release")
        .or_else(|_| fs::read_to_string("/usr/lib/os-release"))
        .ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    Some(value.trim_matches(['"', '\'']).to_owned())
}

/// Returns whether a battery discharges and no other supply is connected.
fn on_battery() -> bool {
    let supplies = fs::read_dir("/sys/class/power_supply").into_iter().flatten().flatten();
    let (mut discharging, mut connected) = (false, false);
    for supply in supplies {
        let field = |name: &str| line(&supply.path().join(name).to_string_lossy());
        discharging |= field("status").as_deref() == Some("Discharging")
            && field("scope").as_deref() != Some("Device");
        connected |= field("online").as_deref() == Some("1");
    }
    discharging && !connected
}

pub(crate) fn is_root() -> bool {
    // SAFETY: geteuid has no preconditions.
    unsafe { libc::geteuid() == 0 }
}

/// Returns the first line of a file; `None` if it cannot be read or is empty.
pub(crate) fn line(path: &str) -> Option<String> {
    let text = fs::read(path).ok()?;
    let text = String::from_utf8_lossy(&text);
    let line = text.lines().next()?.trim_matches(['\0', ' ', '\t']);
    (!line.is_empty()).then(|| line.to_owned())
}

/// Returns the number in a file.
pub(crate) fn number<T: std::str::FromStr>(path: &str) -> Option<T> {
    line(path)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_facts_of_this_machine_are_found() {
        let machine = machine();
        assert!(!machine.cpu.is_empty() && !machine.kernel.is_empty());
        assert!(machine.memory_bytes > 1 << 24);
        assert_eq!(machine.cores, fallback_cores(), "the standard library counts the same number");
        assert!(machine.load.is_some());
    }

    #[test]
    fn usable_cores_are_limited_by_affinity_and_quota() {
        assert_eq!(usable_cores(8, None), 8);
        assert_eq!(usable_cores(8, Some(2.5)), 2);
        assert_eq!(usable_cores(2, Some(64.0)), 2);
        assert_eq!(usable_cores(4, Some(0.1)), 1);
    }

    #[test]
    fn disturbances_make_notices() {
        let calm = Machine { cores: 4, load: Some(1.9), memory_bytes: 100, ..Machine::default() };
        let none = Limits::default();
        assert!(notices(&calm, &none, 4, false).is_empty());
        let governor = Some("performance".to_owned());
        assert!(notices(&Machine { governor, ..calm.clone() }, &none, 4, false).is_empty());
        let (governor, load) = (Some("powersave".to_owned()), Some(2.1));
        let busy = Machine { governor, load, ..calm };
        let limits = Limits { cpus: Some(1.5), memory_bytes: Some(50) };
        assert_eq!(notices(&busy, &limits, 4, true).len(), 5);
    }
}
