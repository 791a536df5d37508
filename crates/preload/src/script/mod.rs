//! Runs the profiler's script in the target: once per process image, before the first line of the program.
//!
//! This changes nothing in the program, its arguments, its environment or its folders. The interpreter is
//! asked to call a function of this library when it next runs Python code in its main thread
//! (`Py_AddPendingCall`). The request is made in functions of the C library that the interpreter itself
//! calls:
//!
//! - `isatty`, which it calls for its standard streams. They are created at the very end of its
//!   initialisation, whatever its options (`-c`, `-m`, `-S`, `-I`, zip files, embedding), and nothing of the
//!   program has run by then. If the interpreter runs Python code before its initialisation is complete, the
//!   function asks to be called again. That happens often, so the request is not made any earlier.
//! - every function that calls [`try_schedule`], in case the interpreter is already initialised or the
//!   process has no standard streams.
//!
//! A forked child keeps the effects of the script. A process that executes a program runs the script again.

mod callables;
mod interposed;
mod set_once;

use core::ffi::{CStr, c_char, c_int, c_void};
use core::ptr;
use core::sync::atomic::{AtomicU32, Ordering};

use crate::format::{SCRIPT_BYTES, feature};
use crate::python::interpreter::{Interpreter, Object, interpreter};
use crate::real_function::RealFunction;
use crate::shared_memory;
use crate::sys;

pub use callables::Callables;

/// Values of [`STATE`].
const WAITING: u32 = 0;
const SCHEDULED: u32 = 1;
const RUNNING: u32 = 2;
const DONE: u32 = 3;

static STATE: AtomicU32 = AtomicU32::new(WAITING);

/// File name of the script's code.
const FILE_NAME: &CStr = c"<simprof>";

/// Returns whether the library is running its own work in the interpreter, which is not the program's.
#[inline]
pub fn is_running() -> bool {
    match STATE.load(Ordering::Relaxed) {
        SCHEDULED => !interpreter().is_some_and(is_initialised),
        state => state == RUNNING,
    }
}

/// Schedules the script if that is possible and has not been done. Cheap. May be called in any thread, with
/// or without the interpreter's lock, but not in a signal handler.
#[inline]
pub fn try_schedule() {
    if STATE.load(Ordering::Relaxed) == WAITING
        && (interpreter().is_some_and(is_initialised) || !has_streams())
    {
        schedule();
    }
}

fn is_initialised(interpreter: &Interpreter) -> bool {
    // SAFETY: it may be called at any time in any thread.
    unsafe { (interpreter.api.is_initialized)() != 0 }
}

/// Returns whether one of the standard streams is open, so that `isatty` will be called.
fn has_streams() -> bool {
    const F_GETFD: c_int = 1;
    let _errno = sys::ErrnoGuard::new();
    // SAFETY: the command changes nothing.
    (0..=2).any(|fd| unsafe { sys::fcntl(fd, F_GETFD) } >= 0)
}

#[cold]
fn schedule() {
    let Some(interpreter) = interpreter() else { return };
    if !shared_memory::header().is_some_and(|header| header.features & feature::SCRIPT != 0) {
        STATE.store(DONE, Ordering::Relaxed);
        return;
    }
    // Pending calls cannot be added before there is a thread state.
    // SAFETY: it may be called at any time in any thread.
    if unsafe { (interpreter.api.this_thread_state)() }.is_null() {
        return;
    }
    let order = Ordering::Relaxed;
    if STATE.compare_exchange(WAITING, SCHEDULED, order, order).is_ok() {
        let _errno = sys::ErrnoGuard::new();
        add_pending_call(interpreter);
    }
}

/// Asks the interpreter to call [`run`]. If its queue is full, the next opportunity is used.
fn add_pending_call(interpreter: &Interpreter) {
    type AddPendingCall =
        unsafe extern "C" fn(unsafe extern "C" fn(*mut c_void) -> c_int, *mut c_void) -> c_int;
    // SAFETY: the function has had this type in all versions.
    let add = unsafe { interpreter.function::<AddPendingCall>(c"Py_AddPendingCall") };
    // SAFETY: there is a thread state, so there is an interpreter; `run` is never unloaded.
    let added = add.is_some_and(|add| unsafe { add(run, ptr::null_mut()) } == 0);
    if !added {
        STATE.store(WAITING, Ordering::Relaxed);
    }
}

/// Runs the script. The interpreter calls this in its main thread, with its lock held.
unsafe extern "C" fn run(_: *mut c_void) -> c_int {
    let (Some(interpreter), Some(memory)) = (interpreter(), shared_memory::memory()) else {
        return 0;
    };
    if !is_initialised(interpreter) {
        add_pending_call(interpreter);
        return 0;
    }
    STATE.store(RUNNING, Ordering::Relaxed);
    let script = memory.script();
    // The memory after the script is zero, which terminates it.
    if script.len() < SCRIPT_BYTES {
        execute(interpreter, script.as_ptr().cast());
    }
    STATE.store(DONE, Ordering::Relaxed);
    0
}

/// Runs source text in a namespace of its own. If it raises an exception, the target does not notice: a
/// script writes its results to the folder that it was given.
fn execute(interpreter: &Interpreter, text: *const c_char) {
    let _own_work = crate::own_work::OwnWork::begin();
    let Some(api) = Api::find(interpreter) else { return };
    // SAFETY: the lock is held, the text ends with a zero, and the results of the functions are checked and
    // released.
    unsafe {
        let names = (api.new_dictionary)();
        let result =
            if names.is_null() { ptr::null_mut() } else { api.run(interpreter, text, names) };
        for object in [names, result] {
            if !object.is_null() {
                (api.release)(object);
            }
        }
        if result.is_null() {
            (api.clear_error)();
        }
    }
}

/// The parts of the interpreter's C interface that run the script.
struct Api {
    new_dictionary: unsafe extern "C" fn() -> *mut Object,
    set_item: unsafe extern "C" fn(*mut Object, *const c_char, *mut Object) -> c_int,
    new_text: unsafe extern "C" fn(*const c_char) -> *mut Object,
    builtins: unsafe extern "C" fn() -> *mut Object,
    compile: unsafe extern "C" fn(
        *const c_char,
        *const c_char,
        c_int,
        *mut c_void,
        c_int,
    ) -> *mut Object,
    evaluate: unsafe extern "C" fn(*mut Object, *mut Object, *mut Object) -> *mut Object,
    release: unsafe extern "C" fn(*mut Object),
    clear_error: unsafe extern "C" fn(),
}

impl Api {
    fn find(interpreter: &Interpreter) -> Option<Api> {
        // SAFETY: functions of these names have had these types in all versions.
        unsafe {
            Some(Api {
                new_dictionary: interpreter.function(c"PyDict_New")?,
                set_item: interpreter.function(c"PyDict_SetItemString")?,
                new_text: interpreter.function(c"PyUnicode_FromString")?,
                builtins: interpreter.function(c"PyEval_GetBuiltins")?,
                compile: interpreter.function(c"Py_CompileStringExFlags")?,
                evaluate: interpreter.function(c"PyEval_EvalCode")?,
                release: interpreter.function(c"Py_DecRef")?,
                clear_error: interpreter.function(c"PyErr_Clear")?,
            })
        }
    }

    /// Compiles and runs source text. Returns null if it raised an exception.
    ///
    /// # Safety
    /// The interpreter's lock must be held, `text` must be a C string and `names` a dictionary.
    unsafe fn run(
        &self,
        interpreter: &Interpreter,
        text: *const c_char,
        names: *mut Object,
    ) -> *mut Object {
        /// `Py_file_input`.
        const FILE_INPUT: c_int = 257;
        // SAFETY: the caller's promise. The builtins are borrowed, the other objects released here.
        unsafe {
            (self.set_item)(names, c"__builtins__".as_ptr(), (self.builtins)());
            let own_name = (self.new_text)(FILE_NAME.as_ptr());
            self.add_owned(names, c"__name__", own_name);
            for callable in Callables::all(interpreter) {
                self.add_owned(names, callable.name, callable.object);
            }
            let code = (self.compile)(text, FILE_NAME.as_ptr(), FILE_INPUT, ptr::null_mut(), -1);
            if code.is_null() {
                return code;
            }
            let result = (self.evaluate)(code, names, names);
            (self.release)(code);
            result
        }
    }

    /// Adds an owned object, if it is not null, to the names.
    ///
    /// # Safety
    /// As for [`Api::run`].
    unsafe fn add_owned(&self, names: *mut Object, name: &CStr, object: *mut Object) {
        if !object.is_null() {
            // SAFETY: the caller's promise.
            unsafe {
                (self.set_item)(names, name.as_ptr(), object);
                (self.release)(object);
            }
        }
    }
}

/// Replaces the C library's `isatty`, which every interpreter calls at the end of its initialisation.
#[cfg(simprof_preloaded)]
#[unsafe(no_mangle)]
unsafe extern "C" fn isatty(fd: c_int) -> c_int {
    static NEXT: RealFunction = RealFunction::new(c"isatty");
    type Function = unsafe extern "C" fn(c_int) -> c_int;
    // It is also called for each file that is opened, long before that.
    match fd {
        0..=2 if STATE.load(Ordering::Relaxed) == WAITING => schedule(),
        _ => try_schedule(),
    }
    // SAFETY: the C library's function of this name has this type.
    let next: Option<Function> = unsafe { core::mem::transmute(NEXT.address()) };
    // SAFETY: as above.
    next.map_or(0, |next| unsafe { next(fd) })
}
