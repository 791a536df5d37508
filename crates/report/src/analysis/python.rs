//! How threads that run Python spend their time: in the interpreter, in native code, waiting for the GIL, other waiting.

use std::collections::BTreeMap;

use serde::Serialize;
use simprof_model::{FunctionId, FunctionKind, Profile, StackId, WaitCause};

use super::names;
use super::origin::{LAUNCHERS, Origin, origins};
use super::weights::{Groups, by_stack, share};

/// Prefixes of the file names of modules whose time counts with their callers.
const HELPERS: [&str; 9] = [
    "libc.",
    "libc-",
    "libm.",
    "libm-",
    "ld-linux",
    "libpthread",
    "libgcc_s",
    "libstdc++",
    "libsimprof",
];

/// Prefixes of the file names of dynamic loaders.
const LOADERS: [&str; 2] = ["ld-linux", "ld-musl"];

/// Prefixes of functions that only the interpreter's own module has.
const INTERPRETER_FUNCTIONS: [&str; 4] = ["_PyEval_", "PyEval_", "Py_RunMain", "Py_BytesMain"];

/// How threads spent their time, ns. CPU time is sampled; waiting is wall time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ThreadTime {
    /// CPU time in the interpreter: bytecode, and functions of the interpreter's module.
    pub interpreter_ns: u64,
    /// CPU time in other native code.
    pub native_ns: u64,
    /// Waiting, by cause; [`WaitCause::Interpreter`] is waiting for the interpreter's lock (GIL).
    pub waits_ns: BTreeMap<WaitCause, u64>,
}

impl ThreadTime {
    /// Returns CPU time plus waiting.
    pub fn total_ns(&self) -> u64 {
        self.cpu_ns() + self.waits_ns.values().sum::<u64>()
    }

    /// Returns the time on a CPU.
    pub fn cpu_ns(&self) -> u64 {
        self.interpreter_ns + self.native_ns
    }

    /// Returns the time spent waiting for the GIL.
    pub fn gil_ns(&self) -> u64 {
        self.waits_ns.get(&WaitCause::Interpreter).copied().unwrap_or(0)
    }

    /// Returns the time spent waiting for anything but the GIL.
    pub fn waiting_ns(&self) -> u64 {
        self.waits_ns.values().sum::<u64>() - self.gil_ns()
    }

    /// Returns `part_ns` as a fraction of the total, 0 to 1.
    pub fn share(&self, part_ns: u64) -> f64 {
        share(part_ns, self.total_ns())
    }

    pub(crate) fn add_cpu(&mut self, kind: CodeKind, weight: u64) {
        match kind {
            CodeKind::Interpreter => self.interpreter_ns += weight,
            CodeKind::Native => self.native_ns += weight,
        }
    }

    pub(crate) fn add_wait(&mut self, cause: WaitCause, weight_ns: u64) {
        *self.waits_ns.entry(cause).or_default() += weight_ns;
    }
}

/// Waiting at one line for one cause.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Waiting {
    /// The author's function nearest the leaf, or the leaf if no function is the author's; [`super::UNKNOWN`] without a
    /// stack.
    pub function: String,
    /// Source file of the line.
    pub file: Option<String>,
    /// The line of the function that waits, directly or in a callee.
    pub line: Option<u32>,
    /// What the thread waits for.
    pub cause: WaitCause,
    /// Duration, ns.
    pub weight_ns: u64,
}

/// Whether a process of the profile runs Python.
pub fn runs_python(profile: &Profile) -> bool {
    profile.provenance.python.is_some()
        || !profile.waits.is_empty()
        || profile.functions.iter().any(|function| function.kind == FunctionKind::Python)
}

/// Returns which functions are part of a Python interpreter, indexed as the profile's table: functions of its module, of
/// the dynamic loader and of the programs that start it. All are false if nothing runs Python.
pub fn interpreter_functions(profile: &Profile) -> Vec<bool> {
    let is_python = runs_python(profile);
    let interpreters = interpreter_modules(profile);
    let is_part = |function: &simprof_model::Function| {
        let is_inside = || function.module.is_some_and(|id| interpreters[id.index()]);
        let path = function.module.map(|id| profile.string(profile.modules[id.index()].path));
        let starts = || {
            let name = path.map(names::file_name).unwrap_or_default();
            profile.string(function.name).starts_with("__libc_start_")
                || LAUNCHERS.contains(&name)
                || is_loader(name)
        };
        is_python && function.kind == FunctionKind::Native && (is_inside() || starts())
    };
    profile.functions.iter().map(is_part).collect()
}

/// Whether a module is a dynamic loader.
pub(crate) fn is_loader(path: &str) -> bool {
    LOADERS.iter().any(|prefix| names::file_name(path).starts_with(prefix))
}

/// Returns the time of all threads together, or `None` if nothing runs Python.
pub fn thread_time(profile: &Profile) -> Option<ThreadTime> {
    if !runs_python(profile) {
        return None;
    }
    let kinds = CodeKinds::new(profile);
    let mut time = ThreadTime::default();
    for entry in by_stack(profile) {
        time.add_cpu(kinds.classify(profile, entry.stack).kind, entry.weight);
    }
    for wait in waits_by_stack(profile) {
        time.add_wait(wait.cause, wait.weight_ns);
    }
    Some(time)
}

/// Returns the first `limit` lines that wait, by decreasing time.
pub fn waiting(profile: &Profile, limit: usize) -> Vec<Waiting> {
    let (groups, origins) = (Groups::new(profile), origins(profile));
    let mut sums: BTreeMap<_, u64> = BTreeMap::new();
    for wait in waits_by_stack(profile) {
        let own = profile
            .frames_from_leaf(wait.stack)
            .find(|&frame| origins[profile.frame(frame).function.index()] == Origin::Own);
        let frame = own.or_else(|| profile.frames_from_leaf(wait.stack).next());
        let location = frame.map(|frame| profile.frame(frame)).map(|frame| {
            let file = frame.file.or(profile.function(frame.function).file);
            (groups.group_of(frame.function), file, frame.line)
        });
        *sums.entry((location, wait.cause)).or_default() += wait.weight_ns;
    }
    let mut found: Vec<Waiting> = sums
        .into_iter()
        .map(|((location, cause), weight_ns)| Waiting {
            function: location
                .map_or(super::UNKNOWN, |(group, ..)| profile.function_name(groups.first(group)))
                .to_owned(),
            file: location
                .and_then(|(_, file, _)| file)
                .map(|file| profile.string(file).to_owned()),
            line: location.and_then(|(.., line)| line),
            cause,
            weight_ns,
        })
        .collect();
    found.sort_by(|a, b| {
        (b.weight_ns, &a.function, a.line, a.cause).cmp(&(
            a.weight_ns,
            &b.function,
            b.line,
            b.cause,
        ))
    });
    found.truncate(limit);
    found
}

/// Waits of one stack for one cause, summed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StackWait {
    pub(crate) stack: Option<StackId>,
    pub(crate) cause: WaitCause,
    pub(crate) weight_ns: u64,
}

/// Returns the waits of a profile, summed by stack and cause.
pub(crate) fn waits_by_stack(profile: &Profile) -> Vec<StackWait> {
    let mut sums: BTreeMap<(Option<StackId>, WaitCause), u64> = BTreeMap::new();
    for wait in &profile.waits {
        *sums.entry((wait.stack, wait.cause)).or_default() += wait.weight_ns;
    }
    sums.into_iter()
        .map(|((stack, cause), weight_ns)| StackWait { stack, cause, weight_ns })
        .collect()
}

/// The kind of code that a sample was executing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CodeKind {
    /// The Python interpreter.
    Interpreter,
    /// Other native code.
    Native,
}

/// The code that a sample was executing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ExecutingCode {
    pub(crate) kind: CodeKind,
    /// The function that decided the kind; `None` if the stack has only kernel and helper frames.
    pub(crate) function: Option<FunctionId>,
}

/// The kind of code of every function of a profile.
#[derive(Debug)]
pub(crate) struct CodeKinds {
    /// Indexed as the profile's table. `None` for the kernel and for helper libraries, which count with their callers.
    by_function: Vec<Option<CodeKind>>,
}

impl CodeKinds {
    pub(crate) fn new(profile: &Profile) -> Self {
        let interpreters = interpreter_modules(profile);
        let kind = |function: &simprof_model::Function| {
            let module = function.module.map(|id| profile.string(profile.modules[id.index()].path));
            match (function.kind, function.module, module.map(names::file_name)) {
                (FunctionKind::Python, ..) => Some(CodeKind::Interpreter),
                (FunctionKind::Kernel, ..) => None,
                (_, Some(id), _) if interpreters[id.index()] => Some(CodeKind::Interpreter),
                (.., Some(name)) if is_helper(name) => None,
                _ => Some(CodeKind::Native),
            }
        };
        Self { by_function: profile.functions.iter().map(kind).collect() }
    }

    /// Classifies a stack by the frame nearest the leaf that is neither kernel nor helper. If that frame is inlined, the
    /// function is the one that it was inlined into.
    pub(crate) fn classify(&self, profile: &Profile, stack: Option<StackId>) -> ExecutingCode {
        let kind_of = |id: FunctionId| self.by_function[id.index()];
        let frames = profile.frames_from_leaf(stack).map(|id| profile.frame(id));
        let mut deciding = frames.skip_while(|frame| kind_of(frame.function).is_none()).peekable();
        let first = deciding.peek().map(|frame| frame.function);
        let kind = first.and_then(kind_of).unwrap_or(CodeKind::Native);
        let function = deciding.find(|frame| !frame.inlined).map(|frame| frame.function);
        ExecutingCode { kind, function: function.or(first) }
    }
}

fn is_helper(file_name: &str) -> bool {
    file_name.starts_with('[') || HELPERS.iter().any(|prefix| file_name.starts_with(prefix))
}

/// Returns which modules are Python interpreters, by their file name or because they have functions that only an
/// interpreter has.
pub(crate) fn interpreter_modules(profile: &Profile) -> Vec<bool> {
    let named = |path: &str| {
        let name = names::file_name(path);
        let version = name.strip_prefix("python").map(|rest| rest.trim_end_matches('d'));
        name.starts_with("libpython")
            || version.is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_digit() || b == b'.'))
    };
    let mut found: Vec<bool> =
        profile.modules.iter().map(|module| named(profile.string(module.path))).collect();
    for function in profile.functions.iter().filter(|f| f.kind == FunctionKind::Native) {
        let name = profile.string(function.name);
        if let Some(module) = function.module.filter(|_| is_interpreter_function(name)) {
            found[module.index()] = true;
        }
    }
    found
}

fn is_interpreter_function(name: &str) -> bool {
    INTERPRETER_FUNCTIONS.iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Sketch;

    const LIB: &str = "/opt/lib/libpython3.11.so.1.0";
    const LIBC: &str = "/lib/x86_64-linux-gnu/libc.so.6";

    #[test]
    fn helpers_count_with_their_callers() {
        let numpy = "dot~/opt/lib/python3.11/site-packages/numpy/_core.so";
        for (stack, expected) in [
            ("p:sim.step".to_owned(), (CodeKind::Interpreter, "sim.step")),
            (format!("p:sim.step > list_sort~{LIB}"), (CodeKind::Interpreter, "list_sort")),
            (
                format!("p:sim.step > list_sort~{LIB} > memmove~{LIBC}"),
                (CodeKind::Interpreter, "list_sort"),
            ),
            (
                format!("p:sim.step > {numpy} > memcpy~{LIBC} > k:page_fault"),
                (CodeKind::Native, "dot"),
            ),
            (format!("p:sim.step > pow~{LIBC}"), (CodeKind::Interpreter, "sim.step")),
            (format!("main~/usr/bin/python3.12 > clone~{LIBC}"), (CodeKind::Interpreter, "main")),
            (
                "main~/opt/game > _PyEval_Vector~/opt/game".into(),
                (CodeKind::Interpreter, "_PyEval_Vector"),
            ),
            (format!("p:sim.step > sort~{LIB} > +Py_TYPE~{LIB}"), (CodeKind::Interpreter, "sort")),
            (format!("p:sim.step > +Py_TYPE~{LIB}"), (CodeKind::Interpreter, "sim.step")),
            ("work~/opt/pythonic.so".into(), (CodeKind::Native, "work")),
            (format!("clone~{LIBC}"), (CodeKind::Native, "")),
            (String::new(), (CodeKind::Native, "")),
        ] {
            let profile = Sketch::new().sample(&stack, 1).finish();
            let code = CodeKinds::new(&profile).classify(&profile, profile.samples[0].stack);
            let name = code.function.map_or("", |id| profile.function_name(id));
            assert_eq!((code.kind, name), expected, "{stack}");
        }
    }

    #[test]
    fn the_interpreter_is_told_apart_from_what_it_runs() {
        let numpy = "dot~/opt/lib/python3.11/site-packages/numpy/_core.so";
        let start = format!("execute~/bin/bash > __libc_start_main~{LIBC} > Py_RunMain~{LIB}");
        let parts = |stack: &str| {
            let profile = Sketch::new().sample(stack, 1).finish();
            let names = profile.functions.iter().map(|f| profile.string(f.name).to_owned());
            names.zip(interpreter_functions(&profile)).collect::<Vec<_>>()
        };
        let named = |name: &str, is_part| (name.to_owned(), is_part);
        let mut found = parts(&format!("{start} > p:sim.step > list_sort~{LIB} > {numpy}"));
        found.sort();
        let parts_of_it = ["__libc_start_main", "execute", "Py_RunMain"];
        let [start, shell, run] = parts_of_it.map(|name| named(name, true));
        let [dot, step] = ["dot", "sim.step"].map(|name| named(name, false));
        assert_eq!(found, [run, start, dot, shell, named("list_sort", true), step]);
        assert_eq!(
            parts(&format!("__libc_start_main~{LIBC}")),
            [named("__libc_start_main", false)]
        );
    }

    #[test]
    fn time_is_split_and_adds_up() {
        let profile = Sketch::new()
            .sample("p:sim.step", 30)
            .sample("p:sim.step > dot~/opt/numpy.so", 20)
            .wait("p:sim.step", WaitCause::Interpreter, 40)
            .wait("p:sim.idle", WaitCause::Sleep, 7)
            .wait("p:sim.idle", WaitCause::Io, 3)
            .finish();
        let time = thread_time(&profile).expect("it runs Python");
        assert_eq!((time.interpreter_ns, time.native_ns, time.total_ns()), (30, 20, 100));
        assert_eq!((time.gil_ns(), time.waiting_ns()), (40, 10));
        assert_eq!(time.share(time.gil_ns()), 0.4);
        assert_eq!(thread_time(&Sketch::new().sample("main", 1).finish()), None);
    }

    #[test]
    fn waits_are_charged_to_the_authors_lines() {
        let library = "p:queue.get%/opt/lib/python3.11/queue.py@171";
        let profile = Sketch::new()
            .wait(&format!("p:sim.work@5 > {library}"), WaitCause::Synchronisation, 5)
            .wait("p:sim.work@5", WaitCause::Synchronisation, 4)
            .wait("p:sim.work@9", WaitCause::Sleep, 7)
            .wait(library, WaitCause::Synchronisation, 2)
            .wait("", WaitCause::Io, 1)
            .finish();
        let found: Vec<_> = waiting(&profile, 4)
            .into_iter()
            .map(|w| (w.function, w.line.unwrap_or(0), w.cause, w.weight_ns))
            .collect();
        assert_eq!(
            found,
            [
                ("sim.work".to_owned(), 5, WaitCause::Synchronisation, 9),
                ("sim.work".to_owned(), 9, WaitCause::Sleep, 7),
                ("queue.get".to_owned(), 171, WaitCause::Synchronisation, 2),
                ("[unknown]".to_owned(), 0, WaitCause::Io, 1),
            ]
        );
    }
}
