//! The kind of work of a stack, as far as its frames show it: the start or the end of a process, an import, compilation at
//! run time, or the work of the program.

use simprof_model::{Function, FunctionKind, Profile, StackId};

use super::names;
use super::origin::LAUNCHERS;
use super::python::{is_loader, runs_python};

/// The kind of work of a stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StackKind {
    /// The program's own work.
    Work,
    /// The start of a process: exec, dynamic linking before `main`, the start of an interpreter, or a shell that starts
    /// the program.
    StartUp,
    /// An import of Python modules, with the code that the modules run.
    Import,
    /// Compilation at run time.
    Compilation,
    /// The end of a process: exit handlers, or the end of an interpreter.
    Exit,
}

/// What a Python function does in an import.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ImportRole {
    /// It is a part of the import system that only an import calls.
    Entry,
    /// It is a part of the import system that also does other work, such as reading a resource of a package.
    Helper,
    /// It is the top level of a module.
    Module,
}

/// Returns what a function does in an import. `None` if it has nothing to do with imports.
pub(crate) fn import_role(profile: &Profile, function: &Function) -> Option<ImportRole> {
    if function.kind != FunctionKind::Python {
        return None;
    }
    let name = profile.string(function.name);
    let file = function.file.map_or("", |file| profile.string(file));
    if is_at(&IMPORTS, name, file) {
        Some(ImportRole::Entry)
    } else if IMPORT_HELPERS.iter().any(|path| file.contains(path)) {
        Some(ImportRole::Helper)
    } else {
        name.ends_with("<module>").then_some(ImportRole::Module)
    }
}

/// The kinds of all stacks of a profile.
#[derive(Debug)]
pub(crate) struct StackKinds {
    /// Indexed as the profile's table.
    stacks: Vec<(StackKind, Option<StackId>)>,
}

impl StackKinds {
    pub(crate) fn new(profile: &Profile) -> Self {
        let has_python = runs_python(profile);
        let kinds: Vec<StackKind> =
            profile.functions.iter().map(|function| kind(profile, function, has_python)).collect();
        let mut stacks: Vec<(StackKind, Option<StackId>)> =
            Vec::with_capacity(profile.stacks.len());
        for node in &profile.stacks {
            let above = node.parent.map(|parent| stacks[parent.index()]);
            stacks.push(match above {
                Some(decided) if decided.0 != StackKind::Work => decided,
                _ => {
                    let function = profile.frame(node.frame).function;
                    let is_loading = node.parent.is_none()
                        && profile.function_module(function).is_some_and(is_loader);
                    let own = if is_loading { StackKind::StartUp } else { kinds[function.index()] };
                    (own, node.parent)
                }
            });
        }
        Self { stacks }
    }

    /// Returns the kind of a stack. The frame nearest the root that is not the program's own work decides.
    pub(crate) fn kind(&self, stack: Option<StackId>) -> StackKind {
        stack.map_or(StackKind::Work, |stack| self.stacks[stack.index()].0)
    }

    /// Returns the stack that called the frame that decided the kind.
    pub(crate) fn caller(&self, stack: Option<StackId>) -> Option<StackId> {
        self.stacks[stack?.index()].1
    }
}

fn kind(profile: &Profile, function: &Function, has_python: bool) -> StackKind {
    let name = profile.string(function.name);
    let file = function.file.map_or("", |file| profile.string(file));
    let path = function.module.map_or("", |id| profile.string(profile.modules[id.index()].path));
    let module = names::file_name(path);
    match function.kind {
        FunctionKind::Python => python_kind(name, file),
        FunctionKind::Kernel => kernel_kind(name),
        // A shell is the start of a Python program, but may be the program itself if there is no other.
        _ if has_python && LAUNCHERS.contains(&module) => StackKind::StartUp,
        _ => native_kind(name, module),
    }
}

/// Whether a function is in a table of parts of paths and ends of names.
fn is_at(table: &[(&str, &str)], name: &str, file: &str) -> bool {
    table.iter().any(|(path, function)| file.contains(path) && name.ends_with(function))
}

fn python_kind(name: &str, file: &str) -> StackKind {
    if is_at(&IMPORTS, name, file) {
        StackKind::Import
    } else if is_at(&PYTHON_COMPILERS, name, file) {
        StackKind::Compilation
    } else {
        StackKind::Work
    }
}

fn kernel_kind(name: &str) -> StackKind {
    if name.contains("sys_execve") {
        StackKind::StartUp
    } else if name == "do_group_exit" {
        StackKind::Exit
    } else {
        StackKind::Work
    }
}

fn native_kind(name: &str, module: &str) -> StackKind {
    let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix));
    let is_compiler = COMPILER_PROGRAMS.contains(&module)
        || COMPILER_LIBRARIES.iter().any(|prefix| module.starts_with(prefix))
        || starts(&COMPILER_NAMES);
    if is_compiler {
        StackKind::Compilation
    } else if starts(&STARTS) {
        StackKind::StartUp
    } else if starts(&EXITS) {
        StackKind::Exit
    } else {
        StackKind::Work
    }
}

/// Python functions that import: a part of the path of the file, and the end of the name. Every import statement calls one.
const IMPORTS: [(&str, &str); 5] = [
    ("<frozen importlib._bootstrap>", ""),
    ("/importlib/_bootstrap.py", ""),
    ("<frozen importlib._bootstrap_external>", "exec_module"),
    // A new process of multiprocessing runs the file of the main program again.
    ("/multiprocessing/spawn.py", "_fixup_main_from_path"),
    ("/multiprocessing/spawn.py", "_fixup_main_from_name"),
];

/// Parts of the paths of the import system's files.
const IMPORT_HELPERS: [&str; 5] = [
    "<frozen importlib",
    "<frozen zipimport>",
    "/importlib/_bootstrap_external.py",
    "/importlib/__init__.py",
    "/zipimport.py",
];

/// Python functions that compile at run time: a part of the path of the file, and the end of the name. These packages
/// also run what they compiled, so only the entries of their compilers count.
const PYTHON_COMPILERS: [(&str, &str); 13] = [
    ("/numba/core/compiler", ""),
    ("/numba/core/dispatcher.py", "_compile_for_args"),
    ("/numba/core/dispatcher.py", ".compile"),
    ("/numba/cuda/dispatcher.py", ".compile"),
    ("/llvmlite/", ""),
    ("/torch/_dynamo/convert_frame.py", ""),
    ("/torch/_inductor/compile_fx.py", "fx_codegen_and_compile"),
    ("/torch/_inductor/compile_fx.py", "compile_fx_inner"),
    ("/torch/utils/cpp_extension.py", ""),
    ("/jax/_src/compiler.py", ""),
    ("/jax/_src/interpreters/mlir.py", ""),
    ("/jax/_src/interpreters/partial_eval.py", ""),
    ("/taichi/lang/kernel_impl.py", "materialize"),
];

/// Prefixes of the file names of libraries that compile.
const COMPILER_LIBRARIES: [&str; 8] = [
    "libLLVM",
    "libllvmlite",
    "libclang",
    "libCling",
    "libMLIR",
    "libnvrtc",
    "libnvidia-ptxjit",
    "libjulia-codegen",
];

/// Prefixes of native functions that compile.
const COMPILER_NAMES: [&str; 7] = [
    "llvm::",
    "mlir::",
    "clang::",
    "cling::",
    "CompileBroker::",
    "v8::internal::compiler::",
    "v8::internal::Compiler::",
];

/// Programs that compile.
const COMPILER_PROGRAMS: [&str; 11] = [
    "as", "cc1", "cc1plus", "cicc", "collect2", "ld", "ld.bfd", "ld.gold", "ld.lld", "lto1",
    "ptxas",
];

/// Prefixes of native functions that start a process before its own code.
const STARTS: [&str; 5] =
    ["_dl_start", "_dl_init", "__libc_csu_init", "Py_Initialize", "pymain_init"];

/// Prefixes of native functions that end a process.
const EXITS: [&str; 3] = ["Py_Finalize", "__run_exit_handlers", "_dl_fini"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::profile;

    #[test]
    fn frames_show_the_kind_of_work() {
        let import = "p:importlib._bootstrap._find_and_load%<frozen importlib._bootstrap>";
        let numba = "p:numba.core.dispatcher._DispatcherBase._compile_for_args%/s/site-packages/numba/core/dispatcher.py";
        for (stack, expected) in [
            ("main > work".to_owned(), StackKind::Work),
            (String::new(), StackKind::Work),
            (format!("p:sim.<module> > {import} > p:numpy.<module>"), StackKind::Import),
            (format!("p:sim.step > {numba} > f~/l/libllvmlite.so"), StackKind::Compilation),
            // The frame nearest the root decides.
            (format!("p:sim.<module> > {import} > p:sim.fast > {numba}"), StackKind::Import),
            ("_start~/lib64/ld-linux-x86-64.so.2 > _dl_start > f".to_owned(), StackKind::StartUp),
            // Loading a library at run time is the program's work.
            ("main > dlopen > f~/lib64/ld-linux-x86-64.so.2".to_owned(), StackKind::Work),
            ("_start > execve > k:__x64_sys_execve > k:exit_mmap".to_owned(), StackKind::StartUp),
            ("_start > Py_RunMain > Py_FinalizeEx > gc".to_owned(), StackKind::Exit),
            ("_start > exit > __run_exit_handlers > f".to_owned(), StackKind::Exit),
            ("main~/bin/bash > read~/bin/bash".to_owned(), StackKind::StartUp),
            ("main > llvm::orc::compile".to_owned(), StackKind::Compilation),
            (
                "main~/usr/lib/gcc/cc1plus > parse~/usr/lib/gcc/cc1plus".to_owned(),
                StackKind::Compilation,
            ),
            // Reading a resource of a package is no import.
            (
                "p:sim.read > p:FileLoader.get_data%<frozen importlib._bootstrap_external>"
                    .to_owned(),
                StackKind::Work,
            ),
        ] {
            let profile = profile(&[("p:sim.<module>", 1), (&stack, 1)]);
            let kinds = StackKinds::new(&profile);
            assert_eq!(kinds.kind(profile.samples[1].stack), expected, "{stack}");
        }
    }

    #[test]
    fn a_shell_is_the_program_if_there_is_no_other() {
        let profile = profile(&[("main~/bin/bash > read~/bin/bash", 1)]);
        let kind = StackKinds::new(&profile).kind(profile.samples[0].stack);
        assert_eq!(kind, StackKind::Work);
    }
}
