//! Finds the C library's functions that this library replaces.

use core::ffi::{CStr, c_void};
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};

use crate::own_work::OwnWork;
use crate::sys;

/// A function of the C library that this library replaces. It is resolved when it is first needed.
pub struct RealFunction {
    name: &'static CStr,
    address: AtomicPtr<c_void>,
}

impl RealFunction {
    pub const fn new(name: &'static CStr) -> RealFunction {
        RealFunction { name, address: AtomicPtr::new(ptr::null_mut()) }
    }

    /// Returns the function's address; null if it does not exist.
    ///
    /// Resolving it is not allowed in signal handlers, so functions that these use are resolved when the library starts.
    #[inline]
    pub fn address(&self) -> *mut c_void {
        let address = self.address.load(Ordering::Relaxed);
        if !address.is_null() {
            return address;
        }
        let _own_work = OwnWork::begin();
        // SAFETY: the name is a C string.
        let address = unsafe { sys::dlsym(sys::RTLD_NEXT, self.name.as_ptr()) };
        self.address.store(address, Ordering::Relaxed);
        address
    }
}
