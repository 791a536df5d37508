//! Python's own allocator for small objects: it takes its memory in large pieces, so its objects are seen only by standing
//! between it and the interpreter, as the interpreter's C interface allows.
//!
//! Objects that are larger than the allocator's limit reach `malloc`, and are seen there, like everything in the
//! interpreter's "raw" domain. A `realloc` in the interpreter may end up on either side, depending on where the old memory is: so
//! the hook of the C library's `realloc` leaves a note that it was reached.

use core::arch::naked_asm;
use core::cell::UnsafeCell;
use core::ffi::{CStr, c_int, c_void};
use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::format::{Origin, flag};
use super::hooks::{Caller, allocate, call, count_down, filter, forget, reallocate};
use super::live::{FILTER_PLACES, LIVE, may_be_recorded};
use super::record::{ended, recorder};
use super::{shared, system, thread};
use crate::python::{Interpreter, Moment};

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

/// `PYMEM_DOMAIN_RAW`: what reaches `malloc`.
const RAW: c_int = 0;
/// `PYMEM_DOMAIN_MEM` and `PYMEM_DOMAIN_OBJ`.
const DOMAINS: [c_int; 2] = [1, 2];

/// The real allocators of the domains. The hooks' context is the place of one of them.
struct Real(UnsafeCell<[MaybeUninit<Allocator>; 2]>);

// SAFETY: it is written while nobody allocates by the hooks, see `stand_before`.
unsafe impl Sync for Real {}

static REAL: Real = Real(UnsafeCell::new([MaybeUninit::uninit(); 2]));

/// Largest object of the interpreter's own allocator, bytes (`SMALL_REQUEST_THRESHOLD`).
const SMALL: usize = 512;
static LARGEST: AtomicUsize = AtomicUsize::new(SMALL);
/// Whether the hooks are there.
static INSTALLED: AtomicBool = AtomicBool::new(false);
/// An address in the interpreter's code.
static INTERPRETER: AtomicUsize = AtomicUsize::new(0);

/// Looks for an interpreter, and stands before its allocator.
pub fn begin() {
    if crate::python::find(system::RTLD_DEFAULT) {
        found();
    }
}

/// To be called once, when an interpreter was found: before it makes its first object.
pub fn found() {
    // Only now: it takes much address space.
    crate::memory::map();
    take_place();
    if let Some(interpreter) = crate::python::interpreter() {
        install(interpreter);
        shared::tell_python(version());
    }
}

/// In a forked child.
pub fn forked() {
    crate::process::forked();
    crate::scratch::forked();
    take_place();
}

/// Takes a place for this process in the Python stacks' memory.
fn take_place() {
    if let Some(interpreter) = crate::python::interpreter()
        && let Some(memory) = crate::memory::memory()
        && crate::process::take(memory, interpreter)
    {
        match interpreter.layout {
            Ok(_) => crate::process::stay_unsampled(),
            Err(reason) => crate::process::refuse(reason),
        }
    }
}

/// `PY_VERSION_HEX` of the interpreter whose objects are recorded, or 0.
pub fn version() -> u32 {
    let interpreter = crate::python::interpreter();
    match interpreter {
        Some(interpreter) if INSTALLED.load(Ordering::Relaxed) => interpreter.version,
        _ => 0,
    }
}

/// The Python stack of this thread, as the high half of [`super::format::Record::stack`], and its flags. `is_call` where it is known that
/// the interpreter called what allocates, rather than being interrupted.
#[inline]
pub fn stack(is_call: bool) -> (u64, u64) {
    if crate::python::interpreter().is_none() {
        return (0, 0);
    }
    let moment = if is_call { Moment::Call } else { Moment::Any };
    let stack = crate::python::record_stack(moment);
    let whole = stack.flags & !crate::format::flag::NO_PYTHON == 0;
    (u64::from(stack.node) << 32, if whole { 0 } else { flag::PYTHON_PARTIAL })
}

/// Whether this address is in the interpreter's code.
pub fn is_interpreter(pc: usize) -> bool {
    let interpreter = INTERPRETER.load(Ordering::Relaxed);
    interpreter != 0 && super::modules::is_same(pc, interpreter)
}

/// The functions of the interpreter that get and set its allocators, and tell when that may be done.
#[derive(Clone, Copy)]
struct Functions {
    get: GetAllocator,
    set: SetAllocator,
    is_initialised: Flag,
    has_lock: Flag,
}

type Flag = unsafe extern "C" fn() -> c_int;

struct Found(UnsafeCell<Option<Functions>>);

// SAFETY: it is written before `INSTALLED` is set, and never again.
unsafe impl Sync for Found {}

static FUNCTIONS: Found = Found(UnsafeCell::new(None));

/// Whether it is known that the hooks stay.
static SETTLED: AtomicBool = AtomicBool::new(false);

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
        // SAFETY: the function fills in all fields for a domain that exists.
        unsafe {
            (self.get)(domain, allocator.as_mut_ptr());
            allocator.assume_init()
        }
    }
}

/// Stands before the allocators, before the interpreter begins.
fn install(interpreter: &Interpreter) {
    INTERPRETER.store(interpreter.api.code_type, Ordering::Relaxed);
    let Some(functions) = functions(interpreter) else { return };
    if interpreter.free_threaded {
        LARGEST.store(usize::MAX, Ordering::Relaxed);
    }
    // SAFETY: nobody reads it before INSTALLED is set.
    unsafe { *FUNCTIONS.0.get() = Some(functions) };
    stand_before(functions);
    INSTALLED.store(true, Ordering::Release);
}

fn stand_before(functions: Functions) {
    let raw = functions.allocator(RAW).malloc as usize;
    for (at, domain) in DOMAINS.into_iter().enumerate() {
        let allocator = functions.allocator(domain);
        // Where everything reaches `malloc` it is seen there.
        if allocator.malloc as usize == raw || is_hook(&allocator) {
            continue;
        }
        // SAFETY: the place is within the array; while this is done nobody allocates by it, see the callers.
        let context = unsafe {
            let place = REAL.0.get().cast::<Allocator>().add(at);
            place.write(allocator);
            place.addr()
        };
        let hooks = Allocator {
            context,
            malloc: object_malloc,
            calloc: object_calloc,
            realloc: object_realloc,
            free: object_free,
        };
        // SAFETY: the interpreter copies what it is given.
        unsafe { (functions.set)(domain, &raw const hooks) };
    }
}

fn is_hook(allocator: &Allocator) -> bool {
    allocator.malloc as usize == object_malloc as *const () as usize
}

/// Looks once more when the interpreter has begun: when it is told to use a certain allocator (by its environment, in its
/// development mode, and always before 3.7) it sets that, and loses the hooks.
pub fn settle() {
    if !INSTALLED.load(Ordering::Acquire) || SETTLED.load(Ordering::Relaxed) {
        return;
    }
    // SAFETY: it is not written any more.
    let Some(functions) = (unsafe { *FUNCTIONS.0.get() }) else { return };
    // SAFETY: the functions read variables.
    let ready = unsafe { (functions.is_initialised)() != 0 && (functions.has_lock)() != 0 };
    if !ready || SETTLED.swap(true, Ordering::Relaxed) {
        return;
    }
    // This thread has the interpreter's lock, so nobody else allocates in these domains.
    let object = functions.allocator(DOMAINS[1]);
    if is_seen(&object) {
        return;
    }
    // SAFETY: as above: written before INSTALLED was set.
    let before = unsafe { (*REAL.0.get())[1].assume_init_ref().malloc as usize };
    if object.malloc as usize != before {
        // An allocator that puts marks around the objects: they are larger by that for the one beneath.
        LARGEST.fetch_min(SMALL - MARKS, Ordering::Relaxed);
    }
    stand_before(functions);
}

/// Whether small objects of an allocator are seen already, by these hooks or by that of `malloc`.
fn is_seen(allocator: &Allocator) -> bool {
    let (_, end) = watched(PROBES, || {
        // SAFETY: an allocation that ends at once, by the interpreter's own functions, while this thread has its lock.
        unsafe {
            let probe = (allocator.malloc)(allocator.context, 8);
            (allocator.free)(allocator.context, probe);
        }
        0
    });
    end == REACHED
}

/// Bytes that the interpreter's debugging allocator adds at most.
const MARKS: usize = 32;

/// The real allocator that a context stands for.
fn real(context: usize) -> Allocator {
    // SAFETY: contexts are places of allocators in `REAL`.
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
        // The product's upper half would replace the third argument.
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
        filter = sym FILTER_PLACES, call = sym free_seen,
    )
}

/// Whether the interpreter's allocator serves this size itself.
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
    // Memory of either side: it is in the table once.
    forget(address);
    let real = real(context);
    // SAFETY: the interpreter's call.
    unsafe { (real.free)(real.context, address) };
}

/// Values of [`thread::Thread::python`].
const NOTHING: u32 = 0;
/// The interpreter's `realloc` works; the hook of the C library's has not been reached.
const WITHIN: u32 = 1;
/// It was reached, and answers for the allocation.
const REACHED: u32 = 2;
/// An allocator is tried: whether it leads to the hook.
const PROBES: u32 = 3;

/// To be called by the hook of `realloc`.
#[inline]
pub fn reached() {
    // SAFETY: it is this thread's storage.
    let thread = unsafe { &mut *thread::current() };
    if thread.python == WITHIN {
        thread.python = REACHED;
        thread.countdown = thread.kept;
    }
}

/// Whether an allocation is one that tries whether it is seen; notes that it is.
#[inline]
pub fn is_probe() -> bool {
    // SAFETY: it is this thread's storage.
    let thread = unsafe { &mut *thread::current() };
    let is_probe = thread.python == PROBES;
    if is_probe {
        thread.python = REACHED;
    }
    is_probe
}

extern "C" fn realloc_seen(context: usize, address: usize, size: usize, caller: &Caller) -> usize {
    let real = real(context);
    // SAFETY: the interpreter's call.
    let make = || unsafe { (real.realloc)(real.context, address, size) };
    let known = if may_be_recorded(address) { LIVE.get(address) } else { None };
    let known = known.map(|allocation| allocation.origin);
    if known == Some(Origin::Python) && !is_small(size) {
        return leave(address, make);
    }
    if known == Some(Origin::Malloc) || !is_small(size) {
        // It stays with `malloc`, or gets there.
        return make();
    }
    if address == 0 || known == Some(Origin::Python) {
        return reallocate(address, size, Origin::Python, caller, make);
    }
    let (made, end) = watched(WITHIN, make);
    if end == REACHED {
        return made;
    }
    reallocate(0, size, Origin::Python, caller, || made)
}

/// Memory of the interpreter's allocator that moves to `malloc`'s, where its hook sees it made.
fn leave(address: usize, make: impl FnOnce() -> usize) -> usize {
    let (Some(recorder), Some(allocation)) = (recorder(), LIVE.remove(address)) else {
        return make();
    };
    recorder.freed(ended(address, allocation));
    let made = make();
    if made == 0 {
        // It failed, so the object lives on.
        let again = recorder.remade(system::now_ns(), address, allocation.size, allocation);
        if LIVE.insert(address, again.allocation) && !recorder.recorded(again) {
            LIVE.remove(address);
        }
    }
    made
}

/// Calls something of the interpreter's, with this value in [`thread::Thread::python`]; the value at the end. Meanwhile each
/// allocation is looked at.
fn watched(begin: u32, make: impl FnOnce() -> usize) -> (usize, u32) {
    let thread = thread::current();
    // SAFETY: it is this thread's storage; the hooks that `make` reaches use it too, so no reference is kept.
    unsafe {
        (*thread).kept = (*thread).countdown;
        (*thread).countdown = 0;
        (*thread).python = begin;
        let made = make();
        let end = (*thread).python;
        if begin == PROBES || end != REACHED {
            (*thread).countdown = (*thread).kept;
        }
        (*thread).python = NOTHING;
        (made, end)
    }
}
