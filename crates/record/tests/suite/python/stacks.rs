//! Shares, lines and merged stacks of one process.

use simprof_record::Outcome;
use simprof_testkit::{python, pythons};

use super::support::{
    account, assert_counted_once, assert_share, count, count_calls, explain, profile,
    pythons_with_symbols, stack, stacks, times_share,
};
use crate::support::{Fixture, symbolised};

/// Spins three times as long in `heavy` as in `light`. Its steps have random lengths, so that they do not run in step with the sampling
/// clock. Prints the CPU time of both.
const SPIN: &str = "\
import random
from time import thread_time as now

class Model:
    def heavy(self, n):
        x = 0
        for i in range(3 * n):
            x += i * i
        return x

    def light(self, n):
        x = 0
        for i in range(n):
            x += i * i
        return x

    def step(self, n):
        begin = now()
        self.heavy(n)
        between = now()
        self.light(n)
        return between - begin, now() - between

def main():
    model = Model()
    times = []
    lengths = random.Random(1)
    for _ in range(600):
        times.append(model.step(lengths.randrange(5000, 15000)))
    print(*map(sum, zip(*times)))

if __name__ == '__main__':
    main()
";

#[test]
fn shares_and_lines_are_those_of_the_program() {
    let folder = Fixture::new();
    let script = folder.write("spin.py", SPIN);
    for python in pythons() {
        let python = python.text();
        let Some(profile) = profile(&folder, &[python, &script]) else { return };
        let (heavy, light) =
            (count(&profile, "spin.Model.heavy"), count(&profile, "spin.Model.light"));
        assert_share(&profile, heavy, light, times_share(&folder));
        let known = ["spin.<module>:33", "spin.main:29"];
        let mut whole = 0;
        for sample in &profile.samples {
            let stack = stack(&profile, sample);
            if stack.iter().any(|frame| frame.starts_with("spin.Model.heavy")) {
                whole += usize::from(stack[..2] == known && stack[2] == "spin.Model.step:19");
                let line: Vec<_> = stack[3].split(':').collect();
                assert!(["5", "6", "7", "8", "9"].contains(&line[1]), "{stack:?}");
            }
        }
        assert!(whole * 100 >= heavy * 99, "{whole} of {heavy}: {}", explain(&profile));
        let account = account(&profile);
        assert!(account.lost * 100 < account.samples, "{}", explain(&profile));
        assert!(account.unmerged * 100 < account.samples, "{}", explain(&profile));
        assert_eq!(account.interpreters.len(), 1);
    }
}

/// Calls the same native function from two lines, three times as long from one of them. Prints the CPU time of both.
const NATIVE: &str = "\
import random
import zlib
from time import thread_time as now
DATA = bytes(200000)
def checksum():
    times = []
    lengths = random.Random(1)
    for data in (DATA[lengths.randrange(100000):] for _ in range(4000)):
        thrice = data * 3
        begin = now()
        zlib.crc32(thrice)
        between = now()
        zlib.crc32(data)
        times.append((between - begin, now() - between))
    print(*map(sum, zip(*times)))
checksum()
";

#[test]
fn native_frames_are_callees_of_the_line_that_called_them() {
    let folder = Fixture::new();
    let script = folder.write("native.py", NATIVE);
    for python in pythons_with_symbols() {
        let python = python.text();
        let Some(profile) = profile(&folder, &[python, &script]) else { return };
        let (heavy, light) = (
            count_calls(&profile, "native.checksum:11", "zlib_crc32"),
            count_calls(&profile, "native.checksum:13", "zlib_crc32"),
        );
        assert_share(&profile, heavy, light, times_share(&folder));
        assert_eq!(count_calls(&profile, "native.checksum:8", "zlib_crc32"), 0);
    }
}

/// A Python function `key` that native code calls (`sorted`), which Python called.
const CALLBACK: &str = "\
def key(value):
    x = 0
    for i in range(200):
        x += i
    return value

def order():
    return sorted(range(4000), key=key)

class Holder:
    @property
    def value(self):
        return order()

for _ in range(30):
    Holder().value
";

#[test]
fn informative_native_frames_between_python_frames_are_kept() {
    let folder = Fixture::new();
    let script = folder.write("callback.py", CALLBACK);
    for python in pythons_with_symbols() {
        let python = python.text();
        let Some(profile) = profile(&folder, &[python, &script]) else { return };
        let mut seen = 0;
        for (stack, count) in stacks(&profile) {
            let Some(at) = stack.iter().position(|frame| frame.starts_with("callback.key")) else {
                continue;
            };
            let before: Vec<_> = stack[..at].iter().map(String::as_str).collect();
            let expected = [
                "callback.<module>:16",
                "callback.Holder.value:13",
                "callback.order:8",
                "builtin_sorted",
            ];
            assert_eq!(before[..4], expected, "{stack:?}");
            assert!(before[4..].iter().all(|frame| frame.starts_with("list_sort")), "{stack:?}");
            seen += count;
        }
        assert!(seen > 200, "{}", explain(&profile));
    }
}

/// Recurses deeper than the copied part of the native stack, in versions in which each Python call is a native call.
const DEEP: &str = "\
def bottom():
    x = 0
    for i in range(12000000):
        x += i

def recurse(depth):
    if depth == 0:
        bottom()
    else:
        recurse(depth - 1)

recurse(300)
";

#[test]
fn a_deep_recursion_is_completed_to_its_root() {
    let folder = Fixture::new();
    let script = folder.write("deep.py", DEEP);
    for python in pythons() {
        let python = python.text();
        let Some(profile) = profile(&folder, &[python, &script]) else { return };
        let mut seen = 0;
        for (stack, count) in stacks(&profile) {
            if stack.iter().any(|frame| frame.starts_with("deep.bottom")) {
                assert_eq!(stack[0], "deep.<module>:12", "{stack:?}");
                let depth = stack.iter().filter(|f| f.starts_with("deep.recurse")).count();
                assert_eq!(depth, 301, "{stack:?}");
                assert!(stack[1..301].iter().all(|frame| frame == "deep.recurse:10"), "{stack:?}");
                seen += count;
            }
        }
        assert!(seen > 100, "{}", explain(&profile));
        assert!(profile.provenance.truncated < 20, "{}", explain(&profile));
        assert!(account(&profile).unmerged < 5, "{}", explain(&profile));
    }
}

/// Works in a generator that a comprehension consumes.
const GENERATOR: &str = "\
def squares(n):
    for i in range(n):
        x = 0
        for j in range(300):
            x += j * j
        yield x

def total():
    return sum([value for value in squares(60000)])

total()
";

#[test]
fn a_generator_is_a_callee_of_its_consumer() {
    let folder = Fixture::new();
    let script = folder.write("generator.py", GENERATOR);
    for python in pythons() {
        let python = python.text();
        let Some(profile) = profile(&folder, &[python, &script]) else { return };
        let mut correct = 0;
        let samples = count(&profile, "generator.squares");
        for (stack, count) in stacks(&profile) {
            let Some(at) = stack.iter().position(|f| f.starts_with("generator.squares")) else {
                continue;
            };
            // From 3.12 on, comprehensions are part of the function around them.
            let is_correct = match &stack[..at] {
                [module, total] | [module, total, _] => {
                    module == "generator.<module>:11" && total == "generator.total:9"
                }
                _ => false,
            };
            correct += usize::from(is_correct) * count;
        }
        assert!(samples > 200 && correct == samples, "{correct}: {}", explain(&profile));
    }
}

/// Fills a database and queries it.
const DATABASE: &str = "\
import sqlite3
connection = sqlite3.connect(':memory:')
connection.execute('CREATE TABLE t (a INTEGER, b TEXT)')
connection.executemany('INSERT INTO t VALUES (?, ?)', ((i, str(i)) for i in range(20000)))
def query():
    for _ in range(60):
        connection.execute('SELECT count(*) FROM t WHERE b LIKE ?', ('%77%',)).fetchone()
query()
";

#[test]
fn sqlite_is_a_callee_of_the_line_with_the_query() {
    let folder = Fixture::new();
    let script = folder.write("database.py", DATABASE);
    let Some(profile) = profile(&folder, &[python().text(), &script]) else { return };
    let mut in_sqlite = 0;
    for (stack, count) in stacks(&profile) {
        let line = stack.iter().position(|frame| frame == "database.query:7");
        if line.is_some_and(|line| stack[line..].iter().any(|f| f.contains("sqlite3_step"))) {
            in_sqlite += count;
        }
    }
    assert!(in_sqlite > 50, "{}", explain(&profile));
}

#[test]
fn no_time_is_counted_twice() {
    let folder = Fixture::new();
    let script = folder.write("spin.py", SPIN);
    // If a shell starts it, the process has inherited events, and its own events for Python frames.
    let python = python();
    let command = format!("{} {script}; exit 0", python.text());
    for argv in [&[python.text(), &script][..], &["/bin/sh", "-c", &command]] {
        let Some(profile) = profile(&folder, argv) else { return };
        assert_counted_once(&profile, 0.08);
        let recorded = profile.samples.len() as f64;
        assert!(account(&profile).samples as f64 > 0.8 * recorded, "{}", explain(&profile));
    }
}

#[test]
fn samples_of_the_profilers_own_work_are_excluded() {
    let folder = Fixture::new();
    let script = "def own():\n    x = 0\n    for i in range(6000000):\n        x += sum((i, x & 1))\nown()\n";
    let program = "def work():\n    x = 0\n    for i in range(6000000):\n        x += sum((i, x & 1))\nwork()\n";
    let file = folder.write("plain.py", program);
    for python in pythons() {
        let python = python.text();
        let mut plan = folder.python_plan(&[python, &file]);
        plan.preload.script = Some(script.to_owned());
        let Some(profile) = symbolised(&plan, Outcome::Exited(0)) else { return };
        let python_account = account(&profile);
        assert!(
            python_account.own > 50 && count(&profile, "plain.work") > 50,
            "{}",
            explain(&profile)
        );
        let is_own = |name: &str| name.contains("simprof") || name.contains(".own:");
        for (stack, _) in stacks(&profile) {
            assert!(!stack.iter().any(|name| is_own(name)), "{stack:?}");
        }
        let kept = profile.samples.len() as u64;
        assert_eq!(kept + python_account.own, profile.provenance.samples, "{}", explain(&profile));
    }
}
