//! The interpreter of this process: its functions, its version and the layout of its objects.

use core::cell::UnsafeCell;
use core::ffi::{CStr, c_char, c_int, c_void};
use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicBool, Ordering};

use super::layout::{self, Layout};
use crate::sys;

/// An object of the interpreter.
pub type Object = c_void;

/// The interpreter that was found in this process.
pub struct Interpreter {
    /// Handle for [`symbol`]: the interpreter's module if it was loaded late, otherwise all modules.
    handle: *mut c_void,
    /// `PY_VERSION_HEX`.
    pub version: u32,
    /// Whether it is a free-threaded build.
    pub free_threaded: bool,
    /// Layout of its objects, or the reason why they cannot be read, see [`crate::format::reason`].
    pub layout: Result<Layout, u32>,
    /// Its functions and types.
    pub api: Api,
}

/// A function that returns a thread state, or null. None of these has side effects.
type StateFunction = unsafe extern "C" fn() -> *mut c_void;

/// The parts of the interpreter's C interface that the library uses.
pub struct Api {
    /// `PyGILState_GetThisThreadState`.
    pub this_thread_state: StateFunction,
    /// `_PyThreadState_UncheckedGet`, used up to 3.11.
    pub current_state: StateFunction,
    /// `Py_IsFinalizing`, formerly `_Py_IsFinalizing`.
    pub is_finalizing: Option<unsafe extern "C" fn() -> c_int>,
    /// `Py_IsInitialized`.
    pub is_initialized: unsafe extern "C" fn() -> c_int,
    /// `PyInterpreterState_Head` and `PyInterpreterState_Main`.
    pub interpreters: Option<(StateFunction, StateFunction)>,
    /// Address of `PyCode_Type`.
    pub code_type: usize,
    /// Addresses of the types of generators, coroutines and asynchronous generators.
    pub generator_types: [usize; 3],
}

// SAFETY: it is written once, before it is published, and holds addresses that are never unloaded.
unsafe impl Sync for Interpreter {}

struct InterpreterCell(UnsafeCell<MaybeUninit<Interpreter>>);

// SAFETY: written once, by the thread that won `CLAIMED`, before `READY` is set with release ordering.
unsafe impl Sync for InterpreterCell {}

static INTERPRETER: InterpreterCell = InterpreterCell(UnsafeCell::new(MaybeUninit::uninit()));
static CLAIMED: AtomicBool = AtomicBool::new(false);
static READY: AtomicBool = AtomicBool::new(false);

/// Returns the interpreter once it was found. Safe in a signal handler.
#[inline]
pub fn interpreter() -> Option<&'static Interpreter> {
    // SAFETY: it is never written again once READY is set.
    READY.load(Ordering::Acquire).then(|| unsafe { (*INTERPRETER.0.get()).assume_init_ref() })
}

/// Looks for an interpreter in the modules of `handle`. Returns true once, when it is found. Not for signal
/// handlers.
pub fn find(handle: *mut c_void) -> bool {
    let Some(found) = search(handle) else { return false };
    if CLAIMED.swap(true, Ordering::AcqRel) {
        return false;
    }
    // SAFETY: only one thread ever gets here, and none reads before READY.
    unsafe { (*INTERPRETER.0.get()).write(found) };
    READY.store(true, Ordering::Release);
    true
}

/// Looks for an interpreter in the module that contains `address`, which the program loaded late. Returns
/// true once, when it is found. Not for signal handlers.
pub fn find_at(address: usize) -> bool {
    static LOOKING: AtomicBool = AtomicBool::new(false);
    // The functions called here may themselves make the calls that lead here.
    if LOOKING.swap(true, Ordering::Acquire) {
        return false;
    }
    let found = module_of(address).is_some_and(find);
    LOOKING.store(false, Ordering::Release);
    found
}

/// Returns a handle for the module that contains `address`. `None` for the program itself, which was examined
/// already.
fn module_of(address: usize) -> Option<*mut c_void> {
    let mut found = MaybeUninit::<sys::SharedObject>::uninit();
    let address = core::ptr::without_provenance(address);
    // SAFETY: `found` is valid for the result, which is written if the function succeeds.
    let found = unsafe {
        if sys::dladdr(address, found.as_mut_ptr()) == 0 {
            return None;
        }
        found.assume_init()
    };
    // SAFETY: the path is a C string. The module is loaded already, so none of its code runs. The handle is
    // never closed.
    let handle = unsafe { sys::dlopen(found.path, sys::RTLD_LAZY | sys::RTLD_NOLOAD) };
    (!handle.is_null()).then_some(handle)
}

impl Interpreter {
    /// Returns the address of a symbol of the interpreter's C interface; null if it does not exist. Not for
    /// signal handlers.
    pub fn symbol(&self, name: &CStr) -> *mut c_void {
        symbol(self.handle, name)
    }

    /// Returns a function of the interpreter's C interface. `None` if it does not exist.
    ///
    /// # Safety
    ///
    /// `F` must be the type of the function of that name.
    pub unsafe fn function<F: Copy>(&self, name: &CStr) -> Option<F> {
        const { assert!(size_of::<F>() == size_of::<*mut c_void>()) };
        let address = self.symbol(name);
        // SAFETY: the caller states the function's type, whose values are addresses.
        (!address.is_null())
            .then(|| unsafe { core::mem::transmute_copy::<*mut c_void, F>(&address) })
    }
}

fn symbol(handle: *mut c_void, name: &CStr) -> *mut c_void {
    // SAFETY: the handle is a special value of `dlsym` or was opened and never closed; the name is a C
    // string.
    unsafe { sys::dlsym(handle, name.as_ptr()) }
}

fn search(handle: *mut c_void) -> Option<Interpreter> {
    let version = version(handle)?;
    let api = api(handle)?;
    // Versions without this symbol are not read from it.
    let runtime = symbol(handle, c"_PyRuntime");
    let (layout, free_threaded) = layout::for_interpreter(version, runtime.cast());
    Some(Interpreter { handle, version, free_threaded, layout, api })
}

fn non_null(address: *mut c_void) -> Option<*mut c_void> {
    (!address.is_null()).then_some(address)
}

fn api(handle: *mut c_void) -> Option<Api> {
    let function = |name: &CStr| {
        // SAFETY: functions of these names have had this type in all versions.
        non_null(symbol(handle, name))
            .map(|f| unsafe { core::mem::transmute::<_, StateFunction>(f) })
    };
    let flag = |name: &CStr| {
        // SAFETY: functions of these names have had this type in all versions.
        non_null(symbol(handle, name))
            .map(|f| unsafe { core::mem::transmute::<_, unsafe extern "C" fn() -> c_int>(f) })
    };
    let address = |name: &CStr| symbol(handle, name).addr();
    Some(Api {
        this_thread_state: function(c"PyGILState_GetThisThreadState")?,
        current_state: function(c"_PyThreadState_UncheckedGet")
            .or_else(|| function(c"PyGILState_GetThisThreadState"))?,
        is_finalizing: flag(c"Py_IsFinalizing").or_else(|| flag(c"_Py_IsFinalizing")),
        is_initialized: flag(c"Py_IsInitialized")?,
        interpreters: function(c"PyInterpreterState_Head")
            .zip(function(c"PyInterpreterState_Main")),
        code_type: non_null(symbol(handle, c"PyCode_Type"))?.addr(),
        generator_types: [
            address(c"PyGen_Type"),
            address(c"PyCoro_Type"),
            address(c"PyAsyncGen_Type"),
        ],
    })
}

/// Returns `PY_VERSION_HEX`: a constant of the interpreter from 3.11 on, otherwise parsed from the text of
/// its version.
fn version(handle: *mut c_void) -> Option<u32> {
    if let Some(constant) = non_null(symbol(handle, c"Py_Version")) {
        // SAFETY: it is a constant of type unsigned long.
        return Some(unsafe { *constant.cast::<core::ffi::c_ulong>() } as u32);
    }
    let text = non_null(symbol(handle, c"Py_GetVersion"))?;
    // SAFETY: the function has this type in all versions. It needs no initialised interpreter and formats
    // constants.
    let text = unsafe {
        let function: unsafe extern "C" fn() -> *const c_char = core::mem::transmute(text);
        CStr::from_ptr(function())
    };
    Some(parse_version(text.to_bytes()))
}

/// Parses the version in "3.9.18 (main, ...": major, minor and micro version, as a final release. Missing
/// numbers are 0.
fn parse_version(text: &[u8]) -> u32 {
    let mut numbers = [0_u32; 3];
    let mut at = 0;
    for &byte in text {
        match byte {
            b'0'..=b'9' => numbers[at] = numbers[at] * 10 + u32::from(byte - b'0'),
            b'.' if at < 2 => at += 1,
            _ => break,
        }
    }
    numbers[0] << 24 | (numbers[1] & 0xff) << 16 | (numbers[2] & 0xff) << 8 | 0xf0
}

#[cfg(test)]
mod tests {
    use super::parse_version;

    #[test]
    fn versions_are_parsed() {
        assert_eq!(parse_version(b"3.9.18 (main, May  9 2026, 10:00:00) \n[GCC 12]"), 0x0309_12f0);
        assert_eq!(parse_version(b"3.10.0rc2+ (heads/main)"), 0x030a_00f0);
        assert_eq!(parse_version(b"3.14"), 0x030e_00f0);
        assert_eq!(parse_version(b""), 0xf0);
    }
}
