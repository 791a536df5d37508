//! What a thread executes: the Python interpreter, other native code, the kernel, or a loop in which it spins.

use simprof_model::{FunctionId, FunctionKind, Profile, StackId};

use super::names;
use super::origin::LAUNCHERS;
use super::spin_loops::SpinKind;
use super::spinning::spin_kinds;

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

/// Whether a process of the profile runs Python.
pub fn runs_python(profile: &Profile) -> bool {
    profile.provenance.python.is_some()
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

/// The kind of code that a sample was executing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CodeKind {
    /// The Python interpreter.
    Interpreter,
    /// Other native code.
    Native,
}

/// The part of a thread's time that a sample belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CpuPart {
    /// User code.
    Code(CodeKind),
    /// The kernel.
    Kernel,
    /// A loop in which the thread spins.
    Spinning(SpinKind),
}

/// The code that a sample was executing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ExecutingCode {
    pub(crate) part: CpuPart,
    /// The function that decided the kind; `None` if the stack has only kernel and helper frames.
    pub(crate) function: Option<FunctionId>,
}

/// The kind of code of every function of a profile.
#[derive(Debug)]
pub(crate) struct CodeKinds {
    /// Indexed as the profile's table. `None` for the kernel and for helper libraries, which count with their callers.
    by_function: Vec<Option<CodeKind>>,
    spinning: Vec<Option<SpinKind>>,
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
        let by_function = profile.functions.iter().map(kind).collect();
        Self { by_function, spinning: spin_kinds(profile) }
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
        let leaf = profile.frames_from_leaf(stack).next().map(|leaf| profile.frame(leaf).function);
        let part = match leaf {
            Some(leaf) if profile.function(leaf).kind == FunctionKind::Kernel => CpuPart::Kernel,
            Some(leaf) => {
                self.spinning[leaf.index()].map_or(CpuPart::Code(kind), CpuPart::Spinning)
            }
            None => CpuPart::Code(kind),
        };
        ExecutingCode { part, function: function.or(first) }
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
        let interpreter = CpuPart::Code(CodeKind::Interpreter);
        let native = CpuPart::Code(CodeKind::Native);
        for (stack, part, expected) in [
            ("p:sim.step".to_owned(), interpreter, "sim.step"),
            (format!("p:sim.step > list_sort~{LIB}"), interpreter, "list_sort"),
            (format!("p:sim.step > list_sort~{LIB} > memmove~{LIBC}"), interpreter, "list_sort"),
            (
                format!("p:sim.step > {numpy} > memcpy~{LIBC} > k:page_fault"),
                CpuPart::Kernel,
                "dot",
            ),
            (format!("p:sim.step > pow~{LIBC}"), interpreter, "sim.step"),
            (format!("main~/usr/bin/python3.12 > clone~{LIBC}"), interpreter, "main"),
            ("main~/opt/game > _PyEval_Vector~/opt/game".into(), interpreter, "_PyEval_Vector"),
            (format!("p:sim.step > sort~{LIB} > +Py_TYPE~{LIB}"), interpreter, "sort"),
            (format!("p:sim.step > +Py_TYPE~{LIB}"), interpreter, "sim.step"),
            ("work~/opt/pythonic.so".into(), native, "work"),
            (format!("clone~{LIBC}"), native, ""),
            (String::new(), native, ""),
        ] {
            let profile = Sketch::new().sample(&stack, 1).finish();
            let code = CodeKinds::new(&profile).classify(&profile, profile.samples[0].stack);
            let name = code.function.map_or("", |id| profile.function_name(id));
            assert_eq!((code.part, name), (part, expected), "{stack}");
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
}
