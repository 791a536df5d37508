//! Where the time of threads that run Python goes: the interpreter, native code, the interpreter's lock, waiting.

use std::collections::BTreeMap;

use serde::Serialize;
use simprof_model::{FunctionId, FunctionKind, Profile, StackId, WaitCause};

use super::names;
use super::origin::{LAUNCHERS, Origin, origins};
use super::weights::{Groups, by_stack, share};

/// Beginnings of the file names of modules that only ever work for their callers.
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

/// Beginnings of the file names of dynamic loaders.
const LOADERS: [&str; 2] = ["ld-linux", "ld-musl"];

/// Beginnings of names of functions that only the interpreter's own module has.
const OF_INTERPRETER: [&str; 4] = ["_PyEval_", "PyEval_", "Py_RunMain", "Py_BytesMain"];

/// What threads did with their time, ns. CPU time is sampled; waiting is wall time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ThreadTime {
    /// CPU time in the interpreter: bytecode, and functions of its own module.
    pub interpreter_ns: u64,
    /// CPU time in other native code.
    pub native_ns: u64,
    /// Waiting, by cause; [`WaitCause::Interpreter`] is waiting for the interpreter's lock.
    pub waits_ns: BTreeMap<WaitCause, u64>,
}

impl ThreadTime {
    /// All of it.
    pub fn total_ns(&self) -> u64 {
        self.cpu_ns() + self.waits_ns.values().sum::<u64>()
    }

    /// What was on a CPU.
    pub fn cpu_ns(&self) -> u64 {
        self.interpreter_ns + self.native_ns
    }

    /// Waiting for the interpreter's lock.
    pub fn lock_ns(&self) -> u64 {
        self.waits_ns.get(&WaitCause::Interpreter).copied().unwrap_or(0)
    }

    /// Waiting for anything else.
    pub fn waiting_ns(&self) -> u64 {
        self.waits_ns.values().sum::<u64>() - self.lock_ns()
    }

    /// `part` of the total, 0 to 1.
    pub fn share(&self, part_ns: u64) -> f64 {
        share(part_ns, self.total_ns())
    }

    pub(crate) fn add_cpu(&mut self, world: World, weight: u64) {
        match world {
            World::Interpreter => self.interpreter_ns += weight,
            World::Native => self.native_ns += weight,
        }
    }

    pub(crate) fn add_wait(&mut self, cause: WaitCause, weight_ns: u64) {
        *self.waits_ns.entry(cause).or_default() += weight_ns;
    }
}

/// Waiting of one Python function for one cause.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Waiting {
    /// The author's function nearest to the wait, or the innermost where none is the author's; [`super::UNKNOWN`] without a stack.
    pub function: String,
    /// Source file of the line.
    pub file: Option<String>,
    /// The line of it that waits, or that calls what waits.
    pub line: Option<u32>,
    /// What for.
    pub cause: WaitCause,
    /// How long, ns.
    pub weight_ns: u64,
}

/// True where a process of the profile runs Python.
pub fn runs_python(profile: &Profile) -> bool {
    profile.provenance.python.is_some()
        || !profile.waits.is_empty()
        || profile.functions.iter().any(|function| function.kind == FunctionKind::Python)
}

/// Which functions are parts of a Python interpreter itself, by position in the profile's table: those of its module, and
/// what starts it and loads what it needs. All false where nothing runs Python.
pub fn of_interpreter(profile: &Profile) -> Vec<bool> {
    let is_python = runs_python(profile);
    let interpreters = interpreter_modules(profile);
    let is_part = |function: &simprof_model::Function| {
        let is_inside = || function.module.is_some_and(|id| interpreters[id.index()]);
        let path = function.module.map(|id| profile.string(profile.modules[id.index()].path));
        let starts = || {
            let name = path.map(names::file_name).unwrap_or_default();
            profile.string(function.name).starts_with("__libc_start_")
                || LAUNCHERS.contains(&name)
                || LOADERS.iter().any(|prefix| name.starts_with(prefix))
        };
        is_python && function.kind == FunctionKind::Native && (is_inside() || starts())
    };
    profile.functions.iter().map(is_part).collect()
}

/// What all threads did with their time; none where nothing runs Python.
pub fn thread_time(profile: &Profile) -> Option<ThreadTime> {
    if !runs_python(profile) {
        return None;
    }
    let worlds = Worlds::new(profile);
    let mut time = ThreadTime::default();
    for entry in by_stack(profile) {
        time.add_cpu(worlds.decide(profile, entry.stack).world, entry.weight);
    }
    for wait in waits_by_stack(profile) {
        time.add_wait(wait.cause, wait.weight_ns);
    }
    Some(time)
}

/// The lines that wait, by falling time.
pub fn waiting(profile: &Profile, limit: usize) -> Vec<Waiting> {
    let (groups, origins) = (Groups::new(profile), origins(profile));
    let mut sums: BTreeMap<_, u64> = BTreeMap::new();
    for wait in waits_by_stack(profile) {
        let own = profile
            .frames_from_leaf(wait.stack)
            .find(|&frame| origins[profile.frame(frame).function.index()] == Origin::Own);
        let frame = own.or_else(|| profile.frames_from_leaf(wait.stack).next());
        let place = frame.map(|frame| profile.frame(frame)).map(|frame| {
            let file = frame.file.or(profile.function(frame.function).file);
            (groups.of(frame.function), file, frame.line)
        });
        *sums.entry((place, wait.cause)).or_default() += wait.weight_ns;
    }
    let mut found: Vec<Waiting> = sums
        .into_iter()
        .map(|((place, cause), weight_ns)| Waiting {
            function: place
                .map_or(super::UNKNOWN, |(group, ..)| profile.function_name(groups.first(group)))
                .to_owned(),
            file: place.and_then(|(_, file, _)| file).map(|file| profile.string(file).to_owned()),
            line: place.and_then(|(.., line)| line),
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

/// The waits of a profile, summed by stack and cause.
pub(crate) fn waits_by_stack(profile: &Profile) -> Vec<StackWait> {
    let mut sums: BTreeMap<(Option<StackId>, WaitCause), u64> = BTreeMap::new();
    for wait in &profile.waits {
        *sums.entry((wait.stack, wait.cause)).or_default() += wait.weight_ns;
    }
    sums.into_iter()
        .map(|((stack, cause), weight_ns)| StackWait { stack, cause, weight_ns })
        .collect()
}

/// Where a sample was executing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum World {
    /// In the interpreter.
    Interpreter,
    /// In other native code.
    Native,
}

/// Where a sample was executing, and the function that tells.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Decision {
    pub(crate) world: World,
    /// None where the stack has nothing but helpers.
    pub(crate) function: Option<FunctionId>,
}

/// What each function of a profile says about where a sample was executing.
#[derive(Debug)]
pub(crate) struct Worlds {
    /// By position in the table of functions; none for the kernel and for libraries that only help: they count with
    /// their callers.
    of: Vec<Option<World>>,
}

impl Worlds {
    pub(crate) fn new(profile: &Profile) -> Self {
        let interpreters = interpreter_modules(profile);
        let world = |function: &simprof_model::Function| {
            let module = function.module.map(|id| profile.string(profile.modules[id.index()].path));
            match (function.kind, function.module, module.map(names::file_name)) {
                (FunctionKind::Python, ..) => Some(World::Interpreter),
                (FunctionKind::Kernel, ..) => None,
                (_, Some(id), _) if interpreters[id.index()] => Some(World::Interpreter),
                (.., Some(name)) if is_helper(name) => None,
                _ => Some(World::Native),
            }
        };
        Self { of: profile.functions.iter().map(world).collect() }
    }

    /// By the frame nearest the leaf that does not only help; the function is the one that it was inlined into.
    pub(crate) fn decide(&self, profile: &Profile, stack: Option<StackId>) -> Decision {
        let frames = profile.frames_from_leaf(stack).map(|id| profile.frame(id));
        let mut telling =
            frames.skip_while(|frame| self.of[frame.function.index()].is_none()).peekable();
        let first = telling.peek().map(|frame| frame.function);
        let world = first.and_then(|id| self.of[id.index()]).unwrap_or(World::Native);
        let function = telling.find(|frame| !frame.inlined).map(|frame| frame.function);
        Decision { world, function: function.or(first) }
    }
}

fn is_helper(file_name: &str) -> bool {
    file_name.starts_with('[') || HELPERS.iter().any(|prefix| file_name.starts_with(prefix))
}

/// By name of the file, or because it holds functions that only an interpreter has.
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
        if let Some(module) = function.module.filter(|_| is_of_interpreter(name)) {
            found[module.index()] = true;
        }
    }
    found
}

fn is_of_interpreter(name: &str) -> bool {
    OF_INTERPRETER.iter().any(|prefix| name.starts_with(prefix))
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
            ("p:sim.step".to_owned(), (World::Interpreter, "sim.step")),
            (format!("p:sim.step > list_sort~{LIB}"), (World::Interpreter, "list_sort")),
            (
                format!("p:sim.step > list_sort~{LIB} > memmove~{LIBC}"),
                (World::Interpreter, "list_sort"),
            ),
            (
                format!("p:sim.step > {numpy} > memcpy~{LIBC} > k:page_fault"),
                (World::Native, "dot"),
            ),
            (format!("p:sim.step > pow~{LIBC}"), (World::Interpreter, "sim.step")),
            (format!("main~/usr/bin/python3.12 > clone~{LIBC}"), (World::Interpreter, "main")),
            (
                "main~/opt/game > _PyEval_Vector~/opt/game".into(),
                (World::Interpreter, "_PyEval_Vector"),
            ),
            (format!("p:sim.step > sort~{LIB} > +Py_TYPE~{LIB}"), (World::Interpreter, "sort")),
            (format!("p:sim.step > +Py_TYPE~{LIB}"), (World::Interpreter, "sim.step")),
            ("work~/opt/pythonic.so".into(), (World::Native, "work")),
            (format!("clone~{LIBC}"), (World::Native, "")),
            (String::new(), (World::Native, "")),
        ] {
            let profile = Sketch::new().sample(&stack, 1).finish();
            let decision = Worlds::new(&profile).decide(&profile, profile.samples[0].stack);
            let name = decision.function.map_or("", |id| profile.function_name(id));
            assert_eq!((decision.world, name), expected, "{stack}");
        }
    }

    #[test]
    fn parts_of_the_interpreter_are_told_from_what_it_runs() {
        let numpy = "dot~/opt/lib/python3.11/site-packages/numpy/_core.so";
        let start = format!("execute~/bin/bash > __libc_start_main~{LIBC} > Py_RunMain~{LIB}");
        let parts = |stack: &str| {
            let profile = Sketch::new().sample(stack, 1).finish();
            let names = profile.functions.iter().map(|f| profile.string(f.name).to_owned());
            names.zip(of_interpreter(&profile)).collect::<Vec<_>>()
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
        assert_eq!((time.lock_ns(), time.waiting_ns()), (40, 10));
        assert_eq!(time.share(time.lock_ns()), 0.4);
        assert_eq!(thread_time(&Sketch::new().sample("main", 1).finish()), None);
    }

    #[test]
    fn waits_are_the_authors_lines() {
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
