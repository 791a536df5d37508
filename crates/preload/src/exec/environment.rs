//! Builds the environment for a new image, without the profiler's libraries if the image could not load them, and with
//! them otherwise ([`super::restored`]).
//!
//! After a change of its user, its root or its file systems a process may be unable to open the library. The
//! loader of the new image would then print an error on the target's standard error. So the library is
//! removed from `LD_PRELOAD`. Nothing is allocated, since the caller may be a child that shares its parent's
//! memory, or that has a copy of a locked allocator.

use core::ffi::{CStr, c_char};
use core::mem::MaybeUninit;
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};

use crate::{seccomp, sys};

/// Strings of an environment, terminated by a null pointer.
pub type Texts = *const *const c_char;

/// Maximum number of variables, and of bytes in `LD_PRELOAD`. A larger environment is passed on unchanged.
pub(super) const VARIABLES: usize = 512;
pub(super) const TEXT_BYTES: usize = 512;
pub(super) const NAME: &[u8] = b"LD_PRELOAD=";
/// File names of the profiler's libraries.
const OWN_NAMES: [&[u8]; 2] = [b"libsimprof_preload.so", b"libsimprof_heap.so"];

/// Storage for a changed environment, on the stack of the caller of `exec`.
pub struct Buffer {
    pub(super) variables: [*const c_char; VARIABLES],
    pub(super) text: [u8; TEXT_BYTES],
}

/// Path that this library was loaded from; null until known.
static OWN_PATH: AtomicPtr<c_char> = AtomicPtr::new(ptr::null_mut());

/// Records the path of this library. Must be called once, when the library is loaded.
pub fn prepare() {
    #[cfg(not(simprof_heap))]
    super::restored::save();
    let mut found = MaybeUninit::<sys::SharedObject>::uninit();
    let address = (for_new_image as *const ()).cast();
    // SAFETY: `found` is valid for the result. The path lives as long as the library, which is never
    // unloaded.
    unsafe {
        if sys::dladdr(address, found.as_mut_ptr()) != 0 {
            OWN_PATH.store(found.assume_init_ref().path.cast_mut(), Ordering::Release);
        }
    }
}

/// Returns the path of this library, once it is known.
#[cfg(not(simprof_heap))]
pub fn own_path() -> Option<&'static CStr> {
    let path = OWN_PATH.load(Ordering::Acquire);
    // SAFETY: unless it is null it is a C string, see `prepare`.
    (!path.is_null()).then(|| unsafe { CStr::from_ptr(path) })
}

/// Returns the environment to pass on, which may be `environment` itself.
///
/// # Safety
/// `environment` must be null, or valid for the `exec` functions. The result is valid as long as it and `buffer` are.
pub unsafe fn for_new_image(environment: Texts, buffer: &mut MaybeUninit<Buffer>) -> Texts {
    let _errno = sys::ErrnoGuard::new();
    let path = OWN_PATH.load(Ordering::Acquire);
    if path.is_null() {
        return environment;
    }
    // SAFETY: it is a C string, see `prepare`.
    let path = unsafe { CStr::from_ptr(path) };
    match is_out_of_reach(path) {
        // SAFETY: the caller's promise.
        true => unsafe { without_libraries(path, environment, buffer) },
        #[cfg(not(simprof_heap))]
        // SAFETY: the caller's promise.
        false => unsafe { super::restored::with_library(path, environment, buffer) },
        #[cfg(simprof_heap)]
        false => environment,
    }
}

/// Returns whether the next program of this process certainly cannot open a file.
fn is_out_of_reach(path: &CStr) -> bool {
    if !seccomp::allows(sys::OPENAT) {
        return false;
    }
    // SAFETY: the path is a C string; a descriptor that was opened is closed.
    unsafe {
        let fd = sys::open(path.as_ptr(), sys::O_CLOEXEC | sys::O_NOCTTY);
        if fd >= 0 {
            sys::close(fd);
            return false;
        }
    }
    // Other errors, such as too many open files, are specific to this process.
    matches!(sys::errno(), sys::ENOENT | sys::EACCES | sys::ENOTDIR | sys::EPERM | sys::ELOOP)
}

/// Returns the environment without the profiler's libraries; `path` is this library's.
///
/// # Safety
/// As for [`for_new_image`].
unsafe fn without_libraries(
    path: &CStr,
    environment: Texts,
    buffer: &mut MaybeUninit<Buffer>,
) -> Texts {
    let buffer = buffer.as_mut_ptr();
    let (mut count, mut changed) = (0, false);
    // SAFETY: the strings are read up to the terminating null pointer; the buffer is written within its
    // bounds.
    unsafe {
        if environment.is_null() {
            return environment;
        }
        for at in 0.. {
            let variable = *environment.add(at);
            if count == VARIABLES {
                return environment;
            }
            let kept =
                match libraries(variable).filter(|all| entries(all).any(|e| is_ours(e, path))) {
                    None => variable,
                    // The buffer holds one variable. A loader only looks at the first one anyway.
                    Some(_) if changed => return environment,
                    Some(all) => {
                        changed = true;
                        let text = (&raw mut (*buffer).text).cast::<u8>();
                        match write_others(all, path, text) {
                            Some(true) => text.cast_const().cast(),
                            Some(false) => continue,
                            None => return environment,
                        }
                    }
                };
            (&raw mut (*buffer).variables).cast::<*const c_char>().add(count).write(kept);
            count += 1;
            if variable.is_null() {
                break;
            }
        }
        (&raw const (*buffer).variables).cast()
    }
}

/// Returns the value of a variable if it is `LD_PRELOAD`.
///
/// # Safety
/// `variable` must be null or a C string.
pub(super) unsafe fn libraries<'a>(variable: *const c_char) -> Option<&'a [u8]> {
    if variable.is_null() {
        return None;
    }
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(variable) }.to_bytes().strip_prefix(NAME)
}

/// Splits the value into paths.
pub(super) fn entries(libraries: &[u8]) -> impl Iterator<Item = &[u8]> {
    libraries.split(|byte| matches!(byte, b':' | b' ')).filter(|entry| !entry.is_empty())
}

/// Returns whether `entry` is one of the profiler's libraries: this one, or the other one by its file name.
fn is_ours(entry: &[u8], path: &CStr) -> bool {
    let name = entry.rsplit(|&byte| byte == b'/').next();
    entry == path.to_bytes() || name.is_some_and(|name| OWN_NAMES.contains(&name))
}

/// Writes `LD_PRELOAD` with the libraries that are not the profiler's, as a C string. Returns false if there are none,
/// and `None` if they do not fit.
///
/// # Safety
/// `text` must be valid for [`TEXT_BYTES`].
unsafe fn write_others(libraries: &[u8], path: &CStr, text: *mut u8) -> Option<bool> {
    let mut end = 0;
    // SAFETY: the length is checked before each write.
    unsafe {
        for entry in entries(libraries).filter(|entry| !is_ours(entry, path)) {
            let before: &[u8] = if end == 0 { NAME } else { b":" };
            if end + before.len() + entry.len() >= TEXT_BYTES {
                return None;
            }
            for part in [before, entry] {
                ptr::copy_nonoverlapping(part.as_ptr(), text.add(end), part.len());
                end += part.len();
            }
        }
        *text.add(end) = 0;
    }
    Some(end > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_profilers_libraries_are_removed() {
        let table: [(&[&CStr], &[&CStr]); 8] = [
            (&[c"A=1", c"LD_PRELOAD=/l.so", c"B=2"], &[c"A=1", c"B=2"]),
            (&[c"LD_PRELOAD=/l.so:/a.so:/l.so: /b.so"], &[c"LD_PRELOAD=/a.so:/b.so"]),
            (&[c"LD_PRELOAD=/t/simprof-1/libsimprof_heap.so:/l.so"], &[]),
            (
                &[c"LD_PRELOAD=/a.so:/t/libsimprof_preload.so", c"LD_PRELOAD=/b.so"],
                &[c"LD_PRELOAD=/a.so", c"LD_PRELOAD=/b.so"],
            ),
            (&[c"LD_PRELOAD=/l.so /a.so"], &[c"LD_PRELOAD=/a.so"]),
            (
                &[c"LD_PRELOAD=/l.so.6", c"XLD_PRELOAD=/l.so"],
                &[c"LD_PRELOAD=/l.so.6", c"XLD_PRELOAD=/l.so"],
            ),
            (&[c"LD_PRELOAD=/a.so : /b.so"], &[c"LD_PRELOAD=/a.so : /b.so"]),
            (&[], &[]),
        ];
        for (given, expected) in table {
            assert_eq!(changed(given), expected, "{given:?}");
        }
    }

    #[test]
    fn a_too_large_environment_stays_unchanged() {
        let mut many = vec![c"A=1"; VARIABLES + 1];
        many[3] = c"LD_PRELOAD=/l.so";
        assert_eq!(changed(&many), many);
        let long = format!("LD_PRELOAD=/l.so:/{}\0", "a".repeat(TEXT_BYTES));
        let long = CStr::from_bytes_with_nul(long.as_bytes()).expect("one zero");
        assert_eq!(changed(&[long]), [long]);
    }

    #[test]
    fn only_errors_about_the_path_put_a_file_out_of_reach() {
        assert!(is_out_of_reach(c"/no/such/library.so") && is_out_of_reach(c"/dev/null/l.so"));
        assert!(!is_out_of_reach(c"/dev/null"));
        let long = format!("/{}\0", "a".repeat(5000));
        assert!(!is_out_of_reach(CStr::from_bytes_with_nul(long.as_bytes()).expect("one zero")));
    }

    fn changed(given: &[&CStr]) -> Vec<&'static CStr> {
        let mut texts: Vec<_> = given.iter().map(|text| text.as_ptr()).collect();
        texts.push(ptr::null());
        let buffer = Box::leak(Box::new(MaybeUninit::uninit()));
        // SAFETY: the strings end with a null pointer, and the result points to them or into the buffer.
        unsafe {
            let changed = without_libraries(c"/l.so", texts.leak().as_ptr(), buffer);
            let read = (0..).map(|at| *changed.add(at)).take_while(|text| !text.is_null());
            read.map(|text| CStr::from_ptr(text)).collect()
        }
    }
}
