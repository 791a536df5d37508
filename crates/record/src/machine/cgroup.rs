//! Limits of control groups, of version 1 or 2, that apply to this process.

use std::fs;
use std::path::{Path, PathBuf};

use procfs::FromRead;
use procfs::process::{MountInfo, MountInfos};

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
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let mounts = MountInfos::from_file("/proc/self/mountinfo").map(|infos| infos.0);
    parse_limits(&groups, &mounts.unwrap_or_default())
}

fn parse_limits(groups: &str, mounts: &[MountInfo]) -> Limits {
    let mut limits = Limits::default();
    for line in groups.lines() {
        // Such as `4:cpu,cpuacct:/path`, or `0::/path` in version 2.
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let controllers: Vec<&str> = controllers.split(',').collect();
        for mount in mounts.iter().filter(|mount| has_controller(mount, &controllers)) {
            for folder in folders(mount, path) {
                tighten(&mut limits.cpus, cpus(&folder));
                tighten(&mut limits.memory_bytes, memory_bytes(&folder));
            }
        }
    }
    limits
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
    fn invalid_text_is_no_limit() {
        assert_eq!(parse_limits("x\n0:\n\n", &[]), Limits::default());
        assert_eq!(quota_cores("-1", "100000"), None);
        assert_eq!(quota_cores("1", "0"), None);
    }
}
