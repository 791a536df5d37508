//! Python functions that mark steps: a fraction of what a call through ctypes costs.

use core::cell::UnsafeCell;
use core::ffi::{CStr, c_char, c_int, c_void};
use core::mem::MaybeUninit;
use core::ptr;
use core::sync::atomic::{AtomicBool, Ordering};

use super::{Object, function};
use crate::marks::{self, Kind};
use crate::python::{Interpreter, interpreter};

/// A function with one argument.
const METH_O: c_int = 0x8;
/// A function with any number of arguments, given as an array.
const METH_FASTCALL: c_int = 0x80;

/// `PyMethodDef`.
#[repr(C)]
struct Method {
    name: *const c_char,
    function: *const c_void,
    flags: c_int,
    doc: *const c_char,
}

struct Methods([Method; 4]);

// SAFETY: they are constants.
unsafe impl Sync for Methods {}

type OneArgument = unsafe extern "C" fn(*mut Object, *mut Object) -> *mut Object;
type Arguments = unsafe extern "C" fn(*mut Object, *const *mut Object, isize) -> *mut Object;

static METHODS: Methods = Methods([
    one_argument(c"mark_begin", mark_begin),
    one_argument(c"mark_end", mark_end),
    one_argument(c"mark_boundary", mark_boundary),
    arguments(c"mark_end_with_population", mark_end_with_population),
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

/// What is used of the interpreter by the functions.
struct Api {
    as_u64: unsafe extern "C" fn(*mut Object) -> u64,
    error: unsafe extern "C" fn() -> *mut Object,
    retain: unsafe extern "C" fn(*mut Object),
    none: *mut Object,
}

struct Found(UnsafeCell<MaybeUninit<Api>>);

// SAFETY: written once, before READY is set with release ordering; it holds addresses of what is never unloaded.
unsafe impl Sync for Found {}

static FOUND: Found = Found(UnsafeCell::new(MaybeUninit::uninit()));
static WRITING: AtomicBool = AtomicBool::new(false);
static READY: AtomicBool = AtomicBool::new(false);

fn api() -> Option<&'static Api> {
    // SAFETY: it is never written again once READY is set.
    READY.load(Ordering::Acquire).then(|| unsafe { (*FOUND.0.get()).assume_init_ref() })
}

/// Finds what the functions use; whether all of it is there.
fn prepare(interpreter: &Interpreter) -> bool {
    if api().is_some() {
        return true;
    }
    let Some(found) = find(interpreter) else { return false };
    if !WRITING.swap(true, Ordering::AcqRel) {
        // SAFETY: only one thread ever comes here, and nobody reads before READY.
        unsafe { (*FOUND.0.get()).write(found) };
        READY.store(true, Ordering::Release);
    }
    api().is_some()
}

fn find(interpreter: &Interpreter) -> Option<Api> {
    let none = interpreter.symbol(c"_Py_NoneStruct");
    // SAFETY: functions of these names have had these types in all versions.
    unsafe {
        Some(Api {
            as_u64: function(interpreter, c"PyLong_AsUnsignedLongLong")?,
            error: function(interpreter, c"PyErr_Occurred")?,
            retain: function(interpreter, c"Py_IncRef")?,
            none: (!none.is_null()).then_some(none)?,
        })
    }
}

/// A Python function, owned by whom it was made for.
pub struct Callable {
    pub name: &'static CStr,
    /// The object; null where it could not be made.
    pub object: *mut Object,
}

/// The functions, to be made one by one.
pub struct Callables {
    make: Option<unsafe extern "C" fn(*const Method, *mut Object, *mut Object) -> *mut Object>,
    next: usize,
}

impl Callables {
    /// Makes all functions. The interpreter's lock must be held as long as the iterator is used.
    pub fn all(interpreter: &Interpreter) -> Callables {
        Callables::from(interpreter, 0)
    }

    /// As [`Callables::all`], from a position on.
    fn from(interpreter: &Interpreter, next: usize) -> Callables {
        // SAFETY: the function has had this type in all versions.
        let make = unsafe { function(interpreter, c"PyCFunction_NewEx") };
        Callables { make: make.filter(|_| prepare(interpreter)), next }
    }
}

impl Iterator for Callables {
    type Item = Callable;

    fn next(&mut self) -> Option<Callable> {
        let method = METHODS.0.get(self.next)?;
        self.next += 1;
        let make = self.make?;
        // SAFETY: the definition is a constant that lives for ever; its name is a C string.
        unsafe {
            let object = make(method, ptr::null_mut(), ptr::null_mut());
            Some(Callable { name: CStr::from_ptr(method.name), object })
        }
    }
}

unsafe extern "C" fn mark_begin(_: *mut Object, index: *mut Object) -> *mut Object {
    // SAFETY: the interpreter calls this with its lock held and an object.
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

/// The index and the population.
unsafe extern "C" fn mark_end_with_population(
    _: *mut Object,
    arguments: *const *mut Object,
    count: isize,
) -> *mut Object {
    let Some(api) = api() else { return ptr::null_mut() };
    if count < 2 {
        // SAFETY: None lives for ever.
        return unsafe { none(api) };
    }
    // SAFETY: the interpreter calls this with its lock held and as many objects as it says.
    unsafe {
        let Some(population) = number(api, *arguments.add(1)) else { return ptr::null_mut() };
        marked(*arguments, |index| marks::mark(Kind::EndWithPopulation, index, population))
    }
}

/// Passes a number on and returns None; null, with an exception set, where it is no number.
///
/// # Safety
/// The interpreter's lock must be held, and `index` be an object.
unsafe fn marked(index: *mut Object, mark: impl FnOnce(u64)) -> *mut Object {
    let Some(api) = api() else { return ptr::null_mut() };
    // SAFETY: as of this function.
    unsafe {
        let Some(index) = number(api, index) else { return ptr::null_mut() };
        mark(index);
        none(api)
    }
}

/// # Safety
/// As of [`marked`].
unsafe fn number(api: &Api, object: *mut Object) -> Option<u64> {
    // SAFETY: as of this function.
    unsafe {
        let number = (api.as_u64)(object);
        let failed = number == u64::MAX && !(api.error)().is_null();
        (!failed).then_some(number)
    }
}

/// # Safety
/// The interpreter's lock must be held.
unsafe fn none(api: &Api) -> *mut Object {
    // SAFETY: None lives for ever.
    unsafe { (api.retain)(api.none) };
    api.none
}

/// Makes the Python function of a position (see the list of them); null where there is none, or no interpreter, or marks are not
/// recorded. For the Python module `simprof_probe`, which calls it with the interpreter's lock held.
#[cfg_attr(simprof_preloaded, unsafe(no_mangle))]
pub extern "C" fn simprof_python_function(position: u32) -> *mut Object {
    let interpreter = interpreter().filter(|_| marks::is_recorded());
    let found =
        interpreter.and_then(|interpreter| Callables::from(interpreter, position as usize).next());
    found.map_or(ptr::null_mut(), |callable| callable.object)
}
