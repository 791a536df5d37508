//! Limits of control groups, of version 1 or 2, that apply to this process.

use std::fs;
use std::path::{Path, PathBuf};

use procfs::FromRead;
use procfs::process::{MountInfo, MountInfos};
use simprof_model::{Notice, NoticeId};

/// Limits; `None` for what is not limited.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Limits {
    /// CPU time per wall time, in cores.
    pub cpus: Option<f64>,
    /// Memory, bytes.
    pub memory_bytes: Option<u64>,
}

/// Returns the limits of this process: the tightest ones of its groups and all their ancestors.
pub fn limits() -> Limits {
    let (groups, mounts) = groups_and_mounts();
    parse_limits(&groups, &mounts)
}

fn groups_and_mounts() -> (String, Vec<MountInfo>) {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let mounts = MountInfos::from_file("/proc/self/mountinfo").map(|infos| infos.0);
    (groups, mounts.unwrap_or_default())
}

fn parse_limits(groups: &str, mounts: &[MountInfo]) -> Limits {
    let mut limits = Limits::default();
    for folder in group_folders(groups, mounts) {
        tighten(&mut limits.cpus, cpus(&folder));
        tighten(&mut limits.memory_bytes, memory_bytes(&folder));
    }
    limits
}

/// Returns the folders of the groups in a text of /proc/PID/cgroup, and of their ancestors.
fn group_folders<'a>(
    groups: &'a str,
    mounts: &'a [MountInfo],
) -> impl Iterator<Item = PathBuf> + 'a {
    let of_line = move |line: &'a str| {
        // Such as `4:cpu,cpuacct:/path`, or `0::/path` in version 2.
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        let controllers: Vec<&str> = controllers.split(',').collect();
        let mounts = mounts.iter().filter(move |mount| has_controller(mount, &controllers));
        Some(mounts.flat_map(move |mount| folders(mount, path)))
    };
    groups.lines().filter_map(of_line).flatten()
}

/// How a CPU quota stopped threads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Throttling {
    /// How often the quota was used up.
    pub count: u64,
    /// How long threads were stopped, summed over CPUs, ns.
    pub stopped_ns: u64,
}

impl Throttling {
    /// Returns the totals so far of this process's groups and their ancestors.
    pub fn now() -> Self {
        let mut sum = Self::default();
        for folder in all_folders() {
            let text = fs::read_to_string(folder.join("cpu.stat")).unwrap_or_default();
            let one = parse_throttling(&text);
            sum.count += one.count;
            sum.stopped_ns += one.stopped_ns;
        }
        sum
    }

    /// Returns a notice if a quota was used up since an earlier time. The groups contain simprof too.
    pub fn notice_since(self, earlier: Self) -> Option<Notice> {
        let stopped_s = self.stopped_ns.saturating_sub(earlier.stopped_ns) as f64 * 1e-9;
        log::debug!("CPU quotas stopped threads for {stopped_s:.2} s, summed over CPUs");
        (self.count > earlier.count).then(|| {
            let text = "The CPU quota of a control group was used up during a run, which stopped threads. Stopped threads count as \
                        ready to run, not as waiting. Raise the quota (cpu.max, or cpu.cfs_quota_us; in a container `--cpus`).";
            Notice::new(NoticeId::CpuThrottled, text)
        })
    }
}

/// Parses cpu.stat of version 1 (`throttled_time`, ns) or 2 (`throttled_usec`).
fn parse_throttling(text: &str) -> Throttling {
    let value = |name: &str| {
        let mut lines = text.lines().filter_map(|line| line.split_once(' '));
        let found = lines.find(|(key, _)| *key == name)?;
        found.1.trim().parse::<u64>().ok()
    };
    let stopped_us = value("throttled_usec").map(|us| us.saturating_mul(1000));
    let stopped_ns = stopped_us.or_else(|| value("throttled_time")).unwrap_or(0);
    Throttling { count: value("nr_throttled").unwrap_or(0), stopped_ns }
}

/// Returns the folders of this process's groups and all their ancestors.
fn all_folders() -> Vec<PathBuf> {
    let (groups, mounts) = groups_and_mounts();
    let mut found: Vec<PathBuf> = group_folders(&groups, &mounts).collect();
    // Controllers that are mounted together have one folder.
    found.sort();
    found.dedup();
    found
}

/// Returns whether the groups of these controllers are mounted here. Version 2 has one controller with an empty name.
fn has_controller(mount: &MountInfo, controllers: &[&str]) -> bool {
    match mount.fs_type.as_str() {
        "cgroup2" => controllers == [""],
        "cgroup" => controllers.iter().any(|name| mount.super_options.contains_key(*name)),
        _ => false,
    }
}

/// Returns the folders of a group and its ancestors, as far as they are visible.
fn folders(mount: &MountInfo, group: &str) -> Vec<PathBuf> {
    let below = group.strip_prefix(mount.root.trim_end_matches('/')).unwrap_or("");
    let folder = mount.mount_point.join(below.trim_start_matches('/'));
    let above = folder.ancestors().take_while(|folder| folder.starts_with(&mount.mount_point));
    above.map(Path::to_owned).collect()
}

fn cpus(folder: &Path) -> Option<f64> {
    let read = |name: &str| fs::read_to_string(folder.join(name)).ok();
    let (quota, period) = match read("cpu.max") {
        Some(text) => {
            let (quota, period) = text.trim().split_once(' ')?;
            (quota.to_owned(), period.to_owned())
        }
        None => (read("cpu.cfs_quota_us")?, read("cpu.cfs_period_us")?),
    };
    quota_cores(&quota, &period)
}

/// Parses a quota and a period, µs, as a number of cores; `None` if the quota is `max` or -1.
fn quota_cores(quota: &str, period: &str) -> Option<f64> {
    let (quota, period): (f64, f64) = (quota.trim().parse().ok()?, period.trim().parse().ok()?);
    (quota > 0.0 && period > 0.0).then(|| quota / period)
}

fn memory_bytes(folder: &Path) -> Option<u64> {
    let read = |name: &str| fs::read_to_string(folder.join(name)).ok();
    let text = read("memory.max").or_else(|| read("memory.limit_in_bytes"))?;
    // Version 1 writes a number near 2^63 if there is no limit.
    text.trim().parse().ok().filter(|bytes| *bytes < 1 << 60)
}

fn tighten<T: PartialOrd>(limit: &mut Option<T>, other: Option<T>) {
    if let Some(other) = other
        && limit.as_ref().is_none_or(|limit| other < *limit)
    {
        *limit = Some(other);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(point: &Path, kind: &str, root: &str, options: &str) -> MountInfo {
        let line = format!("30 20 0:26 {root} {} rw - {kind} {kind} {options}", point.display());
        MountInfo::from_line(&line).expect("a line of mountinfo")
    }

    #[test]
    fn the_tightest_limit_of_version_2_applies() {
        let base = tempfile::tempdir().expect("a folder");
        let inner = base.path().join("outer/inner");
        fs::create_dir_all(&inner).expect("made");
        fs::write(inner.join("cpu.max"), "max 100000\n").expect("written");
        fs::write(inner.join("memory.max"), "max\n").expect("written");
        fs::write(base.path().join("outer/cpu.max"), "150000 100000\n").expect("written");
        fs::write(base.path().join("outer/memory.max"), "1048576\n").expect("written");
        let mounts = [mount(base.path(), "cgroup2", "/", "rw")];
        let expected = Limits { cpus: Some(1.5), memory_bytes: Some(1 << 20) };
        assert_eq!(parse_limits("0::/outer/inner\n", &mounts), expected);
        assert_eq!(parse_limits("0::/\n", &mounts), Limits::default());
    }

    #[test]
    fn limits_of_version_1_are_found_by_their_controllers() {
        let base = tempfile::tempdir().expect("a folder");
        for (folder, name, text) in [
            ("cpu", "cpu.cfs_quota_us", "50000"),
            ("cpu", "cpu.cfs_period_us", "100000"),
            ("memory", "memory.limit_in_bytes", "9223372036854771712"),
        ] {
            fs::create_dir_all(base.path().join(folder)).expect("made");
            fs::write(base.path().join(folder).join(name), text).expect("written");
        }
        // In a container, the group's own folder is mounted as the root.
        let mounts = [
            mount(&base.path().join("cpu"), "cgroup", "/box", "rw,cpu,cpuacct"),
            mount(&base.path().join("memory"), "cgroup", "/", "rw,memory"),
        ];
        let groups = "4:memory:/box\n3:cpu,cpuacct:/box\n";
        let expected = Limits { cpus: Some(0.5), memory_bytes: None };
        assert_eq!(parse_limits(groups, &mounts), expected);
    }

    #[test]
    fn throttling_is_read_from_both_versions() {
        let first = "nr_periods 9\nnr_throttled 3\nthrottled_time 5000\nnr_bursts 0\n";
        assert_eq!(parse_throttling(first), Throttling { count: 3, stopped_ns: 5000 });
        let second = "usage_usec 7\nnr_periods 9\nnr_throttled 4\nthrottled_usec 6\n";
        let throttling = parse_throttling(second);
        assert_eq!(throttling, Throttling { count: 4, stopped_ns: 6000 });
        let notice = throttling.notice_since(Throttling { count: 3, stopped_ns: 1000 });
        assert_eq!(notice.map(|notice| notice.id), Some(NoticeId::CpuThrottled));
        assert_eq!(throttling.notice_since(throttling), None);
        assert_eq!(parse_throttling("nonsense\n\nnr_throttled x"), Throttling::default());
    }

    #[test]
    fn invalid_text_is_no_limit() {
        assert_eq!(parse_limits("x\n0:\n\n", &[]), Limits::default());
        assert_eq!(quota_cores("-1", "100000"), None);
        assert_eq!(quota_cores("1", "0"), None);
    }
}
