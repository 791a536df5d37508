//! The origin of a function: the author's code, a library, the language runtime or the kernel.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use simprof_model::{Function, FunctionId, FunctionKind, Profile, StackId};

use super::names;
use super::placeholders::UNREAD_PYTHON;
use super::spinning::is_marker;

/// The origin of a function: whose code it is.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The author of the simulation.
    Own,
    /// A library that the simulation uses.
    Library,
    /// The language's library, the C library, the loader or an interpreter.
    Runtime,
    /// The operating system.
    Kernel,
    /// Unknown: the function has no symbol, or the sample no stack.
    Unknown,
}

/// Parts of the source paths of a language's own library, and of code that simprof adds to the program.
const RUNTIME_SOURCES: [&str; 14] = [
    "/rustc/",
    "/rust/deps/",
    "library/core/src/",
    "library/std/src/",
    "library/alloc/src/",
    "/.rustup/toolchains/",
    "/usr/include/",
    "/lib/python3",
    "/lib64/python3",
    "/usr/lib/gcc/",
    "<frozen ",
    "<simprof",
    "/crates/probe/src/",
    "simprof_probe.h",
];

/// Parts of the source paths of libraries fetched from a registry, and of code that such libraries generate.
const LIBRARY_SOURCES: [&str; 8] = [
    "/.cargo/registry/",
    "/.cargo/git/",
    "/cargo/registry/",
    "site-packages/",
    "dist-packages/",
    "<attrs generated",
    "<__array_function__",
    "<decorator-gen",
];

/// Parts of the names of Python functions that the language's own library generates, in code without a file.
const RUNTIME_GENERATED: [&str; 2] = ["__create_fn__", "namedtuple_"];

/// The module of generated code with names.
const GENERATED_CODE: &str = "[jit]";

/// Prefixes of the names of generated functions that belong to the runtime itself (V8).
const GENERATED_RUNTIME: [&str; 5] =
    ["Builtin:", "BytecodeHandler:", "Handler:", "RegExp:", "Stub:"];

/// Prefixes of the file names of modules that belong to the runtime.
const RUNTIME_MODULES: [&str; 12] = [
    "[",
    "ld-linux",
    "ld-musl",
    "libc.",
    "libc-",
    "libm.",
    "libpthread",
    "libstdc++",
    "libgcc_s",
    "libpython",
    "libsimprof",
    "python3",
];

/// Programs that only start the profiled program.
pub(super) const LAUNCHERS: [&str; 7] = ["bash", "busybox", "dash", "env", "ksh", "sh", "zsh"];

/// Functions of the C library that may be linked into the program statically.
const RUNTIME_FUNCTIONS: [&str; 9] =
    ["memcpy", "memmove", "memset", "memcmp", "bcmp", "malloc", "free", "calloc", "realloc"];

/// Returns the origin of a function. The first of these that identifies it decides:
///
/// 1. its kind,
/// 2. its module: system folders and known runtimes,
/// 3. its source file: files of registries and toolchains are not the author's, all others are,
/// 4. its name: `std::`, `core::`, `memcpy`, names with two leading underscores.
///
/// A function that none of these identifies counts as the author's, so that a program without debug information still
/// has findings.
pub fn origin(profile: &Profile, id: FunctionId) -> Origin {
    let function = profile.function(id);
    match function.kind {
        FunctionKind::Kernel => Origin::Kernel,
        FunctionKind::Unsymbolised => Origin::Unknown,
        FunctionKind::Python if is_unread(profile, function) => Origin::Unknown,
        FunctionKind::Python => python(profile, id, function),
        FunctionKind::Native if is_marker(profile, function) => Origin::Own,
        FunctionKind::Native => native(profile, id, function),
    }
}

/// Returns whether a function stands for Python frames that were not read.
pub(super) fn is_unread(profile: &Profile, function: &Function) -> bool {
    function.kind == FunctionKind::Python
        && function.file.is_none()
        && UNREAD_PYTHON.contains(&profile.string(function.name))
}

/// Returns the [`origin`] of every function, indexed as the profile's table.
pub(crate) fn origins(profile: &Profile) -> Vec<Origin> {
    (0..profile.functions.len())
        .map(|index| {
            let index = u32::try_from(index).expect("ids of functions have 32 bits");
            origin(profile, FunctionId(index))
        })
        .collect()
}

fn python(profile: &Profile, id: FunctionId, function: &Function) -> Origin {
    let name = profile.string(function.name);
    if RUNTIME_GENERATED.iter().any(|part| name.contains(part)) {
        return Origin::Runtime;
    }
    match profile.function_file(id) {
        Some(STRING_SOURCE)
            if starts_multiprocessing(profile, id) || !is_called_by_author(profile, id) =>
        {
            Origin::Runtime
        }
        _ => by_file(profile, id).unwrap_or(Origin::Own),
    }
}

/// The file name of Python code that has no file: the argument of `python -c`, and text that programs and the standard
/// library compile at run time.
const STRING_SOURCE: &str = "<string>";

/// Whether the author's code calls a function that has no file, directly or through other such functions. Also true if
/// no Python code with a file calls it.
fn is_called_by_author(profile: &Profile, id: FunctionId) -> bool {
    let node_of = |stack: StackId| {
        let node = profile.stacks[stack.index()];
        (profile.frame(node.frame).function, node.parent)
    };
    let is_outside = |&function: &FunctionId| {
        let is_python = profile.function(function).kind == FunctionKind::Python;
        is_python && profile.function_file(function) != Some(STRING_SOURCE)
    };
    let stacks = u32::try_from(profile.stacks.len()).expect("ids of stacks have 32 bits");
    let mut nodes = (0..stacks).map(|stack| node_of(StackId(stack))).filter(|&(own, _)| own == id);
    let has_author_above = |parent: Option<StackId>| {
        let callers =
            std::iter::successors(parent, |&stack| node_of(stack).1).map(|stack| node_of(stack).0);
        let caller = callers.into_iter().find(is_outside);
        caller.is_none_or(|caller| by_file(profile, caller).is_none_or(|by| by == Origin::Own))
    };
    profile.stacks.is_empty() || nodes.any(|(_, parent)| has_author_above(parent))
}

/// Ends of the paths of files of `multiprocessing`. A new process runs code in a string, which calls a function of one of
/// these files.
const MULTIPROCESSING_FILES: [&str; 4] = [
    "/multiprocessing/spawn.py",
    "/multiprocessing/forkserver.py",
    "/multiprocessing/resource_tracker.py",
    "/multiprocessing/semaphore_tracker.py",
];

/// Whether a function without a file starts a process of `multiprocessing`: it calls one of
/// [`MULTIPROCESSING_FILES`], and otherwise only the runtime.
fn starts_multiprocessing(profile: &Profile, id: FunctionId) -> bool {
    let function_of = |stack: StackId| profile.frame(profile.stacks[stack.index()].frame).function;
    let parent_of = |stack: StackId| profile.stacks[stack.index()].parent;
    let is_python = |id: FunctionId| profile.function(id).kind == FunctionKind::Python;
    let stacks =
        (0..u32::try_from(profile.stacks.len()).expect("ids of stacks have 32 bits")).map(StackId);
    let is_called = |&stack: &StackId| {
        let callers = std::iter::successors(parent_of(stack), |&stack| parent_of(stack));
        callers.map(function_of).find(|&caller| is_python(caller)) == Some(id)
    };
    let called = stacks.filter(|&stack| is_python(function_of(stack)) && function_of(stack) != id);
    let mut starts = false;
    for function in called.filter(is_called).map(function_of) {
        let file = profile.function_file(function).unwrap_or_default();
        starts |= MULTIPROCESSING_FILES.iter().any(|end| file.ends_with(end));
        if by_file(profile, function) != Some(Origin::Runtime) {
            return false;
        }
    }
    starts
}

fn native(profile: &Profile, id: FunctionId, function: &Function) -> Origin {
    if profile.function_module(id) == Some(GENERATED_CODE) {
        return of_generated(profile.string(function.name));
    }
    by_module(profile, id)
        .or_else(|| by_file(profile, id))
        .unwrap_or_else(|| by_name(profile.string(function.name)))
}

/// Returns the origin of a function that a runtime compiled, by the name that the runtime gave it.
fn of_generated(name: &str) -> Origin {
    if let Some(python) = name.strip_prefix("py::") {
        return python.rsplit(':').next().map_or(Origin::Own, origin_of_file);
    }
    let is_runtime =
        GENERATED_RUNTIME.iter().any(|prefix| name.starts_with(prefix)) || name.contains(" node:");
    if is_runtime { Origin::Runtime } else { Origin::Own }
}

fn by_module(profile: &Profile, id: FunctionId) -> Option<Origin> {
    let module = profile.function_module(id)?;
    let name = names::file_name(module);
    if LAUNCHERS.contains(&name)
        || RUNTIME_MODULES.iter().any(|prefix| name.starts_with(prefix))
        || module.contains("/lib-dynload/")
    {
        return Some(Origin::Runtime);
    }
    let is_system = ["/lib/", "/lib64/", "/usr/lib/", "/usr/lib64/"]
        .iter()
        .any(|folder| module.starts_with(folder));
    let is_package = ["site-packages/", "dist-packages/"].iter().any(|part| module.contains(part));
    (is_system || is_package).then_some(Origin::Library)
}

fn by_file(profile: &Profile, id: FunctionId) -> Option<Origin> {
    profile.function_file(id).map(origin_of_file)
}

/// Returns the origin of a source file.
pub(crate) fn origin_of_file(file: &str) -> Origin {
    let contains = |parts: &[&str]| parts.iter().any(|part| file.contains(part));
    if contains(&LIBRARY_SOURCES) {
        Origin::Library
    } else if contains(&RUNTIME_SOURCES) {
        Origin::Runtime
    } else {
        Origin::Own
    }
}

/// Returns whether a function is a stub of the procedure linkage table, through which a program calls a library.
fn is_stub(name: &str) -> bool {
    name.ends_with("@plt") || name.starts_with("[plt of ")
}

fn by_name(name: &str) -> Origin {
    if is_stub(name) {
        return Origin::Library;
    }
    let is_runtime = name.starts_with("__")
        || name == "_start"
        || RUNTIME_FUNCTIONS.contains(&name)
        || names::path(name).first().is_some_and(|root| names::is_language_root(root));
    if is_runtime { Origin::Runtime } else { Origin::Own }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Sketch;

    #[test]
    fn modules_then_files_then_names_decide() {
        let exe = "/work/target/release/sim";
        for (name, module, file, expected) in [
            ("sim::step", Some(exe), Some("src/main.rs"), Origin::Own),
            ("sim::step", Some(exe), None, Origin::Own),
            ("core::ptr::read", Some(exe), None, Origin::Runtime),
            (
                "read",
                Some(exe),
                Some("/rustc/90b35a6/library/core/src/ptr/mod.rs"),
                Origin::Runtime,
            ),
            (
                "kd::nearest",
                Some(exe),
                Some("/home/me/.cargo/registry/src/x/kd-1/a.rs"),
                Origin::Library,
            ),
            ("<alloc::vec::Vec<T> as sim::Sum>::sum", Some(exe), Some("src/sum.rs"), Origin::Own),
            (
                "malloc",
                Some("/lib/x86_64-linux-gnu/libc.so.6"),
                Some("./malloc/malloc.c"),
                Origin::Runtime,
            ),
            (
                "sqlite3_step",
                Some("/usr/lib/x86_64-linux-gnu/libsqlite3.so.0"),
                None,
                Origin::Library,
            ),
            ("__memcpy_avx_unaligned", Some(exe), None, Origin::Runtime),
            ("LazyCompile:*step sim.js:12", Some("[jit]"), None, Origin::Own),
            ("LazyCompile:~emit node:events:405", Some("[jit]"), None, Origin::Runtime),
            ("Builtin:ArrayMap", Some("[jit]"), None, Origin::Runtime),
            ("py::step:/w/sim.py", Some("[jit]"), None, Origin::Own),
            (
                "py::loads:/usr/lib/python3.12/json/__init__.py",
                Some("[jit]"),
                None,
                Origin::Runtime,
            ),
            ("sin@plt", Some(exe), None, Origin::Library),
            ("sim::work(int)@plt", Some(exe), None, Origin::Library),
            ("[plt of sim]", Some(exe), None, Origin::Library),
            ("sum", Some("/v/lib/python3.11/site-packages/np/_core.so"), None, Origin::Library),
        ] {
            let mut sketch = Sketch::new();
            let id = sketch.function(name, module, file, FunctionKind::Native);
            assert_eq!(origin(&sketch.finish(), id), expected, "{name}");
        }
    }

    #[test]
    fn kinds_decide_first() {
        for (kind, expected) in [
            (FunctionKind::Kernel, Origin::Kernel),
            (FunctionKind::Unsymbolised, Origin::Unknown),
            (FunctionKind::Python, Origin::Own),
        ] {
            let mut sketch = Sketch::new();
            let id = sketch.function("f", Some("/usr/bin/python3.11"), Some("sim.py"), kind);
            assert_eq!(origin(&sketch.finish(), id), expected);
        }
    }

    #[test]
    fn code_without_a_file_has_the_origin_of_its_caller() {
        let site = "p:site.addpackage%/opt/lib/python3.11/site.py";
        let typed = "p:<string>.<module>%<string>";
        for (stack, expected) in [
            (typed.to_owned(), Origin::Own),
            (format!("main > {typed} > {typed}"), Origin::Own),
            (format!("{site} > exec~/opt/libpython3.11.so > {typed} > {typed}"), Origin::Runtime),
            (format!("{site} > p:sim.make%/w/sim.py > {typed}"), Origin::Own),
        ] {
            let profile = Sketch::new().sample(&stack, 1).finish();
            let id = profile
                .frame(profile.frames_from_leaf(profile.samples[0].stack).next().expect("one"))
                .function;
            assert_eq!(origin(&profile, id), expected, "{stack}");
        }
    }

    #[test]
    fn code_that_starts_multiprocessing_is_runtime() {
        let typed = "p:<string>.<module>%<string>";
        let spawn = "p:spawn_main%/opt/lib/python3.11/multiprocessing/spawn.py";
        let import = "p:_find_and_load%<frozen importlib._bootstrap>";
        let own = "p:sim.run%/w/sim.py";
        for (stacks, expected) in [
            (
                vec![format!("{typed} > {spawn} > {own}"), format!("{typed} > {import}")],
                Origin::Runtime,
            ),
            (vec![format!("main > {typed} > exec > {spawn}"), typed.to_owned()], Origin::Runtime),
            (vec![format!("{typed} > {import} > {own}")], Origin::Own),
            (vec![format!("{typed} > {own}"), format!("{typed} > {spawn}")], Origin::Own),
        ] {
            let mut sketch = Sketch::new();
            for stack in &stacks {
                sketch = sketch.sample(stack, 1);
            }
            let profile = sketch.finish();
            let named = |f: &Function| profile.string(f.name) == "<string>.<module>";
            let id = profile.functions.iter().position(named).expect("it is there");
            let id = FunctionId(u32::try_from(id).expect("it is small"));
            assert_eq!(origin(&profile, id), expected, "{stacks:?}");
        }
    }

    #[test]
    fn the_path_decides_the_origin_of_python_code() {
        let lib = "/opt/py/lib/python3.11";
        for (name, file, expected) in [
            ("sim.model.Model.step", "/home/me/sim/model.py".to_owned(), Origin::Own),
            ("sim.run", "<string>".to_owned(), Origin::Own),
            (
                "numpy.sum",
                format!("{lib}/site-packages/numpy/core/fromnumeric.py"),
                Origin::Library,
            ),
            (
                "yaml.load",
                "/usr/lib/python3/dist-packages/yaml/__init__.py".into(),
                Origin::Library,
            ),
            ("json.decoder.decode", format!("{lib}/json/decoder.py"), Origin::Runtime),
            ("importlib._bootstrap._find", "<frozen importlib._bootstrap>".into(), Origin::Runtime),
            ("__create_fn__.<locals>.__init__", "<string>".to_owned(), Origin::Runtime),
            ("A.__init__", "<attrs generated init sim.A>".to_owned(), Origin::Library),
        ] {
            let mut sketch = Sketch::new();
            let id = sketch.function(name, None, Some(&file), FunctionKind::Python);
            assert_eq!(origin(&sketch.finish(), id), expected, "{name} in {file}");
        }
        for (module, expected) in [
            (format!("{lib}/lib-dynload/_json.cpython-311-x86_64-linux-gnu.so"), Origin::Runtime),
            ("/opt/py/bin/python3.11".to_owned(), Origin::Runtime),
            (format!("{lib}/site-packages/numpy.libs/libopenblas.so"), Origin::Library),
            ("/home/me/sim/_fast.cpython-311-x86_64-linux-gnu.so".to_owned(), Origin::Own),
        ] {
            let mut sketch = Sketch::new();
            let id = sketch.function("f", Some(&module), None, FunctionKind::Native);
            assert_eq!(origin(&sketch.finish(), id), expected, "{module}");
        }
    }
}
