//! Classifies native functions by their role in a Python program, which decides how they are merged with Python frames.
//!
//! The tables cover all versions from 3.9 on. Internal functions of the interpreter are removed from merged stacks. Functions
//! that show what the program does are kept: builtins, sorting, imports, extension modules.

/// The role of a native frame in a Python program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Role {
    /// It does work of the program.
    #[default]
    Work,
    /// The evaluation function, which runs Python frames.
    Evaluation,
    /// A part of the evaluation function: a separate function, or inlined into it.
    Instruction,
    /// An internal function of the interpreter, between two Python frames or between the program's start and the first one.
    Internal,
    /// The start of a process or a thread.
    Start,
    /// simprof's own work in the target.
    Preload,
}

/// The evaluation function.
const EVALUATION: &str = "_PyEval_EvalFrameDefault";

/// Internal functions of the interpreter. A star matches any ending.
const INTERNAL: &[&str] = &[
    // From main to the first frame.
    "Py_BytesMain",
    "Py_Main",
    "Py_RunMain",
    "pymain_*",
    "PyRun_*",
    "_PyRun_*",
    "pyrun_*",
    "run_mod",
    "run_eval_code_obj",
    "thread_run",
    "t_bootstrap",
    "pythread_wrapper",
    // Evaluation.
    "PyEval_EvalCode",
    "PyEval_EvalCodeEx",
    "PyEval_EvalFrame",
    "PyEval_EvalFrameEx",
    "_PyEval_EvalCode",
    "_PyEval_EvalCodeWithName",
    "_PyEval_EvalFrame",
    "_PyEval_Vector",
    "call_function",
    "do_call_core",
    "trace_call_function",
    "function_code_fastcall",
    // Calls through the code that `-X perf` generates.
    "py_trampoline_*",
    // Calls.
    "_PyFunction_*",
    "PyObject_Call*",
    "_PyObject_Call*",
    "_PyObject_FastCall*",
    "_PyObject_MakeTpCall",
    "PyObject_Vectorcall*",
    "_PyObject_Vectorcall*",
    "PyVectorcall_*",
    "_PyVectorcall_*",
    "object_vacall",
    "callmethod*",
    "cfunction_call*",
    "cfunction_vectorcall_*",
    "method_call",
    "method_vectorcall*",
    "call_method",
    "vectorcall_*",
    "call_unbound*",
    "slot_*",
    "wrap_*",
    "wrapper_call",
    "wrapperdescr_*",
    "type_call",
    "_PyCFunction*",
    // Generators and coroutines.
    "gen_send*",
    "gen_iternext",
    "gen_throw",
    "_gen_throw",
    "PyIter_Send",
    "_PyGen_*",
    "PyGen_*",
    "async_gen_*",
    "coro_wrapper_*",
    // Attributes and operators that lead to a method.
    "PyObject_GetAttr*",
    "PyObject_SetAttr*",
    "_PyObject_GetAttr*",
    "_PyObject_GetMethod*",
    "_PyObject_LookupAttr*",
    "PyObject_GetOptionalAttr*",
    "PyObject_GenericGetAttr",
    "PyObject_GenericSetAttr",
    "_PyObject_GenericGetAttr*",
    "_PyObject_GenericSetAttr*",
    "_Py_type_getattro*",
    "property_descr_*",
    "PyObject_GetItem",
    "PyObject_SetItem",
    "PyObject_GetIter",
    "PyObject_IsTrue",
    "PyObject_RichCompare*",
    "do_richcompare",
    "PyNumber_*",
    "binary_op*",
    "binary_iop*",
    "ternary_op",
    // Calls of the import system, which is written in Python.
    "import_name",
    "import_from",
    "import_find_and_load",
    "PyImport_*",
    "builtin___import__",
];

/// The function of the preload library that calls the C library's waiting functions.
const OBSERVING: &str = "simprof_observed";
/// Modules of that library whose functions wrap functions of the C library.
const INTERPOSED: &str = "::interposed::";
/// Another wrapper of that library.
const KEY_CREATED: &str = "::key_created";
/// Start of the names of all its other functions.
const OWN_PREFIX: &str = "simprof_";

/// Functions at which a process or thread starts, in any module.
const STARTS: &[&str] = &[
    "_start",
    "_dl_start_user",
    "__libc_start_main*",
    "__libc_start_call_main",
    "__libc_init_first",
    "start_thread",
    "thread_start",
    "clone",
    "clone3",
    "__clone*",
];

/// Returns whether a name is that of the evaluation function, or of a part that the compiler split off.
pub fn is_evaluation(name: &str) -> bool {
    without_suffix(name) == EVALUATION
}

/// Returns the role of a function. `in_interpreter` is whether its module contains the evaluation function.
pub fn role(name: &str, in_interpreter: bool) -> Role {
    let name = without_suffix(name);
    let is_in = |table: &[&str]| table.iter().any(|entry| matches(entry, name));
    match name {
        EVALUATION => Role::Evaluation,
        _ if is_in(STARTS) => Role::Start,
        _ if !in_interpreter => Role::Work,
        "main" => Role::Start,
        _ if name.starts_with("_TAIL_CALL_") => Role::Instruction,
        _ if is_in(INTERNAL) => Role::Internal,
        _ => Role::Work,
    }
}

/// Returns the role of a function of the preload library.
///
/// Wrappers have the names of the functions that they wrap, which they call: the frames below them belong to the program.
pub fn preload_role(name: &str) -> Role {
    let name = without_suffix(name);
    let is_wrapper = name == OBSERVING
        || name.contains(INTERPOSED)
        || name.ends_with(KEY_CREATED)
        || !name.starts_with(OWN_PREFIX);
    if is_wrapper { Role::Internal } else { Role::Preload }
}

/// Removes suffixes that compilers append to parts and copies of a function (`.cold`, `.part.0`, `.constprop.0`), and the
/// version of a symbol.
fn without_suffix(name: &str) -> &str {
    name.split(['.', '@']).next().unwrap_or(name)
}

fn matches(entry: &str, name: &str) -> bool {
    entry.strip_suffix('*').map_or(entry == name, |start| name.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrappers_are_distinguished_from_simprofs_own_work() {
        let table = [
            ("simprof_observed", Role::Internal),
            ("execve", Role::Internal),
            ("isatty", Role::Internal),
            ("simprof_preload::exec::interposed::execle_array", Role::Internal),
            ("simprof_preload::start::key_created", Role::Internal),
            ("simprof_preload::script::run", Role::Preload),
            ("simprof_preload::signal::handler", Role::Preload),
            ("simprof_step_begin", Role::Preload),
        ];
        for (name, expected) in table {
            assert_eq!(preload_role(name), expected, "{name}");
        }
    }

    #[test]
    fn roles_follow_from_names_and_modules() {
        let table = [
            ("_PyEval_EvalFrameDefault", true, Role::Evaluation),
            ("_PyEval_EvalFrameDefault.cold", true, Role::Evaluation),
            ("_PyEval_EvalFrameDefault.constprop.0", true, Role::Evaluation),
            ("_TAIL_CALL_CALL_PY_GENERAL", true, Role::Instruction),
            ("_PyFunction_Vectorcall", true, Role::Internal),
            ("_PyFunction_Vectorcall.localalias", true, Role::Internal),
            ("_PyFunction_Vectorcall", false, Role::Work),
            ("cfunction_vectorcall_FASTCALL_KEYWORDS", true, Role::Internal),
            ("list_sort_impl", true, Role::Work),
            ("builtin_sum", true, Role::Work),
            ("_PyEval_Vectors", true, Role::Work),
            ("main", true, Role::Start),
            ("main", false, Role::Work),
            ("_start", false, Role::Start),
            ("__libc_start_main_impl", false, Role::Start),
            ("clone3", false, Role::Start),
        ];
        for (name, in_interpreter, expected) in table {
            assert_eq!(role(name, in_interpreter), expected, "{name}");
        }
    }
}
