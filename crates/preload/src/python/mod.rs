//! The Python interpreter of this process: its functions, its version, and the Python stacks of its threads.

pub(crate) mod layout;
mod stack;
mod state;
mod walk;

use core::cell::UnsafeCell;
use core::ffi::{CStr, c_char, c_int, c_void};
use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicBool, Ordering};

use crate::sys;
#[cfg(test)]
pub use layout::table as layout_of;
pub use layout::{Layout, Text as TextLayout};
pub use walk::{Moment, record_stack};

/// What was found of the interpreter.
pub struct Interpreter {
    /// Handle for [`symbol`]: of the interpreter's own module where it was loaded late, else of all modules.
    handle: *mut c_void,
    /// `PY_VERSION_HEX`.
    pub version: u32,
    /// Whether it is a free-threaded build.
    pub free_threaded: bool,
    /// Where things are in its objects; else why they cannot be read, see [`crate::format::reason`].
    pub layout: Result<Layout, u32>,
    /// Functions and types of it.
    pub api: Api,
}

/// A function that returns a thread state, or null; none of these has an effect.
type StateFunction = unsafe extern "C" fn() -> *mut c_void;

/// What is used of the interpreter's C interface.
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

// SAFETY: it is written once, before it is published, and holds addresses of what is never unloaded.
unsafe impl Sync for Interpreter {}

struct Found(UnsafeCell<MaybeUninit<Interpreter>>);

// SAFETY: written once, by the thread that won `SEARCHED`, before `READY` is set with release ordering.
unsafe impl Sync for Found {}

static FOUND: Found = Found(UnsafeCell::new(MaybeUninit::uninit()));
static SEARCHED: AtomicBool = AtomicBool::new(false);
static READY: AtomicBool = AtomicBool::new(false);

/// The interpreter, once it was found. Safe in a signal handler.
#[inline]
pub fn interpreter() -> Option<&'static Interpreter> {
    // SAFETY: it is never written again once READY is set.
    READY.load(Ordering::Acquire).then(|| unsafe { (*FOUND.0.get()).assume_init_ref() })
}

/// Looks for an interpreter in the modules of `handle`; true once, when it is found. Not for signal handlers.
pub fn find(handle: *mut c_void) -> bool {
    let Some(found) = search(handle) else { return false };
    if SEARCHED.swap(true, Ordering::AcqRel) {
        return false;
    }
    // SAFETY: only one thread ever comes here, and nobody reads before READY.
    unsafe { (*FOUND.0.get()).write(found) };
    READY.store(true, Ordering::Release);
    true
}

/// Looks for an interpreter in the module that `address` is in: one that the program loaded later; true once, when it is
/// found. Not for signal handlers.
pub fn find_at(address: usize) -> bool {
    static LOOKING: AtomicBool = AtomicBool::new(false);
    // What is called here may itself do what made the caller look.
    if LOOKING.swap(true, Ordering::Acquire) {
        return false;
    }
    let found = module_of(address).is_some_and(find);
    LOOKING.store(false, Ordering::Release);
    found
}

/// A handle for the module that `address` is in; none for the program itself, which was looked at already.
fn module_of(address: usize) -> Option<*mut c_void> {
    let mut found = MaybeUninit::<sys::SharedObject>::uninit();
    let address = core::ptr::without_provenance(address);
    // SAFETY: `found` is a valid place for the answer, which is written where the function succeeds.
    let found = unsafe {
        if sys::dladdr(address, found.as_mut_ptr()) == 0 {
            return None;
        }
        found.assume_init()
    };
    // SAFETY: the path is a C string; the module is loaded already, so nothing of it is run; its handle is kept for ever.
    let handle = unsafe { sys::dlopen(found.path, sys::RTLD_LAZY | sys::RTLD_NOLOAD) };
    (!handle.is_null()).then_some(handle)
}

impl Interpreter {
    /// Address of something of the interpreter's C interface; null where it has no such thing. Not for signal
    /// handlers.
    pub fn symbol(&self, name: &CStr) -> *mut c_void {
        symbol(self.handle, name)
    }
}

fn symbol(handle: *mut c_void, name: &CStr) -> *mut c_void {
    // SAFETY: the handle is one of dlsym's own or was opened and never closed; the name is a C string.
    unsafe { sys::dlsym(handle, name.as_ptr()) }
}

fn search(handle: *mut c_void) -> Option<Interpreter> {
    let version = version(handle)?;
    let api = api(handle)?;
    // Versions that have none are not read.
    let runtime = symbol(handle, c"_PyRuntime");
    let (layout, free_threaded) = layout::of(version, runtime.cast());
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

/// `PY_VERSION_HEX`: a constant of the interpreter from 3.11 on; before, what its version's text says.
fn version(handle: *mut c_void) -> Option<u32> {
    if let Some(constant) = non_null(symbol(handle, c"Py_Version")) {
        // SAFETY: it is a constant of type unsigned long.
        return Some(unsafe { *constant.cast::<core::ffi::c_ulong>() } as u32);
    }
    let text = non_null(symbol(handle, c"Py_GetVersion"))?;
    // SAFETY: the function has this type in all versions; it needs no initialised interpreter and formats constants.
    let text = unsafe {
        let function: unsafe extern "C" fn() -> *const c_char = core::mem::transmute(text);
        CStr::from_ptr(function())
    };
    Some(parse_version(text.to_bytes()))
}

/// The version in "3.9.18 (main, ...": major, minor and micro version, as a final release; what is missing is 0.
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
    fn versions_are_read_from_their_texts() {
        assert_eq!(parse_version(b"3.9.18 (main, May  9 2026, 10:00:00) \n[GCC 12]"), 0x0309_12f0);
        assert_eq!(parse_version(b"3.10.0rc2+ (heads/main)"), 0x030a_00f0);
        assert_eq!(parse_version(b"3.14"), 0x030e_00f0);
        assert_eq!(parse_version(b""), 0xf0);
    }
}
