//! Reads the call counts of a traced run from the files that its processes wrote.
//!
//! A program and all processes forked from it share one file of records: a line `KIND PROCESS
//! LENGTH`, followed by LENGTH bytes. Each process writes `begun` at its start and one of the
//! others at its end: `counts`, `mixed` (counts of several threads, with meaningless times) or
//! `yielded` (the program uses its own profiler).

use simprof_model::CallProfile;
use simprof_record::import::{Imported, import};

use super::ScriptFolder;

/// Call counts of a run.
#[derive(Debug, Default)]
pub struct CallCounts {
    /// Calls of all processes.
    pub profile: CallProfile,
    /// Number of processes that reported their counts.
    pub processes: usize,
    /// Number of processes that ended without reporting, or whose counts cannot be read.
    pub lost: usize,
    /// Number of processes that were not counted because the program profiles itself, and the
    /// interpreter supports only one profiler.
    pub yielded: usize,
    /// True if the times are meaningless: a process had several threads, and its tracer merged
    /// their calls.
    pub untimed: bool,
}

/// Reads the files in the folder of the script.
pub fn read_call_counts(folder: &ScriptFolder) -> CallCounts {
    let mut counts = CallCounts::default();
    let mut profiles = Vec::new();
    for (_, content) in folder.files("calls-") {
        counts.read(&content, &mut profiles);
    }
    counts.processes = profiles.len();
    counts.profile = CallProfile::sum(&profiles);
    counts
}

impl CallCounts {
    /// Adds one file. A truncated record hides those after it; processes that began but have no
    /// complete record count as lost.
    fn read(&mut self, content: &[u8], profiles: &mut Vec<CallProfile>) {
        let (mut begun, mut reported) = (0_usize, 0_usize);
        let mut records = Records(content);
        for (kind, payload) in &mut records {
            match (kind, import(payload)) {
                ("begun", _) => begun += 1,
                ("yielded", _) => {
                    reported += 1;
                    self.yielded += 1;
                }
                ("counts" | "mixed", Ok((_, Imported::Calls(profile)))) => {
                    reported += 1;
                    self.untimed |= kind == "mixed";
                    profiles.push(profile);
                }
                _ => {}
            }
        }
        let truncated = usize::from(!records.0.is_empty());
        self.lost += begun.saturating_sub(reported).max(truncated);
    }
}

/// Iterates over the complete records of a file. Afterwards it contains the rest.
struct Records<'a>(&'a [u8]);

impl<'a> Iterator for Records<'a> {
    type Item = (&'a str, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let end = self.0.iter().position(|&byte| byte == b'\n')?;
        let mut words = std::str::from_utf8(&self.0[..end]).ok()?.split(' ');
        let (kind, _process) = (words.next()?, words.next()?);
        let length: usize = words.next()?.parse().ok()?;
        let (payload, rest) = self.0[end + 1..].split_at_checked(length)?;
        self.0 = rest;
        Some((kind, payload))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The counts of one function in the format of the interpreter's `marshal`: `{("a.py", 1, "f"):
    /// (2, 3, 0.0, 0.0, {})}`.
    fn marshalled() -> Vec<u8> {
        let text = |text: &str| {
            let length = u32::try_from(text.len()).expect("it is short").to_le_bytes();
            [b"u", &length[..], text.as_bytes()].concat()
        };
        let number = |number: i32| [b"i", &number.to_le_bytes()[..]].concat();
        let real = [b"g", &0_f64.to_le_bytes()[..]].concat();
        let tuple = |items: &[Vec<u8>]| {
            let length = u32::try_from(items.len()).expect("it is short").to_le_bytes();
            [b"(", &length[..], &items.concat()].concat()
        };
        let key = tuple(&[text("a.py"), number(1), text("f")]);
        let empty = b"{0".to_vec();
        let value = tuple(&[number(2), number(3), real.clone(), real, empty]);
        [b"{", &key[..], &value, b"0"].concat()
    }

    fn record(kind: &str, payload: &[u8]) -> Vec<u8> {
        [format!("{kind} 7 {}\n", payload.len()).as_bytes(), payload].concat()
    }

    fn read(files: &[Vec<u8>]) -> CallCounts {
        let directory = tempfile::tempdir().expect("a temporary folder");
        let folder = ScriptFolder::create(&directory.path().join("log")).expect("a folder");
        for (number, content) in files.iter().enumerate() {
            let path = folder.0.join(format!("calls-7-{number}"));
            std::fs::write(path, content).expect("the file is written");
        }
        read_call_counts(&folder)
    }

    #[test]
    fn every_process_that_began_is_counted_yielded_or_lost() {
        let begun = record("begun", b"");
        let counts = record("counts", &marshalled());
        for (content, expected) in [
            (vec![], [0, 0, 0]),
            (vec![&begun], [0, 1, 0]),
            (vec![&begun, &counts], [1, 0, 0]),
            (vec![&begun, &begun, &counts], [1, 1, 0]),
            (vec![&begun, &begun, &counts, &record("yielded", b"")], [1, 0, 1]),
            (vec![&begun, &record("counts", b"nonsense")], [0, 1, 0]),
            (vec![&begun, &counts[..counts.len() - 1].to_vec()], [0, 1, 0]),
            (vec![&counts[..9].to_vec()], [0, 1, 0]),
        ] {
            let content: Vec<u8> = content.into_iter().flatten().copied().collect();
            let found = read(std::slice::from_ref(&content));
            let text = String::from_utf8_lossy(&content);
            assert_eq!([found.processes, found.lost, found.yielded], expected, "{text:?}");
        }
    }

    #[test]
    fn files_are_summed_and_mixed_threads_have_no_times() {
        let [begun, counts] = [record("begun", b""), record("counts", &marshalled())];
        let one = [&begun[..], &counts].concat();
        let found = read(&[one.clone(), one.clone()]);
        assert_eq!((found.processes, found.profile.total_calls(), found.untimed), (2, 6, false));
        let mixed = [&begun[..], &record("mixed", &marshalled())].concat();
        assert!(read(&[one, mixed]).untimed);
    }

    #[test]
    fn existing_files_in_the_folder_do_not_lose_counts() {
        let directory = tempfile::tempdir().expect("a temporary folder");
        let folder = ScriptFolder::create(&directory.path().join("log")).expect("a folder");
        // As if another process had created, or was creating, the same file.
        std::fs::create_dir(folder.0.join("ran")).expect("the folder is created");
        let run = "import sys; exec(compile(sys.argv[1], '<simprof>', 'exec'), {})";
        let status = std::process::Command::new("python3")
            .args(["-c", run, &folder.calls_script()])
            .status()
            .expect("python3 runs");
        let found = read_call_counts(&folder);
        assert!(status.success());
        assert_eq!((found.processes, found.lost), (1, 0));
    }
}
