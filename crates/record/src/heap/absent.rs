//! Processes of the target that the library was not loaded into: their memory is missing, which a reader must be told.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::os::unix::fs::MetadataExt;

use simprof_model::{Notice, NoticeId};

use crate::preload::HEAP;
use crate::{program, tree};

/// How often the processes are looked at, ns: one that lives shorter may be missed.
const LOOK_NS: u64 = 50_000_000;
/// How soon they are looked at again where one is suspected, ns.
const LOOK_AGAIN_NS: u64 = 10_000_000;
/// How many names are kept.
const NAMES: usize = 5;

/// What is known of the target's processes.
#[derive(Debug, Default)]
pub struct Absent {
    looked_ns: u64,
    has_suspects: bool,
    images: HashMap<Identity, Verdict>,
    found: Unrecorded,
}

/// Process images that were not recorded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unrecorded {
    pub count: u64,
    /// Names of some, each once.
    pub names: BTreeSet<String>,
}

/// Tells a process image from every other: the process, when it started, and, since an exec keeps both, its program and where its
/// arguments are, which is random for each image.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Identity {
    pid: u32,
    stat: [u64; 3],
    program: (u64, u64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// The library is there, or it was found for the second time that it is not.
    Settled,
    /// It is not there, as was seen once.
    Suspected,
}

/// What a process has loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loaded {
    Library,
    /// Other libraries, before which the loader would have loaded it.
    Others,
    /// Its program, and its loader at most: it may be about to start.
    Program,
    Nothing,
}

impl Absent {
    /// Looks, now and then, at all that descends from `guardian`.
    pub fn look(&mut self, guardian: u32, now_ns: u64) {
        let interval = if self.has_suspects { LOOK_AGAIN_NS } else { LOOK_NS };
        if now_ns.saturating_sub(self.looked_ns) < interval {
            return;
        }
        self.looked_ns = now_ns;
        // What the guardian forked and what has not become another program yet is none of the target's.
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

    /// None where it cannot be told yet.
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
        if self.found.names.len() < NAMES {
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
            "{what} not recorded, so their memory is missing: {}{more}. The library was not loaded there: the program is linked statically, \
             or LD_PRELOAD was cleared or replaced.",
            names.join(", ")
        );
        Some(Notice::new(NoticeId::HeapProcessesUnrecorded, text))
    }
}

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

/// Whether a process runs a program that needs no loader.
fn is_static(pid: u32) -> bool {
    let program = fs::read(format!("/proc/{pid}/exe"));
    program.is_ok_and(|data| data.starts_with(b"\x7fELF") && program::loader(&data).is_none())
}

/// Device and inode of what a process runs.
fn program_of(pid: u32) -> Option<(u64, u64)> {
    fs::metadata(format!("/proc/{pid}/exe")).ok().map(|file| (file.dev(), file.ino()))
}

fn identity(pid: u32) -> Option<Identity> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let end = stat.iter().rposition(|&byte| byte == b')')?;
    let fields: Vec<&str> =
        std::str::from_utf8(&stat[end + 1..]).ok()?.split_whitespace().collect();
    // Numbered as in proc(5), of which the first here is the third: start time, start of the code, start of the stack.
    let field = |number: usize| fields.get(number - 3)?.parse().ok();
    Some(Identity { pid, stat: [field(22)?, field(26)?, field(28)?], program: program_of(pid)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_loaded_is_told_from_the_maps() {
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
    fn a_process_without_the_library_is_found_at_the_second_look_and_once() {
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().expect("sleep");
        let mut absent = Absent::default();
        // Not before it has started.
        while absent.judge(child.id(), false) != Some(Verdict::Suspected) {
            std::thread::yield_now();
        }
        let none_yet = absent.found.clone();
        let first = identity(child.id());
        let verdict = absent.judge(child.id(), true);
        let second = identity(child.id());
        child.kill().expect("it is ours");
        child.wait().expect("it is ours");
        assert_eq!(none_yet, Unrecorded::default());
        assert_eq!(verdict, Some(Verdict::Settled));
        assert!(first.is_some() && first == second);
        let found = absent.finish();
        assert_eq!(found.count, 1);
        let notice = found.notice().expect("a notice");
        assert!(notice.text.contains(": sleep."), "{notice}");
        assert_eq!(Unrecorded::default().notice(), None);
    }
}
