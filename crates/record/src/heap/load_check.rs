//! Finds processes of the target that did not load the library, so that a notice reports that their memory is missing.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::os::unix::fs::MetadataExt;

use simprof_model::{Notice, NoticeId};

use crate::preload::HEAP;
use crate::{program, tree};

/// How often the processes are checked, ns. Processes that live for a shorter time may be missed.
const CHECK_INTERVAL_NS: u64 = 50_000_000;
/// How soon they are checked again while one is suspected, ns.
const RECHECK_INTERVAL_NS: u64 = 10_000_000;
/// Maximum number of names that are kept.
const MAX_NAMES: usize = 5;

/// The check of the target's processes.
#[derive(Debug, Default)]
pub struct LoadCheck {
    checked_ns: u64,
    has_suspects: bool,
    images: HashMap<Identity, Verdict>,
    found: Unrecorded,
}

/// Process images that were not recorded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unrecorded {
    pub count: u64,
    /// Names of some of them, each once.
    pub names: BTreeSet<String>,
}

/// Identifies a process image: by the process and its start time and, since an exec keeps both, by its program and the
/// random addresses of its code and stack.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Identity {
    pid: u32,
    /// Start time, start of the code, and start of the stack.
    stat: [u64; 3],
    /// Device and inode.
    program: (u64, u64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// The library is loaded, or two checks found that it is not.
    Settled,
    /// One check found that it is not loaded.
    Suspected,
}

/// What a process has mapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loaded {
    /// The preload library.
    Library,
    /// Other libraries, but not the preload library, which the loader would have loaded first.
    Others,
    /// Only the program and possibly its loader: it may still be starting.
    Program,
    Nothing,
}

impl LoadCheck {
    /// Checks all descendants of `guardian`, at most once per [`CHECK_INTERVAL_NS`].
    pub fn update(&mut self, guardian: u32, now_ns: u64) {
        let interval = if self.has_suspects { RECHECK_INTERVAL_NS } else { CHECK_INTERVAL_NS };
        if now_ns.saturating_sub(self.checked_ns) < interval {
            return;
        }
        self.checked_ns = now_ns;
        // A child that the guardian has forked but that has not executed the target is not part of the target.
        let own = program_of(guardian);
        let before = std::mem::take(&mut self.images);
        for pid in tree::descendants(guardian) {
            let identity = identity(pid).filter(|identity| Some(identity.program) != own);
            let Some(identity) = identity else { continue };
            let verdict = match before.get(&identity) {
                Some(Verdict::Settled) => Some(Verdict::Settled),
                earlier => self.judge(pid, earlier.is_some()),
            };
            if let Some(verdict) = verdict {
                self.images.insert(identity, verdict);
            }
        }
        self.has_suspects = self.images.values().any(|verdict| *verdict == Verdict::Suspected);
    }

    /// Checks one process; `None` if it is still starting.
    fn judge(&mut self, pid: u32, is_suspected: bool) -> Option<Verdict> {
        let maps = fs::read(format!("/proc/{pid}/maps")).ok()?;
        match loaded(&String::from_utf8_lossy(&maps)) {
            Loaded::Library => return Some(Verdict::Settled),
            Loaded::Others => {}
            Loaded::Program if is_static(pid) => {}
            Loaded::Program | Loaded::Nothing => return None,
        }
        if !is_suspected {
            return Some(Verdict::Suspected);
        }
        self.found.count += 1;
        if self.found.names.len() < MAX_NAMES {
            self.found.names.insert(tree::name(pid));
        }
        Some(Verdict::Settled)
    }

    pub fn finish(self) -> Unrecorded {
        self.found
    }
}

impl Unrecorded {
    /// Returns a notice if some processes were not recorded.
    pub fn notice(&self) -> Option<Notice> {
        let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
        let what = match self.count {
            0 => return None,
            1 => "1 process was".to_owned(),
            count => format!("{count} processes were"),
        };
        let more = if self.count > names.len() as u64 { " and others" } else { "" };
        let text = format!(
            "{what} not recorded, so memory is missing: {}{more}. The library was not loaded there: the program is linked \
             statically, or LD_PRELOAD was cleared or replaced.",
            names.join(", ")
        );
        Some(Notice::new(NoticeId::HeapProcessesUnrecorded, text))
    }
}

/// Returns what a process has mapped, from its /proc/PID/maps.
fn loaded(maps: &str) -> Loaded {
    let mut found = Loaded::Nothing;
    for line in maps.lines() {
        let mut fields = line.splitn(6, ' ');
        let (Some(access), Some(path)) = (fields.nth(1), fields.nth(3)) else { continue };
        let path = path.trim_start();
        if !path.starts_with('/') {
            continue;
        }
        let name = path.rsplit('/').next().unwrap_or(path);
        if HEAP.is_mapped_as(path) {
            return Loaded::Library;
        }
        let is_other = access.contains('x') && name.contains(".so") && !name.starts_with("ld");
        if is_other {
            found = Loaded::Others;
        } else if found == Loaded::Nothing {
            found = Loaded::Program;
        }
    }
    found
}

/// Returns whether a process runs a statically linked program.
fn is_static(pid: u32) -> bool {
    let program = fs::read(format!("/proc/{pid}/exe"));
    program.is_ok_and(|data| data.starts_with(b"\x7fELF") && program::is_static(&data))
}

/// Returns device and inode of the program that a process runs.
fn program_of(pid: u32) -> Option<(u64, u64)> {
    fs::metadata(format!("/proc/{pid}/exe")).ok().map(|file| (file.dev(), file.ino()))
}

fn identity(pid: u32) -> Option<Identity> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let end = stat.iter().rposition(|&byte| byte == b')')?;
    let fields: Vec<&str> =
        std::str::from_utf8(&stat[end + 1..]).ok()?.split_whitespace().collect();
    // Fields are numbered as in proc(5); the first one after the name has number 3.
    let field = |number: usize| fields.get(number - 3)?.parse().ok();
    Some(Identity { pid, stat: [field(22)?, field(26)?, field(28)?], program: program_of(pid)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loaded_files_are_found_in_the_maps() {
        let line =
            |access: &str, path: &str| format!("7f00-7f01 {access} 00000000 08:01 12    {path}\n");
        let program = line("r-xp", "/bin/a b");
        let loader = line("r-xp", "/lib/ld-linux-x86-64.so.2");
        let libc = line("r-xp", "/lib/libc.so.6");
        let library = line("r--p", "/memfd:simprof-heap-library (deleted)");
        let file = line("r--p", "/tmp/simprof-preload-1-0/libsimprof_heap.so");
        let stack = "7f00-7f01 rw-p 00000000 00:00 0    [stack]\n7f00-7f01 rw-p 00000000 00:00 0\n";
        let table = [
            (vec![stack], Loaded::Nothing),
            (vec![&program, &loader, stack], Loaded::Program),
            (vec![&program, &loader, &library], Loaded::Library),
            (vec![&program, &loader, &libc, stack], Loaded::Others),
            (vec![&program, &libc, &file], Loaded::Library),
        ];
        for (lines, expected) in table {
            assert_eq!(loaded(&lines.concat()), expected, "{lines:?}");
        }
    }

    #[test]
    fn a_process_without_the_library_is_found_once_and_at_the_second_check() {
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().expect("sleep");
        let mut check = LoadCheck::default();
        // Wait until it has loaded its libraries.
        while check.judge(child.id(), false) != Some(Verdict::Suspected) {
            std::thread::yield_now();
        }
        let found_before = check.found.clone();
        let first = identity(child.id());
        let verdict = check.judge(child.id(), true);
        let second = identity(child.id());
        child.kill().expect("it is ours");
        child.wait().expect("it is ours");
        assert_eq!(found_before, Unrecorded::default());
        assert_eq!(verdict, Some(Verdict::Settled));
        assert!(first.is_some() && first == second);
        let found = check.finish();
        assert_eq!(found.count, 1);
        let notice = found.notice().expect("a notice");
        assert!(notice.text.contains(": sleep."), "{notice}");
        assert_eq!(Unrecorded::default().notice(), None);
    }
}
