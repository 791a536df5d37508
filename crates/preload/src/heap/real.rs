//! The real functions that the library's hooks call: those of the allocator that the program would otherwise
//! use.

use core::ffi::{CStr, c_char, c_void};
use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use super::system::{RTLD_NEXT, dlsym};
use super::thread;
use crate::own_work::OwnWork;

/// Address of a function; null until it is resolved. The assembly of [`super::hooks`] jumps to it.
pub type Address = AtomicPtr<c_void>;

/// Declares the addresses, the functions that call them, and one that resolves all.
macro_rules! functions {
    ($($address:ident $name:literal $call:ident ($($argument:ident: $type:ty),*) -> $result:ty;)*) => {
        $(
            pub static $address: Address = AtomicPtr::new(core::ptr::null_mut());

            /// Calls the real function.
            ///
            /// # Safety
            ///
            /// As for the function itself.
            #[inline]
            pub unsafe fn $call($($argument: $type),*) -> $result {
                type Function = unsafe extern "C" fn($($type),*) -> $result;
                let mut address = $address.load(Ordering::Relaxed);
                if address.is_null() {
                    address = resolve(&$address, $name);
                }
                if address.is_null() {
                    return <$result>::FAILED;
                }
                // SAFETY: the symbol of this name has this type; the rest is the caller's promise.
                unsafe { core::mem::transmute::<*mut c_void, Function>(address)($($argument),*) }
            }
        )*

        /// Resolves all functions that are not resolved yet.
        pub fn resolve_all() {
            $(
                if $address.load(Ordering::Relaxed).is_null() {
                    resolve(&$address, $name);
                }
            )*
        }
    };
}

/// The result of a function that does not exist.
trait Failed {
    const FAILED: Self;
}

impl Failed for usize {
    const FAILED: usize = 0;
}

impl Failed for i32 {
    const FAILED: i32 = ENOMEM;
}

impl Failed for *mut c_void {
    const FAILED: *mut c_void = core::ptr::null_mut();
}

impl Failed for () {
    const FAILED: () = ();
}

const ENOMEM: i32 = 12;

functions! {
    CALLOC c"calloc" calloc(count: usize, size: usize) -> usize;
    MALLOC c"malloc" malloc(size: usize) -> usize;
    FREE c"free" free(address: usize) -> ();
    REALLOC c"realloc" realloc(address: usize, size: usize) -> usize;
    REALLOCARRAY c"reallocarray" reallocarray(address: usize, count: usize, size: usize) -> usize;
    POSIX_MEMALIGN c"posix_memalign" posix_memalign(to: *mut usize, align: usize, size: usize) -> i32;
    ALIGNED_ALLOC c"aligned_alloc" aligned_alloc(align: usize, size: usize) -> usize;
    MEMALIGN c"memalign" memalign(align: usize, size: usize) -> usize;
    VALLOC c"valloc" valloc(size: usize) -> usize;
    PVALLOC c"pvalloc" pvalloc(size: usize) -> usize;
    MMAP c"mmap" mmap(address: usize, bytes: usize, protection: i32, flags: i32, fd: i32, offset: i64) -> usize;
    MUNMAP c"munmap" munmap(address: usize, bytes: usize) -> i32;
    MREMAP c"mremap" mremap(address: usize, old: usize, new: usize, flags: i32, to: usize) -> usize;
    CHROOT c"chroot" chroot(path: *const c_char) -> i32;
    DLOPEN c"dlopen" dlopen(path: *const c_char, flags: i32) -> *mut c_void;
    DLCLOSE c"dlclose" dlclose(handle: *mut c_void) -> i32;
}

/// Returns the real `pthread_key_create`; null if there is none.
pub fn key_create() -> *mut c_void {
    static ADDRESS: Address = AtomicPtr::new(core::ptr::null_mut());
    resolved(&ADDRESS, c"pthread_key_create")
}

/// Returns the real `dlmopen`.
pub fn dlmopen() -> *mut c_void {
    static ADDRESS: Address = AtomicPtr::new(core::ptr::null_mut());
    resolved(&ADDRESS, c"dlmopen")
}

fn resolved(address: &Address, name: &CStr) -> *mut c_void {
    let known = address.load(Ordering::Relaxed);
    if known.is_null() { resolve(address, name) } else { known }
}

/// Thread pointer of the thread that is resolving a function; 0 if there is none.
static RESOLVING: AtomicUsize = AtomicUsize::new(0);

/// Resolves a function. Returns null if it does not exist, and while this thread is resolving another one: before
/// glibc 2.34, `dlsym` first allocates a buffer for an error message, and copes if it gets none.
#[cold]
fn resolve(address: &Address, name: &CStr) -> *mut c_void {
    let own = thread::pointer();
    // Two threads that start at once overwrite each other's value. The check then takes effect one call later.
    let before = RESOLVING.swap(own, Ordering::Relaxed);
    if before == own {
        return core::ptr::null_mut();
    }
    // If the symbol is not found, the C library allocates an error message.
    let _own_work = OwnWork::begin();
    // SAFETY: the name is a C string.
    let found = unsafe { dlsym(RTLD_NEXT, name.as_ptr()) };
    RESOLVING.store(0, Ordering::Relaxed);
    if !found.is_null() {
        address.store(found, Ordering::Relaxed);
    }
    found
}
