//! Python functions that mark steps or that the profiler's script needs. They cost a fraction of a call through ctypes.

use core::ffi::{CStr, c_char, c_int, c_void};
use core::ptr;

use super::interposed;
use super::set_once::SetOnce;
use crate::marks::{self, Kind};
use crate::python::interpreter::{Interpreter, Object, interpreter};

/// Flag of a function with one argument.
const METH_O: c_int = 0x8;
/// Flag of a function with any number of arguments, passed as an array.
const METH_FASTCALL: c_int = 0x80;

/// `PyMethodDef`.
#[repr(C)]
struct Method {
    name: *const c_char,
    function: *const c_void,
    flags: c_int,
    doc: *const c_char,
}

struct Methods([Method; 5]);

// SAFETY: they are constants.
unsafe impl Sync for Methods {}

type OneArgument = unsafe extern "C" fn(*mut Object, *mut Object) -> *mut Object;
type Arguments = unsafe extern "C" fn(*mut Object, *const *mut Object, isize) -> *mut Object;

static METHODS: Methods = Methods([
    one_argument(c"mark_begin", mark_begin),
    one_argument(c"mark_end", mark_end),
    one_argument(c"mark_boundary", mark_boundary),
    arguments(c"mark_end_with_population", mark_end_with_population),
    one_argument(c"before_modules", before_modules),
]);

const fn one_argument(name: &CStr, function: OneArgument) -> Method {
    Method {
        name: name.as_ptr(),
        function: function as *const c_void,
        flags: METH_O,
        doc: ptr::null(),
    }
}

const fn arguments(name: &CStr, function: Arguments) -> Method {
    let function = function as *const c_void;
    Method { name: name.as_ptr(), function, flags: METH_FASTCALL, doc: ptr::null() }
}

/// The parts of the interpreter's C interface that the functions use.
struct Api {
    as_u64: unsafe extern "C" fn(*mut Object) -> u64,
    error: unsafe extern "C" fn() -> *mut Object,
    retain: unsafe extern "C" fn(*mut Object),
    none: *mut Object,
}

// SAFETY: it holds addresses that are never unloaded, and functions that any thread may call.
unsafe impl Send for Api {}
// SAFETY: as above.
unsafe impl Sync for Api {}

static API: SetOnce<Api> = SetOnce::new();

/// Resolves the symbols that the functions use. Returns whether all exist.
fn prepare(interpreter: &Interpreter) -> bool {
    let set = || find(interpreter).and_then(|found| API.set(found));
    API.get().or_else(set).is_some()
}

fn find(interpreter: &Interpreter) -> Option<Api> {
    let none = interpreter.symbol(c"_Py_NoneStruct");
    // SAFETY: functions of these names have had these types in all versions.
    unsafe {
        Some(Api {
            as_u64: interpreter.function(c"PyLong_AsUnsignedLongLong")?,
            error: interpreter.function(c"PyErr_Occurred")?,
            retain: interpreter.function(c"Py_IncRef")?,
            none: (!none.is_null()).then_some(none)?,
        })
    }
}

/// A Python function. The receiver owns a reference to it.
pub struct Callable {
    pub name: &'static CStr,
    /// The object; null if it could not be made.
    pub object: *mut Object,
}

/// Iterator that makes the functions one by one.
pub struct Callables {
    make: Option<unsafe extern "C" fn(*const Method, *mut Object, *mut Object) -> *mut Object>,
    next: usize,
}

impl Callables {
    /// Makes all functions. The interpreter's lock must be held while the iterator is used.
    pub fn all(interpreter: &Interpreter) -> Callables {
        Callables::from(interpreter, 0)
    }

    /// Like [`Callables::all`], starting at a position.
    fn from(interpreter: &Interpreter, next: usize) -> Callables {
        // SAFETY: the function has had this type in all versions.
        let make = unsafe { interpreter.function(c"PyCFunction_NewEx") };
        Callables { make: make.filter(|_| prepare(interpreter)), next }
    }
}

impl Iterator for Callables {
    type Item = Callable;

    fn next(&mut self) -> Option<Callable> {
        let method = METHODS.0.get(self.next)?;
        self.next += 1;
        let make = self.make?;
        // SAFETY: the definition is a constant; its name is a C string.
        unsafe {
            let object = make(method, ptr::null_mut(), ptr::null_mut());
            Some(Callable { name: CStr::from_ptr(method.name), object })
        }
    }
}

unsafe extern "C" fn mark_begin(_: *mut Object, index: *mut Object) -> *mut Object {
    // SAFETY: the interpreter calls this with its lock held and a valid object.
    unsafe { marked(index, |index| marks::mark(Kind::Begin, index, 0)) }
}

unsafe extern "C" fn mark_end(_: *mut Object, index: *mut Object) -> *mut Object {
    // SAFETY: as above.
    unsafe { marked(index, |index| marks::mark(Kind::End, index, 0)) }
}

unsafe extern "C" fn mark_boundary(_: *mut Object, index: *mut Object) -> *mut Object {
    // SAFETY: as above.
    unsafe { marked(index, |index| marks::mark(Kind::Boundary, index, 0)) }
}

/// Marks the end of a step. The arguments are its index and the population.
unsafe extern "C" fn mark_end_with_population(
    _: *mut Object,
    arguments: *const *mut Object,
    count: isize,
) -> *mut Object {
    let Some(api) = API.get() else { return ptr::null_mut() };
    if count < 2 {
        // SAFETY: None is never freed.
        return unsafe { none(api) };
    }
    // SAFETY: the interpreter calls this with its lock held and `count` valid objects.
    unsafe {
        let Some(population) = number(api, *arguments.add(1)) else { return ptr::null_mut() };
        marked(*arguments, |index| marks::mark(Kind::EndWithPopulation, index, population))
    }
}

/// Calls a function before the code of each module, see [`interposed::call_before_modules`].
unsafe extern "C" fn before_modules(_: *mut Object, function: *mut Object) -> *mut Object {
    let Some(api) = API.get() else { return ptr::null_mut() };
    // SAFETY: the interpreter calls this with its lock held and a valid object.
    unsafe {
        interposed::call_before_modules(function);
        none(api)
    }
}

/// Passes the index to `mark` and returns None. Returns null, with an exception set, if `index` is not a
/// number.
///
/// # Safety
/// The interpreter's lock must be held, and `index` must be an object.
unsafe fn marked(index: *mut Object, mark: impl FnOnce(u64)) -> *mut Object {
    let Some(api) = API.get() else { return ptr::null_mut() };
    // SAFETY: the caller's promise.
    unsafe {
        let Some(index) = number(api, index) else { return ptr::null_mut() };
        mark(index);
        none(api)
    }
}

/// Converts a Python number. `None`, with an exception set, if it is not one.
///
/// # Safety
/// As for [`marked`].
unsafe fn number(api: &Api, object: *mut Object) -> Option<u64> {
    // SAFETY: the caller's promise.
    unsafe {
        let number = (api.as_u64)(object);
        let failed = number == u64::MAX && !(api.error)().is_null();
        (!failed).then_some(number)
    }
}

/// Returns a new reference to None.
///
/// # Safety
/// The interpreter's lock must be held.
unsafe fn none(api: &Api) -> *mut Object {
    // SAFETY: None is never freed.
    unsafe { (api.retain)(api.none) };
    api.none
}

/// Makes the Python function at a position in the list. Returns null if there is none, if there is no
/// interpreter, or if marks are not recorded. The Python module `simprof_probe` calls it with the
/// interpreter's lock held.
#[cfg_attr(simprof_preloaded, unsafe(no_mangle))]
pub extern "C" fn simprof_python_function(position: u32) -> *mut Object {
    let interpreter = interpreter().filter(|_| marks::is_recorded());
    let found =
        interpreter.and_then(|interpreter| Callables::from(interpreter, position as usize).next());
    found.map_or(ptr::null_mut(), |callable| callable.object)
}
