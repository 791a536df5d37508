//! Names of code that a runtime generates while the program runs, from the map file that it writes for profilers.
//!
//! Each line of `/tmp/perf-PID.map` is `START SIZE NAME`, with numbers in hexadecimal (Linux, tools/perf/Documentation/jit-interface.txt).
//! A later line replaces earlier ones at the same addresses. The file is read while the program runs, so that an address has
//! the name that was valid when it was sampled.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use super::map_file::MapFile;

/// Longer names are cut.
const LONGEST_NAME: usize = 4096;
/// Time between two looks at a file, ns.
const INTERVAL_NS: u64 = 10_000_000;
/// Most times that a file is read at the last look: a gigabyte of text.
const LAST_READS: usize = 16;

/// A function of generated code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct GeneratedFunction {
    pub start: u64,
    pub end: u64,
    pub name: Arc<str>,
}

/// The functions that one process has listed so far.
#[derive(Debug, Default)]
pub(super) struct PerfMap {
    /// By start. A forked process shares those of its parent until it adds some.
    functions: Arc<BTreeMap<u64, GeneratedFunction>>,
    file: MapFile,
    /// A line of which the end is not written yet.
    rest: Vec<u8>,
    looked_ns: u64,
}

impl PerfMap {
    /// Returns the map of a process that was just forked from the process of this one.
    pub fn forked(&self) -> Self {
        Self { functions: Arc::clone(&self.functions), ..Self::default() }
    }

    /// Reads what process `pid` has written to its file, unless that was done shortly before `now_ns`. Returns whether there was
    /// something. Names that a file written anew does not list stay: it may be incomplete at this moment.
    pub fn refresh(&mut self, pid: u32, now_ns: u64, started: SystemTime) -> bool {
        if now_ns < self.looked_ns.saturating_add(INTERVAL_NS) {
            return false;
        }
        self.looked_ns = now_ns;
        self.read(pid, started)
    }

    /// Reads all that process `pid` has written to its file, for the last time. Returns whether there was something.
    pub fn finish(&mut self, pid: u32, started: SystemTime) -> bool {
        (0..LAST_READS).take_while(|_| self.read(pid, started)).count() > 0
    }

    fn read(&mut self, pid: u32, started: SystemTime) -> bool {
        let Some(text) = self.file.added(pid, started) else { return false };
        if text.from_start {
            self.rest.clear();
        }
        if !text.bytes.is_empty() {
            self.add(&text.bytes);
        }
        !text.bytes.is_empty()
    }

    /// Adds text from the file.
    fn add(&mut self, added: &[u8]) {
        let mut text = std::mem::take(&mut self.rest);
        text.extend_from_slice(added);
        let functions = Arc::make_mut(&mut self.functions);
        let mut lines = text.split(|&byte| byte == b'\n');
        self.rest = lines.next_back().map(<[u8]>::to_vec).unwrap_or_default();
        for function in lines.filter_map(parse) {
            insert(functions, function);
        }
    }

    /// Returns the function at an address.
    pub fn at(&self, address: u64) -> Option<&GeneratedFunction> {
        let (_, function) = self.functions.range(..=address).next_back()?;
        (address < function.end).then_some(function)
    }
}

/// Adds a function in place of those that it overlaps.
fn insert(functions: &mut BTreeMap<u64, GeneratedFunction>, function: GeneratedFunction) {
    let before = functions.range(..function.start).next_back().map(|(&start, _)| start);
    if let Some(before) = before.and_then(|start| functions.get_mut(&start)) {
        before.end = before.end.min(function.start);
    }
    let replaced: Vec<u64> =
        functions.range(function.start..function.end).map(|(&start, _)| start).collect();
    for start in replaced {
        functions.remove(&start);
    }
    functions.insert(function.start, function);
}

fn parse(line: &[u8]) -> Option<GeneratedFunction> {
    let text = String::from_utf8_lossy(line);
    let (start, rest) = text.trim_start().split_once(' ')?;
    let (size, name) = rest.trim_start().split_once(' ')?;
    let number = |text: &str| u64::from_str_radix(text.trim_start_matches("0x"), 16).ok();
    let (start, name) = (number(start)?, name.trim());
    let end = start.checked_add(number(size)?)?;
    let length = name.floor_char_boundary(LONGEST_NAME);
    let is_function = start < end && !name.is_empty();
    is_function.then(|| GeneratedFunction { start, end, name: name[..length].into() })
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Seek, SeekFrom, Write};

    use super::super::map_file::LARGEST_READ;
    use super::*;

    fn names(map: &PerfMap, addresses: &[u64]) -> Vec<Option<String>> {
        let name = |&address: &u64| map.at(address).map(|function| function.name.to_string());
        addresses.iter().map(name).collect()
    }

    #[test]
    fn later_lines_replace_earlier_ones_at_the_same_addresses() {
        let mut map = PerfMap::default();
        map.add(b"1000 20 old version\n1020 10 beta;with[semicolon]\n0x1100 0x10 hexadecimal\n");
        let old = |text: &str| Some(text.to_owned());
        let addresses = [0xfff, 0x1000, 0x101f, 0x1020, 0x102f, 0x1030, 0x110f];
        let expected = [
            None,
            old("old version"),
            old("old version"),
            old("beta;with[semicolon]"),
            old("beta;with[semicolon]"),
            None,
            old("hexadecimal"),
        ];
        assert_eq!(names(&map, &addresses), expected);
        let mut child = map.forked();
        map.add(b"1000 10 new\n");
        assert_eq!(names(&map, &[0x1000, 0x1010]), [old("new"), None]);
        map.add(b"1008 20 moved\n");
        assert_eq!(
            names(&map, &[0x1007, 0x1008, 0x1027, 0x1028]),
            [old("new"), old("moved"), old("moved"), None]
        );
        child.add(b"1020 1 own\n");
        assert_eq!(names(&child, &[0x1000, 0x1020]), [old("old version"), old("own")]);
    }

    #[test]
    fn lines_are_read_as_they_are_written() {
        let mut map = PerfMap::default();
        let text = "1000 10 LazyCompile:*alpha step, sim.js:12 (tier 2)\n2000 10 caf\u{e9}\tb\n";
        for byte in text.as_bytes() {
            assert!(map.at(0x2000).is_none());
            map.add(&[*byte]);
        }
        let expected = ["LazyCompile:*alpha step, sim.js:12 (tier 2)", "caf\u{e9}\tb"];
        assert_eq!(names(&map, &[0x1000, 0x2000]), expected.map(|name| Some(name.to_owned())));
    }

    #[test]
    fn bad_lines_are_skipped_and_long_names_cut() {
        let mut map = PerfMap::default();
        let long = "x".repeat(LONGEST_NAME + 10);
        let bad = [
            "",
            "zz 10 a",
            "1000",
            "1000 10",
            "1000 10 ",
            "1000 0 a",
            "ffffffffffffffff 2 a",
            "\u{1}",
        ];
        for line in bad {
            map.add(format!("{line}\n").as_bytes());
        }
        assert!(map.functions.is_empty(), "{:?}", map.functions);
        map.add(format!("1000 10 {long}\n").as_bytes());
        map.add(b"2000 10 bad\xff\n");
        assert_eq!(map.at(0x1000).expect("named").name.len(), LONGEST_NAME);
        assert_eq!(names(&map, &[0x2000]), [Some("bad\u{fffd}".to_owned())]);
    }

    #[test]
    fn the_last_look_reads_all_of_a_large_file() {
        let pid = std::process::id();
        let path = tempfile::TempPath::try_from_path(format!("/tmp/perf-{pid}.map"))
            .expect("an absolute path");
        let mut file = File::create(&path).expect("created");
        file.seek(SeekFrom::Start(LARGEST_READ as u64 + 10)).expect("it can be sparse");
        file.write_all(b"\n1000 10 last\n").expect("written");
        let (mut map, started) = (PerfMap::default(), SystemTime::now());
        assert!(map.refresh(pid, INTERVAL_NS, started));
        assert_eq!(names(&map, &[0x1000]), [None]);
        assert!(map.finish(pid, started));
        assert_eq!(names(&map, &[0x1000]), [Some("last".to_owned())]);
        assert!(!map.finish(pid, started));
    }
}
