//! The functions that the library stands before: those of the allocator that the program would have without it.

use core::ffi::{CStr, c_void};
use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use super::system::{RTLD_NEXT, dlsym};
use super::thread;
use crate::own::Own;

/// A function's address; null before it was looked up. The assembly of [`super::hooks`] jumps to it.
pub type Place = AtomicPtr<c_void>;

/// Declares places and looks all of them up.
macro_rules! functions {
    ($($place:ident $name:literal $call:ident ($($argument:ident: $type:ty),*) -> $result:ty;)*) => {
        $(
            pub static $place: Place = AtomicPtr::new(core::ptr::null_mut());

            /// The real function.
            ///
            /// # Safety
            ///
            /// As the function's own.
            #[inline]
            pub unsafe fn $call($($argument: $type),*) -> $result {
                type Function = unsafe extern "C" fn($($type),*) -> $result;
                let mut place = $place.load(Ordering::Relaxed);
                if place.is_null() {
                    place = look_up(&$place, $name);
                }
                if place.is_null() {
                    return <$result>::FAILED;
                }
                // SAFETY: the symbol of this name has this type; the rest is the caller's care.
                unsafe { core::mem::transmute::<*mut c_void, Function>(place)($($argument),*) }
            }
        )*

        /// Looks all up that is not yet known.
        pub fn look_up_all() {
            $(
                if $place.load(Ordering::Relaxed).is_null() {
                    look_up(&$place, $name);
                }
            )*
        }
    };
}

/// What a function returns that is not there.
trait Failed {
    const FAILED: Self;
}

impl Failed for usize {
    const FAILED: usize = 0;
}

impl Failed for i32 {
    const FAILED: i32 = ENOMEM;
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
    DLCLOSE c"dlclose" dlclose(handle: *mut c_void) -> i32;
}

/// The real `pthread_key_create`; null where there is none.
pub fn key_create() -> *mut c_void {
    let place = KEY_CREATE.load(Ordering::Relaxed);
    if place.is_null() { look_up(&KEY_CREATE, c"pthread_key_create") } else { place }
}

static KEY_CREATE: Place = AtomicPtr::new(core::ptr::null_mut());

/// The thread that looks a function up, by its pointer; 0 where none does.
static LOOKING: AtomicUsize = AtomicUsize::new(0);

/// Null where there is none, and while the thread looks another one up: before glibc 2.34, `dlsym` first allocates a place for a
/// message, and has another where it gets none.
#[cold]
fn look_up(place: &Place, name: &CStr) -> *mut c_void {
    let own = thread::pointer();
    // Two threads that begin at once overwrite each other's: it then takes one more call until this holds.
    let before = LOOKING.swap(own, Ordering::Relaxed);
    if before == own {
        return core::ptr::null_mut();
    }
    // What is not found leaves a message, for which the C library allocates.
    let _own = Own::begin();
    // SAFETY: the name is a C string.
    let found = unsafe { dlsym(RTLD_NEXT, name.as_ptr()) };
    LOOKING.store(0, Ordering::Relaxed);
    if !found.is_null() {
        place.store(found, Ordering::Relaxed);
    }
    found
}
