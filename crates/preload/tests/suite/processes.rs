//! Processes that request sampling, processes that do not, and processes whose requests fail.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::Ordering;

use simprof_preload::format::{feature, flag, reason, state};
use simprof_preload::supported::OLDEST_CPYTHON_MINOR;
use simprof_testkit::python::all_pythons;
use simprof_testkit::{Python, TestFolder, pythons};

use crate::support::{Memory, Options, Recording, record};

fn run(python: &Python, arguments: &[&str], options: Options) -> Recording {
    let mut command = Command::new(&python.path);
    command.args(arguments);
    record(command, options)
}

/// Returns the interpreter for tests that need only one.
fn one() -> Python {
    let pythons = pythons();
    pythons.iter().find(|python| python.version == (3, 11)).unwrap_or(&pythons[0]).clone()
}

fn text(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    format!("{} {}{}", output.status, String::from_utf8_lossy(out), String::from_utf8_lossy(err))
}

/// Returns the states of all slots that were used.
fn states(memory: &Memory) -> Vec<u32> {
    let slots = memory.processes().iter();
    let states = slots.map(|slot| slot.state.load(Ordering::Relaxed));
    states.filter(|state| *state != state::FREE).collect()
}

#[test]
fn nothing_fails_under_stress() {
    stress(2.0, 4000);
}

/// Runs for `SIMPROF_STRESS_SECONDS` seconds with each interpreter.
#[test]
#[ignore = "takes minutes"]
fn nothing_fails_under_long_stress() {
    let seconds = std::env::var("SIMPROF_STRESS_SECONDS").ok().and_then(|text| text.parse().ok());
    stress(seconds.unwrap_or(60.0), 10_000);
}

fn stress(seconds: f64, rate_hz: u64) {
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/programs/stress.py");
    for python in pythons() {
        let options = Options { rate_hz, ..Options::default() };
        let recording = run(&python, &[program, &seconds.to_string()], options);
        let output = text(&recording.output);
        assert!(recording.output.status.success(), "{python:?}: {output}");
        assert!(output.contains("done True"), "{python:?}: {output}");
        let mut flags = BTreeMap::<u32, usize>::new();
        for sample in &recording.samples {
            *flags.entry(sample.flags).or_default() += 1;
            // Every recorded stack can be decoded.
            recording.memory.stack(sample.node);
        }
        let all = recording.samples.len();
        let with = |bit: u32| {
            flags
                .iter()
                .filter(|(flags, _)| *flags & bit != 0)
                .map(|(_, count)| count)
                .sum::<usize>()
        };
        assert!(all > 100, "{python:?}: {all}");
        assert_eq!(with(flag::FULL), 0, "{python:?}");
        assert!(with(flag::UNREADABLE) * 50 < all, "{python:?}: {flags:?}");
    }
}

#[test]
fn a_program_without_python_is_not_sampled() {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "exec /bin/echo hello"]);
    let recording = record(command, Options::default());
    assert_eq!(text(&recording.output), "exit status: 0 hello\n");
    assert!(states(&recording.memory).is_empty());
    assert!(recording.samples.is_empty());
}

#[test]
fn a_process_without_an_answer_continues() {
    let options = Options { answers: false, ..Options::default() };
    let recording = run(&one(), &["-c", "print('on')"], options);
    assert_eq!(text(&recording.output), "exit status: 0 on\n");
    assert_eq!(states(&recording.memory), [state::UNSAMPLED]);
    assert!(recording.samples.is_empty());
}

#[test]
fn a_process_requests_sampling_only_if_frames_are_wanted() {
    let options = Options { features: feature::WAITS, ..Options::default() };
    let recording = run(&one(), &["-c", "sum(range(3000000))"], options);
    assert_eq!(text(&recording.output), "exit status: 0 ");
    assert_eq!(states(&recording.memory), [state::UNSAMPLED]);
}

#[test]
fn memory_with_another_layout_is_not_touched() {
    let python = one();
    let folder = TestFolder::new();
    let library = folder.write("library.so", simprof_preload::LIBRARY);
    for content in [&b"short"[..], &[0; 70_000]] {
        let other = folder.write("memory", content);
        for memory in [other.as_str(), "/nonexistent", "/", "/dev/null"] {
            let output = Command::new(&python.path)
                .args(["-c", "import signal; print(signal.getsignal(signal.SIGTRAP).name)"])
                .env("LD_PRELOAD", &library)
                .env("SIMPROF_PRELOAD", memory)
                .output()
                .expect("it can be started");
            assert_eq!(text(&output), "exit status: 0 SIG_DFL\n");
        }
        assert_eq!(std::fs::read(&other).expect("it exists"), content);
    }
}

#[test]
fn an_unhandled_trap_ends_the_process() {
    use std::os::unix::process::ExitStatusExt;
    let raised = "signal.raise_signal(signal.SIGTRAP)";
    let ignored = format!("signal.signal(signal.SIGTRAP, signal.SIG_IGN); {raised}");
    for (program, signal) in [(raised, Some(5)), (&ignored, None)] {
        let program = format!("import signal; {program}");
        let recording = run(&one(), &["-c", &program], Options::default());
        assert_eq!(recording.output.status.signal(), signal, "{}", text(&recording.output));
    }
}

/// Asserts that the program and the programs that it starts see the program's own settings of SIGTRAP.
const SETTINGS: &str = "
import os, signal, subprocess, sys
assert signal.getsignal(signal.SIGTRAP) == signal.SIG_DFL
before = signal.signal(signal.SIGTRAP, signal.SIG_IGN)
assert before == signal.SIG_DFL and signal.getsignal(signal.SIGTRAP) == signal.SIG_IGN
calls = []
assert signal.signal(signal.SIGTRAP, lambda *_: calls.append(1)) == signal.SIG_IGN
signal.raise_signal(signal.SIGTRAP)
assert calls == [1]
# A blocked trap is delivered when it is unblocked.
old = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTRAP])
assert signal.SIGTRAP not in old
signal.raise_signal(signal.SIGTRAP)
assert calls == [1]
assert signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTRAP]) == {signal.SIGTRAP}
assert calls == [1, 1], calls
signal.signal(signal.SIGTRAP, signal.SIG_DFL)
status = 'grep -E \"SigBlk|SigIgn\" /proc/self/status'
def ignored_and_blocked(**options):
    lines = subprocess.run(['/bin/sh', '-c', status], capture_output=True, text=True, check=True, **options).stdout
    return [int(line.split()[1], 16) >> 4 & 1 for line in lines.splitlines()]
assert ignored_and_blocked() == [0, 0], ignored_and_blocked()
assert ignored_and_blocked(preexec_fn=lambda: None) == [0, 0]
pid = os.fork()
if pid == 0:
    signal.raise_signal(signal.SIGTRAP)
assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGTRAP
signal.signal(signal.SIGTRAP, lambda *_: calls.append(1))
pid = os.fork()
if pid == 0:
    signal.raise_signal(signal.SIGTRAP)
    os._exit(len(calls))
assert os.WEXITSTATUS(os.waitpid(pid, 0)[1]) == 3
signal.signal(signal.SIGTRAP, signal.SIG_DFL)
pid = os.fork()
if pid == 0:
    os.execv('/bin/sh', ['sh', '-c', 'test $(( 0x$(grep SigIgn /proc/self/status | cut -f2) & 16 )) = 0'])
assert os.waitpid(pid, 0)[1] == 0
print('unchanged')
";

#[test]
fn the_programs_settings_of_the_signal_are_kept() {
    for python in pythons() {
        let recording = run(&python, &["-c", SETTINGS], Options::default());
        assert_eq!(text(&recording.output), "exit status: 0 unchanged\n", "{python:?}");
    }
}

/// Executes itself again many times while its threads run.
const EXECS: &str = "
import os, sys, threading
left = int(sys.argv[1])
def spin():
    while True:
        sum(i for i in range(1000))
if left == 0:
    print('arrived')
else:
    for _ in range(3):
        threading.Thread(target=spin, daemon=True).start()
    sum(i for i in range(100000))
    try:
        os.execv('/nonexistent', ['nonexistent'])
    except FileNotFoundError:
        sum(i for i in range(100000))
    os.execl(sys.executable, sys.executable, '-S', __file__, str(left - 1))
";

#[test]
fn a_sampled_program_can_execute_itself_again() {
    let python = one();
    let options = Options { rate_hz: 10_000, ..Options::default() };
    let folder = TestFolder::new();
    let program = folder.write("execs.py", EXECS);
    let recording = run(&python, &["-S", &program, "12"], options);
    assert_eq!(text(&recording.output), "exit status: 0 arrived\n");
    let states = states(&recording.memory);
    assert_eq!(states.len(), 13);
    assert_eq!(states.iter().filter(|state| **state == state::EXECUTING).count(), 12);
    let sampled: std::collections::BTreeSet<_> =
        recording.samples.iter().map(|sample| sample.process).collect();
    assert!(sampled.len() >= 12, "{sampled:?}");
}

#[test]
fn forked_children_have_their_own_slots() {
    let program = "
import os
for _ in range(5):
    pid = os.fork()
    if pid == 0:
        sum(i for i in range(3000000))
        os._exit(0)
    os.waitpid(pid, 0)
";
    let recording = run(&one(), &["-c", program], Options::default());
    assert_eq!(text(&recording.output), "exit status: 0 ");
    assert_eq!(states(&recording.memory), [state::SAMPLED; 6]);
    for process in 0..6 {
        let own = recording.samples.iter().filter(|sample| sample.process == process).count();
        assert!(own > 10, "{own} of {process}");
    }
}

#[test]
fn processes_beyond_the_number_of_slots_are_counted() {
    let memory = Memory::new(feature::FRAMES, "/nonexistent");
    for slot in memory.processes() {
        slot.state.store(state::SAMPLED, Ordering::Relaxed);
    }
    let folder = TestFolder::new();
    let library = folder.write("library.so", simprof_preload::LIBRARY);
    let output = Command::new(&one().path)
        .args(["-c", "import os; os.fork(); os.write(1, b'on\\n')"])
        .env("LD_PRELOAD", library)
        .env("SIMPROF_PRELOAD", memory.path())
        .output()
        .expect("it can be started");
    assert_eq!(text(&output), "exit status: 0 on\non\n");
    assert_eq!(memory.header().processes_lost.load(Ordering::Relaxed), 2);
}

/// Loads an interpreter with `dlopen` after the program has started.
const LATE: &str = r#"
#include <dlfcn.h>
#include <stdio.h>
int main(int count, char **arguments) {
    void *python = dlopen(arguments[1], RTLD_NOW | RTLD_LOCAL);
    if (!python) { puts(dlerror()); return 1; }
    ((void (*)(void))dlsym(python, "Py_Initialize"))();
    int failed = ((int (*)(const char *))dlsym(python, "PyRun_SimpleString"))(
        "def late():\n    return sum(i * i for i in range(3000000))\nlate()\n");
    ((int (*)(void))dlsym(python, "Py_FinalizeEx"))();
    return failed;
}
"#;

#[test]
fn an_interpreter_that_is_loaded_late_is_found() {
    let folder = TestFolder::new();
    let program = folder.compile_c("late", LATE, &["-ldl"]);
    for python in pythons() {
        let Some(library) = python.shared_library() else { continue };
        let mut command = Command::new(&program);
        command.arg(&library);
        if let Some(home) = library.parent().and_then(Path::parent) {
            command.env("PYTHONHOME", home);
        }
        let recording = record(command, Options::default());
        assert_eq!(text(&recording.output), "exit status: 0 ", "{python:?}");
        assert_eq!(states(&recording.memory), [state::SAMPLED], "{python:?}");
        let late = |node| recording.memory.stack(node).iter().any(|frame| frame.name == "late");
        let count = recording.samples.iter().filter(|sample| late(sample.node)).count();
        assert!(count > 10, "{count} of {}: {python:?}", recording.samples.len());
    }
}

#[test]
fn an_unsupported_interpreter_reports_its_version() {
    let old = all_pythons().iter().filter(|python| python.version < (3, OLDEST_CPYTHON_MINOR));
    for python in old {
        let mut command = python.command();
        command.args(["-c", "print('old')"]);
        let recording = record(command, Options::default());
        assert_eq!(text(&recording.output), "exit status: 0 old\n", "{python:?}");
        assert_eq!(states(&recording.memory), [state::UNSUPPORTED], "{python:?}");
        let slot = &recording.memory.processes()[0];
        assert_eq!(slot.reason.load(Ordering::Relaxed), reason::VERSION);
        assert_eq!(slot.version.load(Ordering::Relaxed) >> 24, 3);
    }
}
