//! Lets the script see the code of a module before the interpreter runs it, and run other code instead (CPython 3.9 to
//! 3.11).
//!
//! Until the script has what it waits for, this library's function stands before the interpreter's evaluation function
//! (PEP 523). It calls the script for frames of modules and passes all frames on. Then it is removed again, so that it
//! costs nothing while the program runs.

use core::ffi::{c_int, c_void};
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};

use super::set_once::SetOnce;
use crate::own_work::OwnWork;
use crate::python::interpreter::{Interpreter, Object, interpreter};
use crate::python::layout::Text;

/// Name of the code of a module.
const MODULE_CODE: [u8; 8] = *b"<module>";

/// The first version whose frames have another layout than 3.9 and 3.10, and the first one that is not supported.
const V3_11: u32 = 0x030b_0000;
const V3_12: u32 = 0x030c_0000;

/// The function of the script; null if it waits for nothing. This library owns a reference to it.
static FUNCTION: AtomicPtr<Object> = AtomicPtr::new(ptr::null_mut());
/// The evaluation function that was set before.
static PREVIOUS: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());

// SAFETY: it holds addresses that are never unloaded, and functions that any thread may call.
unsafe impl Send for Api {}
// SAFETY: as above.
unsafe impl Sync for Api {}

static API: SetOnce<Api> = SetOnce::new();

/// `_PyFrameEvalFunction`.
type Evaluate = unsafe extern "C" fn(*mut c_void, *mut c_void, c_int) -> *mut Object;

/// The parts of the interpreter's C interface that are used here.
struct Api {
    this_interpreter: unsafe extern "C" fn() -> *mut c_void,
    set_evaluate: unsafe extern "C" fn(*mut c_void, *mut c_void),
    get_evaluate: unsafe extern "C" fn(*mut c_void) -> *mut c_void,
    evaluate_code: unsafe extern "C" fn(*mut Object, *mut Object, *mut Object) -> *mut Object,
    call: unsafe extern "C" fn(*mut Object, ...) -> *mut Object,
    clear_error: unsafe extern "C" fn(),
    retain: unsafe extern "C" fn(*mut Object),
    release: unsafe extern "C" fn(*mut Object),
    none: *mut Object,
}

impl Api {
    fn find(interpreter: &Interpreter) -> Option<Api> {
        let none = interpreter.symbol(c"_Py_NoneStruct");
        // SAFETY: functions of these names have these types from 3.9 to 3.11.
        unsafe {
            Some(Api {
                this_interpreter: interpreter.function(c"PyInterpreterState_Get")?,
                set_evaluate: interpreter.function(c"_PyInterpreterState_SetEvalFrameFunc")?,
                get_evaluate: interpreter.function(c"_PyInterpreterState_GetEvalFrameFunc")?,
                evaluate_code: interpreter.function(c"PyEval_EvalCode")?,
                call: interpreter.function(c"PyObject_CallFunctionObjArgs")?,
                clear_error: interpreter.function(c"PyErr_Clear")?,
                retain: interpreter.function(c"Py_IncRef")?,
                release: interpreter.function(c"Py_DecRef")?,
                none: (!none.is_null()).then_some(none)?,
            })
        }
    }
}

/// The objects of a frame that is about to be evaluated.
struct Frame {
    code: *mut Object,
    globals: *mut Object,
    locals: *mut Object,
}

/// What the script returned for a module.
enum Answer {
    /// It waits for another module.
    Wait,
    /// It waits no longer.
    Done,
    /// It waits no longer, and this code runs instead of the module's. The receiver owns a reference.
    Instead(*mut Object),
}

/// Calls `function`, with the code and the global names, before the code of each module, until it returns something else
/// than None. If that is a code object, it runs instead. Does nothing if the interpreter does not support it.
///
/// # Safety
/// The interpreter's lock must be held, and `function` must be an object.
pub unsafe fn call_before_modules(function: *mut Object) {
    let Some(interpreter) = interpreter() else { return };
    let is_supported = interpreter.version < V3_12 && interpreter.layout.is_ok();
    let Some(found) = Api::find(interpreter).filter(|_| is_supported) else { return };
    let Some(api) = API.set(found) else { return };
    // SAFETY: the lock is held, and the functions exist in this version.
    unsafe {
        let this = (api.this_interpreter)();
        let previous = (api.get_evaluate)(this);
        if previous.is_null() || !FUNCTION.load(Ordering::Relaxed).is_null() {
            return;
        }
        (api.retain)(function);
        PREVIOUS.store(previous, Ordering::Relaxed);
        FUNCTION.store(function, Ordering::Relaxed);
        (api.set_evaluate)(this, evaluate as *mut c_void);
    }
}

/// Stands before the interpreter's evaluation function. It has the name of this file's module, by which simprof knows
/// that the frames below belong to the program.
///
/// # Safety
/// The interpreter calls it with its lock held, a thread state and a frame that is not yet linked.
unsafe extern "C" fn evaluate(
    state: *mut c_void,
    frame: *mut c_void,
    thrown: c_int,
) -> *mut Object {
    // SAFETY: the caller's promise. The code returned is owned; the frame keeps its objects alive.
    unsafe {
        if thrown == 0
            && !FUNCTION.load(Ordering::Relaxed).is_null()
            && let Some(found) = module_frame(frame)
            && let Some(api) = API.get()
            && let Answer::Instead(code) = ask(api, &found)
        {
            let result = (api.evaluate_code)(code, found.globals, found.locals);
            (api.release)(code);
            return result;
        }
        let previous: Evaluate = core::mem::transmute(PREVIOUS.load(Ordering::Relaxed));
        previous(state, frame, thrown)
    }
}

/// Returns the objects of a frame if it is that of a module.
///
/// # Safety
/// As for [`evaluate`].
unsafe fn module_frame(frame: *mut c_void) -> Option<Frame> {
    let interpreter = interpreter()?;
    let layout = interpreter.layout.as_ref().ok()?;
    // `f_globals` and `f_locals`, which nothing else in this library reads.
    let (globals, locals) = if interpreter.version < V3_11 { (48, 56) } else { (8, 24) };
    // SAFETY: a frame has these fields in these versions, and `code` is an object with a name.
    unsafe {
        let object =
            |base: *mut c_void, offset: usize| *base.byte_add(offset).cast::<*mut Object>();
        let code = object(frame, layout.frame.code);
        if !is_module_name(object(code, layout.code.name), &layout.text) {
            return None;
        }
        let (globals, locals) = (object(frame, globals), object(frame, locals));
        (!globals.is_null() && !locals.is_null()).then_some(Frame { code, globals, locals })
    }
}

/// Returns whether a string is [`MODULE_CODE`]. There are several such objects: one of the compiler and one of files with
/// compiled code.
///
/// # Safety
/// `name` must be a string.
unsafe fn is_module_name(name: *mut Object, text: &Text) -> bool {
    // SAFETY: a string has its length at this offset. The characters of a string of ASCII characters follow its header,
    // and strings with other characters have a longer header.
    unsafe {
        *name.byte_add(text.length).cast::<usize>() == MODULE_CODE.len()
            && *name.byte_add(text.ascii).cast::<[u8; 8]>() == MODULE_CODE
    }
}

/// Calls the script. Unless it waits for another module, the evaluation function is restored.
///
/// # Safety
/// As for [`evaluate`].
unsafe fn ask(api: &Api, frame: &Frame) -> Answer {
    let _own_work = OwnWork::begin();
    let function = FUNCTION.swap(ptr::null_mut(), Ordering::Relaxed);
    // SAFETY: the lock is held, and all are objects. The list of arguments ends with null.
    unsafe {
        let end: *mut Object = ptr::null_mut();
        let answer = (api.call)(function, frame.code, frame.globals, end);
        if answer == api.none {
            (api.release)(answer);
            FUNCTION.store(function, Ordering::Relaxed);
            return Answer::Wait;
        }
        (api.release)(function);
        restore(api);
        if answer.is_null() {
            (api.clear_error)();
            return Answer::Done;
        }
        if is_code(answer) {
            return Answer::Instead(answer);
        }
        (api.release)(answer);
        Answer::Done
    }
}

/// Removes [`evaluate`], unless another library has put its own function before it. It then passes all frames on.
///
/// # Safety
/// As for [`evaluate`].
unsafe fn restore(api: &Api) {
    // SAFETY: the lock is held.
    unsafe {
        let this = (api.this_interpreter)();
        if (api.get_evaluate)(this) == evaluate as *mut c_void {
            (api.set_evaluate)(this, PREVIOUS.load(Ordering::Relaxed));
        }
    }
}

/// # Safety
/// `object` must be an object.
unsafe fn is_code(object: *mut Object) -> bool {
    let Some(interpreter) = interpreter() else { return false };
    let Ok(layout) = &interpreter.layout else { return false };
    // SAFETY: every object has a type at this offset.
    unsafe { *object.byte_add(layout.object_type).cast::<usize>() == interpreter.api.code_type }
}
