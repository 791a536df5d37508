//! Hooks of Python's allocators for small objects. These allocators take their memory in large pieces, so
//! single objects are only visible to hooks between the allocator and the interpreter, which the
//! interpreter's C interface supports.
//!
//! Objects above the allocator's size limit reach `malloc` and are recorded there, as is everything in the
//! interpreter's "raw" domain. A `realloc` in the interpreter may end up on either side, depending on where
//! the old memory is. So the hook of the C library's `realloc` notes in the thread's state that it was
//! reached.

use core::arch::naked_asm;
use core::cell::UnsafeCell;
use core::ffi::{CStr, c_int, c_void};
use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::caller::Caller;
use super::format::Origin;
use super::hooks::{allocate, call, count_down, filter, forget, reallocate};
use super::live::{FILTER, LIVE, may_be_recorded};
use super::record::{end_event, recorder};
use super::{image, python, system, thread};
use crate::python::interpreter::Interpreter;

/// `PyMemAllocatorEx`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Allocator {
    context: usize,
    malloc: unsafe extern "C" fn(usize, usize) -> usize,
    calloc: unsafe extern "C" fn(usize, usize, usize) -> usize,
    realloc: unsafe extern "C" fn(usize, usize, usize) -> usize,
    free: unsafe extern "C" fn(usize, usize),
}

type GetAllocator = unsafe extern "C" fn(c_int, *mut Allocator);
type SetAllocator = unsafe extern "C" fn(c_int, *const Allocator);

/// `PYMEM_DOMAIN_RAW`, whose allocations reach `malloc`.
const RAW: c_int = 0;
/// `PYMEM_DOMAIN_MEM` and `PYMEM_DOMAIN_OBJ`.
const DOMAINS: [c_int; 2] = [1, 2];

/// The real allocators of the domains. The context of the hooks is the address of one of them.
struct Real(UnsafeCell<[MaybeUninit<Allocator>; 2]>);

// SAFETY: it is written while no thread allocates through the hooks, see `install_hooks`.
unsafe impl Sync for Real {}

static REAL: Real = Real(UnsafeCell::new([MaybeUninit::uninit(); 2]));

/// Largest object that the interpreter's own allocator serves, bytes (`SMALL_REQUEST_THRESHOLD`).
const SMALL: usize = 512;
static LARGEST: AtomicUsize = AtomicUsize::new(SMALL);
/// Whether the hooks are installed.
static INSTALLED: AtomicBool = AtomicBool::new(false);

/// Looks for an interpreter, and installs the hooks if there is one.
pub fn find_interpreter() {
    if crate::python::find(system::RTLD_DEFAULT) {
        interpreter_found();
    }
}

/// Must be called once, when an interpreter was found and before it makes its first object.
pub fn interpreter_found() {
    let Some(interpreter) = crate::python::interpreter() else { return };
    python::interpreter_found(interpreter);
    if install(interpreter) {
        python::set_recorded();
    }
    image::report_python(python::version());
}

/// Functions of the interpreter that get and set its allocators, and show when that is allowed.
#[derive(Clone, Copy)]
struct Functions {
    get: GetAllocator,
    set: SetAllocator,
    is_initialised: Flag,
    has_lock: Flag,
}

type Flag = unsafe extern "C" fn() -> c_int;

struct FunctionsCell(UnsafeCell<Option<Functions>>);

// SAFETY: it is written before `INSTALLED` is set, and never again.
unsafe impl Sync for FunctionsCell {}

static FUNCTIONS: FunctionsCell = FunctionsCell(UnsafeCell::new(None));

/// Whether [`check_hooks`] has finished: from then on the hooks stay.
static CHECKED: AtomicBool = AtomicBool::new(false);

fn functions(interpreter: &Interpreter) -> Option<Functions> {
    let symbol = |name: &CStr| {
        let address = interpreter.symbol(name);
        (!address.is_null()).then_some(address)
    };
    // SAFETY: functions of these names have had these types since Python 3.4.
    unsafe {
        Some(Functions {
            get: core::mem::transmute::<*mut c_void, GetAllocator>(symbol(c"PyMem_GetAllocator")?),
            set: core::mem::transmute::<*mut c_void, SetAllocator>(symbol(c"PyMem_SetAllocator")?),
            is_initialised: core::mem::transmute::<*mut c_void, Flag>(symbol(c"Py_IsInitialized")?),
            has_lock: core::mem::transmute::<*mut c_void, Flag>(symbol(c"PyGILState_Check")?),
        })
    }
}

impl Functions {
    fn allocator(self, domain: c_int) -> Allocator {
        let mut allocator = MaybeUninit::<Allocator>::uninit();
        // SAFETY: for an existing domain the function fills in all fields.
        unsafe {
            (self.get)(domain, allocator.as_mut_ptr());
            allocator.assume_init()
        }
    }
}

/// Installs the hooks before the interpreter makes its first object. Returns whether they are installed.
fn install(interpreter: &Interpreter) -> bool {
    let Some(functions) = functions(interpreter) else { return false };
    if interpreter.free_threaded {
        LARGEST.store(usize::MAX, Ordering::Relaxed);
    }
    // SAFETY: no thread reads it before INSTALLED is set.
    unsafe { *FUNCTIONS.0.get() = Some(functions) };
    install_hooks(functions);
    INSTALLED.store(true, Ordering::Release);
    true
}

fn install_hooks(functions: Functions) {
    let raw = functions.allocator(RAW).malloc as usize;
    for (at, domain) in DOMAINS.into_iter().enumerate() {
        let allocator = functions.allocator(domain);
        // This domain passes all requests on to `malloc`, where they are recorded.
        if allocator.malloc as usize == raw || is_hook(&allocator) {
            continue;
        }
        // SAFETY: the slot is within the array. Meanwhile no thread allocates through it, see the callers.
        let context = unsafe {
            let slot = REAL.0.get().cast::<Allocator>().add(at);
            slot.write(allocator);
            slot.addr()
        };
        let hooks = Allocator {
            context,
            malloc: object_malloc,
            calloc: object_calloc,
            realloc: object_realloc,
            free: object_free,
        };
        // SAFETY: the interpreter copies the structure.
        unsafe { (functions.set)(domain, &raw const hooks) };
    }
}

fn is_hook(allocator: &Allocator) -> bool {
    allocator.malloc as usize == object_malloc as *const () as usize
}

/// Checks the hooks once after the interpreter's initialisation, and installs them again if necessary.
///
/// If the interpreter is configured to use a certain allocator (by its environment, in its development mode, and
/// always before 3.7), it sets that allocator during initialisation, which removes the hooks.
pub fn check_hooks() {
    if !INSTALLED.load(Ordering::Acquire) || CHECKED.load(Ordering::Relaxed) {
        return;
    }
    // SAFETY: it is not written any more.
    let Some(functions) = (unsafe { *FUNCTIONS.0.get() }) else { return };
    // SAFETY: the functions only read variables.
    let ready = unsafe { (functions.is_initialised)() != 0 && (functions.has_lock)() != 0 };
    if !ready || CHECKED.swap(true, Ordering::Relaxed) {
        return;
    }
    // This thread holds the interpreter's lock, so no other thread allocates in these domains.
    let object = functions.allocator(DOMAINS[1]);
    if is_seen(&object) {
        return;
    }
    // SAFETY: it was written before INSTALLED was set.
    let before = unsafe { (*REAL.0.get())[1].assume_init_ref().malloc as usize };
    if object.malloc as usize != before {
        // This is a debug allocator, which puts marks around each object. The allocator below it sees larger
        // objects.
        LARGEST.fetch_min(SMALL - DEBUG_BYTES, Ordering::Relaxed);
    }
    install_hooks(functions);
}

/// Returns whether small objects of an allocator are recorded already, by these hooks or by the `malloc` hook.
fn is_seen(allocator: &Allocator) -> bool {
    let (_, end) = call_watched(TESTING, || {
        // SAFETY: a test allocation that is freed at once, by the interpreter's own functions. This thread
        // holds the interpreter's lock.
        unsafe {
            let object = (allocator.malloc)(allocator.context, 8);
            (allocator.free)(allocator.context, object);
        }
        0
    });
    end == REACHED
}

/// Maximum number of bytes that the interpreter's debug allocator adds to an object.
const DEBUG_BYTES: usize = 32;

/// Returns the real allocator of a context.
fn real(context: usize) -> Allocator {
    // SAFETY: contexts are addresses of allocators in `REAL`.
    unsafe { *core::ptr::with_exposed_provenance::<Allocator>(context) }
}

#[unsafe(naked)]
unsafe extern "C" fn object_malloc(context: usize, size: usize) -> usize {
    naked_asm!(
        ".cfi_startproc",
        "cmp rsi, qword ptr [rip + {largest}]", "ja 3f",
        count_down!("rsi"),
        "3:", "mov rax, qword ptr [rdi + 8]", "mov rdi, qword ptr [rdi]", "jmp rax",
        "2:", call!("rdx"),
        largest = sym LARGEST, call = sym malloc_seen,
    )
}

#[unsafe(naked)]
unsafe extern "C" fn object_calloc(context: usize, count: usize, size: usize) -> usize {
    naked_asm!(
        ".cfi_startproc",
        // The upper half of the product would overwrite the third argument.
        "mov r8, rdx",
        "mov rax, rsi",
        "mul rdx",
        "mov rdx, r8",
        "jo 2f",
        "mov r10, rax",
        "cmp r10, qword ptr [rip + {largest}]",
        "ja 3f",
        count_down!("r10"),
        "3:",
        "mov rax, qword ptr [rdi + 16]",
        "mov rdi, qword ptr [rdi]",
        "jmp rax",
        "2:",
        call!("rcx"),
        largest = sym LARGEST,
        call = sym calloc_seen,
    )
}

#[unsafe(naked)]
unsafe extern "C" fn object_realloc(context: usize, address: usize, size: usize) -> usize {
    naked_asm!(".cfi_startproc", call!("rcx"), call = sym realloc_seen)
}

#[unsafe(naked)]
unsafe extern "C" fn object_free(context: usize, address: usize) {
    naked_asm!(
        ".cfi_startproc",
        filter!("rsi"),
        "mov rax, qword ptr [rdi + 32]", "mov rdi, qword ptr [rdi]", "jmp rax",
        "2:", call!("rdx"),
        filter = sym FILTER, call = sym free_seen,
    )
}

/// Returns whether the interpreter's allocator serves this size itself.
fn is_small(size: usize) -> bool {
    size != 0 && size <= LARGEST.load(Ordering::Relaxed)
}

extern "C" fn malloc_seen(context: usize, size: usize, caller: &Caller) -> usize {
    let real = real(context);
    // SAFETY: the interpreter's call.
    let make = || unsafe { (real.malloc)(real.context, size) };
    if is_small(size) { allocate(size, Origin::Python, caller, make) } else { make() }
}

extern "C" fn calloc_seen(context: usize, count: usize, size: usize, caller: &Caller) -> usize {
    let real = real(context);
    // SAFETY: the interpreter's call.
    let make = || unsafe { (real.calloc)(real.context, count, size) };
    match count.checked_mul(size) {
        Some(bytes) if is_small(bytes) => allocate(bytes, Origin::Python, caller, make),
        _ => make(),
    }
}

extern "C" fn free_seen(context: usize, address: usize) {
    // The memory may come from Python's allocator or from `malloc`. The table contains it at most once.
    forget(address);
    let real = real(context);
    // SAFETY: the interpreter's call.
    unsafe { (real.free)(real.context, address) };
}

/// Values of [`thread::Thread::python`].
const NOTHING: u32 = 0;
/// The interpreter's `realloc` is running and has not reached the hook of the C library's `realloc`.
const IN_REALLOC: u32 = 1;
/// The hook was reached, and records the allocation.
const REACHED: u32 = 2;
/// A test allocation is running, to find out whether it reaches a hook.
const TESTING: u32 = 3;

/// Notes that the hook of the C library's `realloc` was reached.
#[inline]
pub fn note_realloc_reached() {
    // SAFETY: it is this thread's storage.
    let thread = unsafe { &mut *thread::current() };
    if thread.python == IN_REALLOC {
        thread.python = REACHED;
        thread.countdown = thread.saved_countdown;
    }
}

/// Returns whether the current allocation is a test allocation. If so, notes that it reached a hook.
#[inline]
pub fn is_test_allocation() -> bool {
    // SAFETY: it is this thread's storage.
    let thread = unsafe { &mut *thread::current() };
    let is_test = thread.python == TESTING;
    if is_test {
        thread.python = REACHED;
    }
    is_test
}

extern "C" fn realloc_seen(context: usize, address: usize, size: usize, caller: &Caller) -> usize {
    let real = real(context);
    // SAFETY: the interpreter's call.
    let make = || unsafe { (real.realloc)(real.context, address, size) };
    let known = if may_be_recorded(address) { LIVE.get(address) } else { None };
    let known = known.map(|allocation| allocation.origin);
    if known == Some(Origin::Python) && !is_small(size) {
        return move_to_malloc(address, make);
    }
    if known == Some(Origin::Malloc) || !is_small(size) {
        // The memory stays with `malloc` or moves there, where it is recorded.
        return make();
    }
    if address == 0 || known == Some(Origin::Python) {
        return reallocate(address, size, Origin::Python, caller, make);
    }
    let (made, end) = call_watched(IN_REALLOC, make);
    if end == REACHED {
        return made;
    }
    reallocate(0, size, Origin::Python, caller, || made)
}

/// Reallocates memory of the interpreter's allocator with `malloc`, whose hook records the new allocation.
fn move_to_malloc(address: usize, make: impl FnOnce() -> usize) -> usize {
    let (Some(recorder), Some(allocation)) = (recorder(), LIVE.remove(address)) else {
        return make();
    };
    recorder.record_end(end_event(address, allocation));
    let made = make();
    if made == 0 {
        // It failed, so the object stays live.
        let again =
            recorder.remainder_event(system::now_ns(), address, allocation.size, allocation);
        if LIVE.insert(address, again.allocation) && !recorder.record_allocation(again) {
            LIVE.remove(address);
        }
    }
    made
}

/// Calls a function of the interpreter with `state` in [`thread::Thread::python`]. Returns its result and the state
/// afterwards. Meanwhile the countdown is 0, so that every allocation is examined.
fn call_watched(state: u32, make: impl FnOnce() -> usize) -> (usize, u32) {
    let thread = thread::current();
    // SAFETY: it is this thread's storage. The hooks that `make` reaches use it too, so no reference is kept.
    unsafe {
        (*thread).saved_countdown = (*thread).countdown;
        (*thread).countdown = 0;
        (*thread).python = state;
        let made = make();
        let end = (*thread).python;
        if state == TESTING || end != REACHED {
            (*thread).countdown = (*thread).saved_countdown;
        }
        (*thread).python = NOTHING;
        (made, end)
    }
}
