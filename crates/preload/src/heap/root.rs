//! The root folder of the process. After a change, the process cannot find out under which paths others know its
//! files, so the path of the new root is kept.

use core::ffi::{CStr, c_char};
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};

use super::{real, system};
use crate::sys::ErrnoGuard;

/// Longest path of a root folder that is kept, bytes.
const PATH_BYTES: usize = 512;

static PATH: [AtomicU8; PATH_BYTES] = [const { AtomicU8::new(0) }; PATH_BYTES];
/// Length of the path; 0 if it is not known or not changed.
static LENGTH: AtomicUsize = AtomicUsize::new(0);
/// Whether the root was changed.
static IS_CHANGED: AtomicBool = AtomicBool::new(false);

/// Replaces the C library's `chroot`.
///
/// # Safety
///
/// As for the function itself.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chroot(path: *const c_char) -> i32 {
    let mut resolved = [0; PATH_BYTES];
    let length = {
        let _errno = ErrnoGuard::new();
        // In another root, paths are not those that others know.
        let is_known = !path.is_null() && !IS_CHANGED.load(Ordering::Relaxed);
        // SAFETY: the program's argument is a C string.
        if is_known { resolve(unsafe { CStr::from_ptr(path) }, &mut resolved) } else { 0 }
    };
    // SAFETY: the program's call.
    let result = unsafe { real::chroot(path) };
    if result == 0 {
        IS_CHANGED.store(true, Ordering::Relaxed);
        for (kept, &byte) in PATH.iter().zip(&resolved[..length]) {
            kept.store(byte, Ordering::Relaxed);
        }
        LENGTH.store(length, Ordering::Release);
    }
    result
}

/// Writes the path of a folder without links. Returns its length; 0 if it cannot be found out or does not fit.
fn resolve(path: &CStr, to: &mut [u8; PATH_BYTES]) -> usize {
    let Some(fd) = system::open_folder(path) else { return 0 };
    const BEGIN: &[u8] = b"/proc/self/fd/";
    let mut link = [0; 32];
    link[..BEGIN.len()].copy_from_slice(BEGIN);
    let digits = fd.checked_ilog10().unwrap_or(0) as usize + 1;
    let mut rest = fd;
    for digit in link[BEGIN.len()..][..digits].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    let length = CStr::from_bytes_until_nul(&link).map_or(0, |link| system::read_link(link, to));
    system::close(fd);
    if length < PATH_BYTES && to.starts_with(b"/") { length } else { 0 }
}

/// Writes the path that others know for a path in this process's root. `None` if the root was not changed, is not known,
/// or the path does not fit.
pub fn outside<'a>(path: &[u8], to: &'a mut [u8]) -> Option<&'a [u8]> {
    let length = LENGTH.load(Ordering::Acquire);
    let end = length.checked_add(path.len())?;
    if length == 0 || !path.starts_with(b"/") || end > to.len() {
        return None;
    }
    for (byte, kept) in to[..length].iter_mut().zip(&PATH) {
        *byte = kept.load(Ordering::Relaxed);
    }
    to[length..end].copy_from_slice(path);
    Some(&to[..end])
}
