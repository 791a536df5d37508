//! Python programs with several threads and processes, and the ways in which Python is started.

use std::collections::BTreeSet;

use simprof_model::{NoticeId, Profile, has_notice};
use simprof_record::heap::HeapSampling;
use simprof_record::{Launch, Outcome, Preload};
use simprof_testkit::{is_root, python, pythons};

use super::support::{
    account, assert_counted_once, count, explain, profile, stack, stacks, unsupported_pythons,
};
use crate::support::{Fixture, record, symbolised};

/// Returns the process ids of the samples that have a frame whose name starts with `name`.
fn pids(profile: &Profile, name: &str) -> BTreeSet<u32> {
    let has = |sample: &&simprof_model::StackSample| {
        stack(profile, sample).iter().any(|frame| frame.starts_with(name))
    };
    let pid = |sample: &simprof_model::StackSample| profile.threads[sample.thread.index()].pid;
    profile.samples.iter().filter(has).map(pid).collect()
}

const THREADS: &str = "\
import threading
def spin():
    x = 0
    for i in range(2000000):
        x += i
def work(number):
    spin()
threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
";

#[test]
fn every_thread_has_its_own_stack() {
    let folder = Fixture::new();
    let script = folder.write("threads.py", THREADS);
    for python in pythons() {
        let python = python.text();
        let Some(profile) = profile(&folder, &[python, &script]) else { return };
        let mut tids = BTreeSet::new();
        for sample in &profile.samples {
            let stack = stack(&profile, sample);
            if stack.iter().any(|frame| frame.starts_with("threads.spin")) {
                assert!(stack[0].starts_with("threading.Thread._bootstrap:"), "{stack:?}");
                assert!(stack.contains(&"threads.work:7".to_owned()), "{stack:?}");
                tids.insert(profile.threads[sample.thread.index()].tid);
            }
        }
        assert_eq!(tids.len(), 4, "{}", explain(&profile));
        let account = account(&profile);
        assert!(account.lost * 50 < account.samples, "{}", explain(&profile));
    }
}

/// A signal stack of the size that faulthandler uses, with a guard page below instead of the allocator's next block.
const SMALL_STACK: &str = "\
import ctypes, mmap, resource
libc = ctypes.CDLL(None, use_errno=True)
libc.getauxval.restype = libc.mmap.restype = ctypes.c_ulong
libc.getauxval.argtypes = [ctypes.c_ulong]
AT_MINSIGSTKSZ, SIGSTKSZ, PAGE = 51, 8192, resource.getpagesize()
size = SIGSTKSZ + (libc.getauxval(AT_MINSIGSTKSZ) or SIGSTKSZ)
whole = (size + PAGE - 1) // PAGE * PAGE
memory = mmap.mmap(-1, PAGE + whole)
start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
class Stack(ctypes.Structure):
    _fields_ = [('sp', ctypes.c_void_p), ('flags', ctypes.c_int), ('size', ctypes.c_size_t)]
assert libc.mprotect(ctypes.c_void_p(start), ctypes.c_size_t(PAGE), 0) == 0
stack = Stack(start + PAGE + whole - size, 0, size)
assert libc.sigaltstack(ctypes.byref(stack), None) == 0
def call(depth):
    return call(depth - 1) if depth else sum(range(200))
for number in range(6000):
    names = {'call': call}
    exec('def spin%d(generator):\\n for x in generator:\\n  call(30)' % number, names)
    names['spin%d' % number](x for x in range(20))
SS_DISABLE = 2
assert libc.sigaltstack(ctypes.byref(Stack(0, SS_DISABLE, 0)), None) == 0
";

#[test]
fn a_small_signal_stack_is_enough() {
    let folder = Fixture::new();
    let script = folder.write("small_stack.py", SMALL_STACK);
    for python in pythons() {
        let python = python.text();
        // `profile` asserts that the program succeeds.
        let Some(profile) = profile(&folder, &[python, &script]) else { return };
        let is_deep = |sample: &simprof_model::StackSample| {
            stack(&profile, sample)
                .iter()
                .filter(|frame| frame.starts_with("small_stack.call"))
                .count()
                > 20
        };
        assert!(
            profile.samples.iter().filter(|sample| is_deep(sample)).count() > 50,
            "{}",
            explain(&profile)
        );
    }
}

const POOL: &str = "\
import multiprocessing, sys
def job(n):
    x = 0
    for i in range(4000000):
        x += i
    return x
if __name__ == '__main__':
    context = multiprocessing.get_context(sys.argv[1])
    workers = [context.Process(target=job, args=(n,)) for n in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
";

#[test]
fn every_worker_of_multiprocessing_has_python_stacks() {
    let folder = Fixture::new();
    let script = folder.write("pool.py", POOL);
    for method in ["fork", "spawn"] {
        let Some(profile) = profile(&folder, &[python().text(), &script, method]) else { return };
        let workers = pids(&profile, "pool.job");
        assert_eq!(workers.len(), 3, "{method}: {}", explain(&profile));
        assert_counted_once(&profile, 0.1);
    }
}

const NATIVE: &str = "\
#include <stdint.h>
static volatile uint64_t sink;
__attribute__((noinline)) void spin(void) { for (uint64_t i = 0; i < 900000000; i++) sink += i; }
int main(void) { spin(); return 0; }
";

#[test]
fn a_native_program_that_python_starts_has_native_stacks() {
    let folder = Fixture::new();
    folder.compile_c("child", NATIVE, &["-O1", "-g"]);
    let text = "import subprocess\nsubprocess.run(['./child'], check=True)\n";
    let script = folder.write("parent.py", text);
    let Some(profile) = profile(&folder, &[python().text(), &script]) else { return };
    let mut seen = 0;
    for (stack, count) in stacks(&profile) {
        if stack.contains(&"spin".to_owned()) {
            // The stack is native from its root.
            assert!(stack[0] == "_start" && stack.contains(&"main".to_owned()), "{stack:?}");
            seen += count;
        }
    }
    assert!(seen > 100, "{}", explain(&profile));
}

const WORK: &str = "\
def work():
    x = 0
    for i in range(8000000):
        x += i
work()
";

#[test]
fn python_stacks_are_recorded_however_python_is_started() {
    let folder = Fixture::new();
    let python = python();
    let python = python.text();
    folder.write("pack/__init__.py", "");
    folder.write("pack/__main__.py", WORK);
    let script = folder.write("plain.py", WORK);
    folder.write_script("tool", &format!("#!{python}\n{WORK}"));
    folder.write_script("start.sh", &format!("#!/bin/sh\necho hello\n{python} {script}\n"));
    let table: [(&[&str], &str); 4] = [
        (&["./tool"], "tool.work:4"),
        (&[python, "-m", "pack"], "pack.__main__.work:4"),
        (&["./start.sh"], "plain.work:4"),
        (&[python, "-c", WORK], "<string>.work:4"),
    ];
    for (argv, expected) in table {
        let Some(profile) = profile(&folder, argv) else { return };
        assert!(count(&profile, expected) > 50, "{argv:?}: {}", explain(&profile));
        assert_eq!(account(&profile).interpreters.len(), 1, "{argv:?}");
    }
}

#[test]
fn python_stacks_are_recorded_after_an_exec() {
    let folder = Fixture::new();
    let python = python();
    let python = python.text();
    let script = folder.write("plain.py", WORK);
    let text = format!("{WORK}import os\nos.execv({python:?}, [{python:?}, {script:?}])\n");
    let first = folder.write("first.py", &text);
    let Some(profile) = profile(&folder, &[python, &first]) else { return };
    for name in ["first.work", "plain.work"] {
        assert!(count(&profile, name) > 50, "{name}: {}", explain(&profile));
    }
}

#[test]
fn a_target_that_is_killed_keeps_its_stacks() {
    let folder = Fixture::new();
    let text = format!("{WORK}import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n");
    let script = folder.write("killed.py", &text);
    let end = Outcome::Signalled { signal: libc::SIGKILL, core_dumped: false };
    let Some(profile) = symbolised(&folder.python_plan(&[python().text(), &script]), end) else {
        return;
    };
    assert!(count(&profile, "killed.work") > 50, "{}", explain(&profile));
}

#[test]
fn nothing_is_loaded_unless_requested() {
    let folder = Fixture::new();
    let text = format!("{WORK}import os\nassert 'SIMPROF_PRELOAD' not in os.environ\n");
    let script = folder.write("plain.py", &text);
    let mut plan = folder.python_plan(&[python().text(), &script]);
    plan.preload = Default::default();
    let Some(profile) = symbolised(&plan, Outcome::Exited(0)) else { return };
    assert_eq!(profile.provenance.python, None);
    assert!(count(&profile, "_PyEval_EvalFrameDefault") > 50, "{}", explain(&profile));
}

/// Starts programs with an empty environment in several ways. Each fails if it sees variables of the profiler.
const CLEARED: &str = "\
import os, subprocess, sys
run = [sys.executable, '-I', 'called.py']
subprocess.run(run, env={}, check=True)
pid = os.posix_spawn(sys.executable, [sys.executable, '-I', 'spawned.py'], {})
assert os.waitpid(pid, 0)[1] == 0
os.execve(sys.executable, [sys.executable, '-I', 'execed.py'], {'LD_PRELOAD': ''})
";
const CHECK: &str = "\
import os
names = [name for name in os.environ if name.startswith(('SIMPROF', 'LD_')) and os.environ[name]]
assert not names, names
";

#[test]
fn programs_with_another_environment_load_the_library() {
    let folder = Fixture::new();
    for name in ["called.py", "spawned.py", "execed.py", "empty.py"] {
        folder.write(name, &format!("{CHECK}{WORK}"));
    }
    folder.write("plain.py", WORK);
    let script = folder.write("cleared.py", CLEARED);
    for python in pythons() {
        let Some(profile) = profile(&folder, &[python.text(), &script]) else { return };
        for name in ["called.work", "spawned.work", "execed.work"] {
            assert!(count(&profile, name) > 50, "{name}: {}", explain(&profile));
        }
        let notices = &profile.provenance.notices;
        assert!(!has_notice(notices, NoticeId::PythonLibraryNotLoaded), "{}", explain(&profile));
    }
    let python = python();
    for argv in [
        &["env", "-i", python.text(), "empty.py"][..],
        &["env", "-u", "LD_PRELOAD", python.text(), "plain.py"],
    ] {
        let Some(profile) = profile(&folder, argv) else { return };
        let work = count(&profile, "empty.work") + count(&profile, "plain.work");
        assert!(work > 50, "{argv:?}: {}", explain(&profile));
    }
}

/// Executes its arguments with an empty environment, by a plain system call, which the library does not see.
const PLAIN_EXEC: &str = "\
#include <sys/syscall.h>
int main(int count, char **arguments) {
    char *nothing[] = {0};
    long result = SYS_execve;
    if (count > 1)
        __asm__ volatile(\"syscall\" : \"+a\"(result)
            : \"D\"(arguments[1]), \"S\"(arguments + 1), \"d\"(nothing) : \"rcx\", \"r11\", \"memory\");
    return 1;
}
";

/// Replaces itself by `syscall` with an empty environment, while it is sampled.
const EXEC_BY_NUMBER: &str = "\
import ctypes, sys
array = ctypes.c_char_p * 3
path = sys.executable.encode()
ctypes.CDLL(None).syscall(59, path, array(path, b'execed.py', None), array())
";

#[test]
fn a_program_that_is_replaced_by_a_numbered_system_call_is_recorded() {
    let folder = Fixture::new();
    folder.write("execed.py", WORK);
    let script = folder.write("replaces.py", &format!("{WORK}{EXEC_BY_NUMBER}"));
    for python in pythons() {
        let Some(profile) = profile(&folder, &[python.text(), &script]) else { return };
        for name in ["replaces.work", "execed.work"] {
            assert!(count(&profile, name) > 50, "{name}: {}", explain(&profile));
        }
    }
}

#[test]
fn python_without_the_library_is_reported() {
    let folder = Fixture::new();
    folder.compile_c("execute", PLAIN_EXEC, &["-O1"]);
    let script = folder.write("plain.py", WORK);
    let python = python();
    let Some(profile) = profile(&folder, &["./execute", python.text(), &script]) else { return };
    let notices = &profile.provenance.notices;
    assert!(has_notice(notices, NoticeId::PythonLibraryNotLoaded), "{}", explain(&profile));
    assert_eq!(profile.provenance.python, None);
    assert!(count(&profile, "_PyEval_EvalFrameDefault") > 50, "{}", explain(&profile));
}

const PLAIN_FORK: &str = "\
import ctypes, os, signal
CLONE = 56
pid = ctypes.CDLL(None).syscall(CLONE, int(signal.SIGCHLD), 0, 0, 0, 0)
";

#[test]
fn a_child_of_a_plain_system_call_is_reported() {
    let folder = Fixture::new();
    let text = format!("{PLAIN_FORK}{WORK}os.waitpid(pid, 0) if pid else os._exit(0)\n");
    let script = folder.write("forks.py", &text);
    let Some(profile) = profile(&folder, &[python().text(), &script]) else { return };
    let notices = &profile.provenance.notices;
    assert!(has_notice(notices, NoticeId::ProcessesUnsampled), "{}", explain(&profile));
    assert!(!has_notice(notices, NoticeId::PythonLibraryNotLoaded), "{}", explain(&profile));
}

#[test]
fn an_unsupported_interpreter_is_reported_and_runs() {
    let folder = Fixture::new();
    let script = folder.write("plain.py", WORK);
    for python in unsupported_pythons() {
        let python = python.text();
        let Some(profile) = profile(&folder, &[python, &script]) else { return };
        let notices = &profile.provenance.notices;
        let is_reported = has_notice(notices, NoticeId::PythonFramesMissing);
        assert!(is_reported, "{python}: {}", explain(&profile));
        assert!(count(&profile, "_PyEval_EvalFrameDefault") > 50, "{}", explain(&profile));
    }
}

/// Starts programs as another user, then changes its own user and starts one more.
const USERS: &str = "\
import os, subprocess
def stderr(**options):
    return subprocess.run(['/bin/true'], stderr=subprocess.PIPE, check=True, **options).stderr
printed = [stderr(), stderr(user=65534)]
os.setgid(65534)
os.setuid(65534)
printed.append(stderr())
assert printed == [b''] * 3, printed
";

#[test]
fn programs_of_another_user_print_nothing_extra() {
    if !is_root() {
        return eprintln!("not tested: only root may become another user");
    }
    let folder = Fixture::new();
    let script = folder.write("users.py", USERS);
    profile(&folder, &[python().text(), &script]);
}

/// Removes the preload libraries, then starts programs with each function of the exec family.
const WITHOUT_LIBRARY: &str = r#"
import ctypes, os, subprocess, sys
library = os.environ["LD_PRELOAD"]
for path in library.split(":"):
    os.unlink(path)
def stderr_of(execute):
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.dup2(writer, 2)
        execute()
        os._exit(9)
    os.close(writer)
    text = os.fdopen(reader, "rb").read()
    return text + (b"" if os.waitpid(child, 0)[1] == 0 else b"failed")
true = "/bin/true"
libc = ctypes.CDLL(None)
listed = (true.encode(), b"true", None)
assert stderr_of(lambda: os.execv(true, ["true"])) == b""
assert stderr_of(lambda: os.execve(true, ["true"], dict(os.environ))) == b""
assert stderr_of(lambda: libc.execvp(listed[0], (ctypes.c_char_p * 2)(b"true"))) == b""
assert stderr_of(lambda: libc.execl(*listed)) == b""
assert stderr_of(lambda: libc.execlp(*listed)) == b""
assert subprocess.run([true], capture_output=True, check=True).stderr == b""
# Other libraries in LD_PRELOAD are kept.
os.environ["LD_PRELOAD"] = library + ":/no/such.so"
text = stderr_of(lambda: os.execv(true, ["true"]))
assert b"/no/such.so" in text and b"libsimprof" not in text, text
"#;

#[test]
fn programs_that_cannot_load_the_library_print_nothing() {
    let folder = Fixture::new();
    let script = folder.write("without.py", WITHOUT_LIBRARY);
    profile(&folder, &[python().text(), &script]);
}

#[test]
fn programs_that_cannot_load_the_heap_library_print_nothing() {
    let folder = Fixture::new();
    let script = folder.write("without.py", WITHOUT_LIBRARY);
    for text in [None, Some("pass".to_owned())] {
        let preload = Preload { script: text, ..Preload::default() };
        let heap = Some(HeapSampling { interval_bytes: 1 << 20, seed: 1 });
        let plan = Launch {
            heap,
            sampling: None,
            preload,
            ..folder.python_plan(&[python().text(), &script])
        };
        let recording = record(&plan);
        assert_eq!(recording.outcome, Outcome::Exited(0), "{}", recording.stderr_tail);
        assert_eq!(recording.stderr_tail, "");
    }
}
