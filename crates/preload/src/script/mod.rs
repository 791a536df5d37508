//! Runs the profiler's script in the target: once per process image, before the first line of the program.
//!
//! Nothing of the program, its arguments, its environment or its folders is touched for it. The interpreter is asked to
//! call a function of this library when it next runs Python code in its main thread (`Py_AddPendingCall`). It is
//! asked from within functions of the C library that it calls itself:
//!
//! - `isatty`, which it calls for its standard streams. They are made at the very end of its initialisation, whatever its options
//!   (`-c`, `-m`, `-S`, `-I`, zip files, embedding), and nothing of the program has run by then. Where the interpreter runs Python
//!   code before it is done with its initialisation, the function asks to be called again; that is often, so it is not begun any
//!   earlier.
//! - every function that calls [`try_schedule`]: where the interpreter is initialised, or the process has no standard streams.
//!
//! A forked child has what the script did; one that executes a program anew runs the script anew.

mod callables;

use core::ffi::{CStr, c_char, c_int, c_void};
use core::ptr;
use core::sync::atomic::{AtomicU32, Ordering};

use crate::format::{SCRIPT_BYTES, feature};
use crate::memory;
use crate::python::{Interpreter, interpreter};
use crate::sys;

pub use callables::Callables;

/// An object of the interpreter.
pub type Object = c_void;

/// Values of [`STATE`].
const WAITING: u32 = 0;
const SCHEDULED: u32 = 1;
const RUNNING: u32 = 2;
const DONE: u32 = 3;

static STATE: AtomicU32 = AtomicU32::new(WAITING);

/// The file that the script's code seems to come from.
const FILE_NAME: &CStr = c"<simprof>";

/// Whether the library has work of its own done in the interpreter: what happens in it meanwhile is not the program's.
#[inline]
pub fn is_at_work() -> bool {
    match STATE.load(Ordering::Relaxed) {
        SCHEDULED => !interpreter().is_some_and(is_initialised),
        state => state == RUNNING,
    }
}

/// Has the script run as soon as it can, if it has not yet. Cheap; for any thread, with or without the interpreter's lock, but
/// not in a signal handler.
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

/// Whether one of the standard streams is open, so that `isatty` will be called.
fn has_streams() -> bool {
    const F_GETFD: c_int = 1;
    let _errno = sys::KeptErrno::new();
    // SAFETY: the command only looks.
    (0..=2).any(|fd| unsafe { sys::fcntl(fd, F_GETFD) } >= 0)
}

#[cold]
fn schedule() {
    let Some(interpreter) = interpreter() else { return };
    if !memory::header().is_some_and(|header| header.features & feature::SCRIPT != 0) {
        STATE.store(DONE, Ordering::Relaxed);
        return;
    }
    // Before there is a thread state, pending calls cannot be added.
    // SAFETY: it may be called at any time in any thread.
    if unsafe { (interpreter.api.this_thread_state)() }.is_null() {
        return;
    }
    let order = Ordering::Relaxed;
    if STATE.compare_exchange(WAITING, SCHEDULED, order, order).is_ok() {
        let _errno = sys::KeptErrno::new();
        ask(interpreter);
    }
}

/// Asks the interpreter to call [`run`]; where it has no room, the next occasion is waited for.
fn ask(interpreter: &Interpreter) {
    type AddPendingCall =
        unsafe extern "C" fn(unsafe extern "C" fn(*mut c_void) -> c_int, *mut c_void) -> c_int;
    // SAFETY: the function has had this type in all versions.
    let add = unsafe { function::<AddPendingCall>(interpreter, c"Py_AddPendingCall") };
    // SAFETY: there is a thread state, so there is an interpreter; the function is never unloaded.
    let asked = add.is_some_and(|add| unsafe { add(run, ptr::null_mut()) } == 0);
    if !asked {
        STATE.store(WAITING, Ordering::Relaxed);
    }
}

/// What the interpreter calls, in its main thread, with its lock held.
unsafe extern "C" fn run(_: *mut c_void) -> c_int {
    let (Some(interpreter), Some(memory)) = (interpreter(), memory::memory()) else { return 0 };
    if !is_initialised(interpreter) {
        ask(interpreter);
        return 0;
    }
    STATE.store(RUNNING, Ordering::Relaxed);
    let script = memory.script();
    // The memory is all zeros behind the script, which ends it.
    if script.len() < SCRIPT_BYTES {
        execute(interpreter, script.as_ptr().cast());
    }
    STATE.store(DONE, Ordering::Relaxed);
    0
}

/// Runs a text among names of its own. Where it raises, the target learns nothing of that: what a script has to tell it writes
/// to the folder that it was given.
fn execute(interpreter: &Interpreter, text: *const c_char) {
    let _own = crate::own::Own::begin();
    let Some(api) = Api::find(interpreter) else { return };
    // SAFETY: the lock is held, the text ends with a zero, and what the functions return is checked and released.
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

/// What is used of the interpreter to run a text.
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
                new_dictionary: function(interpreter, c"PyDict_New")?,
                set_item: function(interpreter, c"PyDict_SetItemString")?,
                new_text: function(interpreter, c"PyUnicode_FromString")?,
                builtins: function(interpreter, c"PyEval_GetBuiltins")?,
                compile: function(interpreter, c"Py_CompileStringExFlags")?,
                evaluate: function(interpreter, c"PyEval_EvalCode")?,
                release: function(interpreter, c"Py_DecRef")?,
                clear_error: function(interpreter, c"PyErr_Clear")?,
            })
        }
    }

    /// Compiles and runs a text; null where that raised.
    ///
    /// # Safety
    /// The interpreter's lock must be held, `text` be a C string and `names` a dictionary.
    unsafe fn run(
        &self,
        interpreter: &Interpreter,
        text: *const c_char,
        names: *mut Object,
    ) -> *mut Object {
        /// `Py_file_input`.
        const FILE_INPUT: c_int = 257;
        // SAFETY: as of this function; the builtins are borrowed, the others released here.
        unsafe {
            (self.set_item)(names, c"__builtins__".as_ptr(), (self.builtins)());
            let own_name = (self.new_text)(FILE_NAME.as_ptr());
            self.give(names, c"__name__", own_name);
            for callable in Callables::all(interpreter) {
                self.give(names, callable.name, callable.object);
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

    /// Puts an object that is owned here, if it is one, among the names.
    ///
    /// # Safety
    /// As of [`Api::run`].
    unsafe fn give(&self, names: *mut Object, name: &CStr, object: *mut Object) {
        if !object.is_null() {
            // SAFETY: as of this function.
            unsafe {
                (self.set_item)(names, name.as_ptr(), object);
                (self.release)(object);
            }
        }
    }
}

/// A function of the interpreter.
///
/// # Safety
/// `F` must be the type of the function of that name.
unsafe fn function<F: Copy>(interpreter: &Interpreter, name: &CStr) -> Option<F> {
    const { assert!(size_of::<F>() == size_of::<*mut c_void>()) };
    let address = interpreter.symbol(name);
    // SAFETY: the caller names a function's type, whose values are addresses.
    (!address.is_null()).then(|| unsafe { core::mem::transmute_copy::<*mut c_void, F>(&address) })
}

/// `isatty`, which every interpreter calls at the end of its initialisation.
#[cfg(simprof_preloaded)]
#[unsafe(no_mangle)]
unsafe extern "C" fn isatty(fd: c_int) -> c_int {
    static NEXT: sys::Next = sys::Next::new(c"isatty");
    type Function = unsafe extern "C" fn(c_int) -> c_int;
    // It is also called for each file that is opened, long before.
    match fd {
        0..=2 if STATE.load(Ordering::Relaxed) == WAITING => schedule(),
        _ => try_schedule(),
    }
    // SAFETY: the C library's function of this name has this type.
    let next: Option<Function> = unsafe { core::mem::transmute(NEXT.get()) };
    // SAFETY: as above.
    next.map_or(0, |next| unsafe { next(fd) })
}
