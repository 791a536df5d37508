//! Which native functions are the interpreter's own machinery, and tell nothing between two Python frames.
//!
//! The one table of names, of all versions from 3.9 on. What says what the program does stays: builtins, sorting, imports,
//! extension modules.

/// What a native frame is to the Python frames around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Role {
    /// Something that the program does.
    #[default]
    Work,
    /// The evaluation function: it runs Python frames.
    Evaluation,
    /// A part of the evaluation function that is a function of its own, or was inlined into it.
    Instruction,
    /// Calls from one Python frame to the next, or from the start of the program to the first one.
    Plumbing,
    /// The start of a process or a thread.
    Start,
    /// The profiler's own.
    Probe,
}

/// The evaluation function.
const EVALUATION: &str = "_PyEval_EvalFrameDefault";

/// Functions of the interpreter that only call; a star stands for any ending.
const PLUMBING: &[&str] = &[
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
    // The way to the import machinery, whose own frames are in Python.
    "import_name",
    "import_from",
    "import_find_and_load",
    "PyImport_*",
    "builtin___import__",
];

/// What the profiler's own library calls the waiting functions of the C library through.
const OBSERVING: &str = "simprof_observed";
/// Modules of that library whose functions call what they stand in for.
const INTERPOSED: &str = "::interposed::";
/// A function of it that does so too.
const KEY_CREATED: &str = "::key_created";
/// How names of all its other functions begin.
const OWN_PREFIX: &str = "simprof_";

/// Functions that nothing of interest calls, wherever they are.
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

/// Whether a function of that name is the evaluation function, or a part that the compiler split off.
pub fn is_evaluation(name: &str) -> bool {
    base(name) == EVALUATION
}

/// The role of a named function; `in_interpreter` tells whether it is in the module that has the evaluation function.
pub fn role(name: &str, in_interpreter: bool) -> Role {
    let name = base(name);
    let is_in = |table: &[&str]| table.iter().any(|entry| matches(entry, name));
    match name {
        EVALUATION => Role::Evaluation,
        _ if is_in(STARTS) => Role::Start,
        _ if !in_interpreter => Role::Work,
        "main" => Role::Start,
        _ if name.starts_with("_TAIL_CALL_") => Role::Instruction,
        _ if is_in(PLUMBING) => Role::Plumbing,
        _ => Role::Work,
    }
}

/// The role of a function of the library that the profiler loads. Those that stand in for others bear the names of these,
/// and call them: what is beneath is the program's.
pub fn probe_role(name: &str) -> Role {
    let name = base(name);
    let is_standing_in = name == OBSERVING
        || name.contains(INTERPOSED)
        || name.ends_with(KEY_CREATED)
        || !name.starts_with(OWN_PREFIX);
    if is_standing_in { Role::Plumbing } else { Role::Probe }
}

/// Without what compilers append to parts and copies of a function (`.cold`, `.part.0`, `.constprop.0`), and without the
/// version that a symbol may carry.
fn base(name: &str) -> &str {
    name.split(['.', '@']).next().unwrap_or(name)
}

fn matches(entry: &str, name: &str) -> bool {
    entry.strip_suffix('*').map_or(entry == name, |start| name.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_in_for_a_function_is_told_from_the_profilers_own_work() {
        let table = [
            ("simprof_observed", Role::Plumbing),
            ("execve", Role::Plumbing),
            ("isatty", Role::Plumbing),
            ("simprof_preload::exec::interposed::execle_array", Role::Plumbing),
            ("simprof_preload::start::key_created", Role::Plumbing),
            ("simprof_preload::script::run", Role::Probe),
            ("simprof_preload::signal::handler", Role::Probe),
            ("simprof_step_begin", Role::Probe),
        ];
        for (name, expected) in table {
            assert_eq!(probe_role(name), expected, "{name}");
        }
    }

    #[test]
    fn roles_follow_from_names_and_modules() {
        let table = [
            ("_PyEval_EvalFrameDefault", true, Role::Evaluation),
            ("_PyEval_EvalFrameDefault.cold", true, Role::Evaluation),
            ("_PyEval_EvalFrameDefault.constprop.0", true, Role::Evaluation),
            ("_TAIL_CALL_CALL_PY_GENERAL", true, Role::Instruction),
            ("_PyFunction_Vectorcall", true, Role::Plumbing),
            ("_PyFunction_Vectorcall.localalias", true, Role::Plumbing),
            ("_PyFunction_Vectorcall", false, Role::Work),
            ("cfunction_vectorcall_FASTCALL_KEYWORDS", true, Role::Plumbing),
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
