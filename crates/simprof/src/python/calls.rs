//! What a traced run counted, from the files that its processes wrote.
//!
//! A program that was started and all that was forked from it share a file of records: a line `WHAT PROCESS LENGTH`, and
//! as many bytes. `begun` owes one of the others: `counts`, `mixed` (counts of several threads, whose times are worth
//! nothing), or `yielded`.

use simprof_model::CallProfile;
use simprof_record::import::{Imported, import};

use super::Told;

/// Calls of all processes of a run.
#[derive(Debug, Default)]
pub struct Counted {
    /// All of them together.
    pub profile: CallProfile,
    /// Processes that told their counts.
    pub processes: usize,
    /// Processes that ended before they could, or whose counts cannot be read.
    pub lost: usize,
    /// Processes that were not counted since the program profiles itself, and the interpreter takes one profiler only.
    pub yielded: usize,
    /// Whether the times are worth nothing: a process had several threads, whose calls its tracer took for those of one.
    pub untimed: bool,
}

/// Reads what the text wrote.
pub fn counted(told: &Told) -> Counted {
    let mut counted = Counted::default();
    let mut profiles = Vec::new();
    for (_, content) in told.files("calls-") {
        counted.read(&content, &mut profiles);
    }
    counted.processes = profiles.len();
    counted.profile = CallProfile::sum(&profiles);
    counted
}

impl Counted {
    /// Adds one file. A record that is cut short hides those behind it, and whoever has begun is then held for lost.
    fn read(&mut self, content: &[u8], profiles: &mut Vec<CallProfile>) {
        let (mut begun, mut told) = (0_usize, 0_usize);
        let mut records = Records(content);
        for (what, payload) in &mut records {
            match (what, import(payload)) {
                ("begun", _) => begun += 1,
                ("yielded", _) => {
                    told += 1;
                    self.yielded += 1;
                }
                ("counts" | "mixed", Ok((_, Imported::Calls(profile)))) => {
                    told += 1;
                    self.untimed |= what == "mixed";
                    profiles.push(profile);
                }
                _ => {}
            }
        }
        let cut = usize::from(!records.0.is_empty());
        self.lost += begun.saturating_sub(told).max(cut);
    }
}

/// The records of a file, and behind the last whole one the rest.
struct Records<'a>(&'a [u8]);

impl<'a> Iterator for Records<'a> {
    type Item = (&'a str, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let end = self.0.iter().position(|&byte| byte == b'\n')?;
        let mut words = std::str::from_utf8(&self.0[..end]).ok()?.split(' ');
        let (what, _process) = (words.next()?, words.next()?);
        let length: usize = words.next()?.parse().ok()?;
        let (payload, rest) = self.0[end + 1..].split_at_checked(length)?;
        self.0 = rest;
        Some((what, payload))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of one process and one function, as the interpreter's `marshal` writes it: `{("a.py", 1, "f"): (2, 3, 0.0, 0.0, {})}`.
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

    fn record(what: &str, payload: &[u8]) -> Vec<u8> {
        [format!("{what} 7 {}\n", payload.len()).as_bytes(), payload].concat()
    }

    fn read(files: &[Vec<u8>]) -> Counted {
        let place = tempfile::tempdir().expect("a temporary folder");
        let told = Told::create(&place.path().join("log")).expect("a folder");
        for (number, content) in files.iter().enumerate() {
            let path = told.0.join(format!("calls-7-{number}"));
            std::fs::write(path, content).expect("the file is written");
        }
        counted(&told)
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
    fn what_other_processes_do_to_the_folder_costs_no_counts() {
        let place = tempfile::tempdir().expect("a temporary folder");
        let told = Told::create(&place.path().join("log")).expect("a folder");
        // As where another process has made, or is making, the same file.
        std::fs::create_dir(told.0.join("ran")).expect("it is made");
        let run = "import sys; exec(compile(sys.argv[1], '<simprof>', 'exec'), {})";
        let status = std::process::Command::new("python3")
            .args(["-c", run, &told.calls_script()])
            .status()
            .expect("python3 runs");
        let found = counted(&told);
        assert!(status.success());
        assert_eq!((found.processes, found.lost), (1, 0));
    }
}
