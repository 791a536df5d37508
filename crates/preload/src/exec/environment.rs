//! The environment of a new image, without this library where it could not be loaded there.
//!
//! After a change of its user, its root or its file systems a process may not be able to open the library. The loader of what it
//! executes would say so on its standard error, in the target's name; so the library is no longer asked for from there on. Nothing
//! is allocated: the caller may be a child that shares its parent's memory, or has a copy of a locked allocator.

use core::ffi::{CStr, c_char};
use core::mem::MaybeUninit;
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};

use crate::sys;

/// Texts of an environment, ended by a null pointer.
pub type Texts = *const *const c_char;

/// Most variables, and longest text of `LD_PRELOAD`, that are dealt with; what has more stays as it is.
const VARIABLES: usize = 512;
const TEXT_BYTES: usize = 512;
const NAME: &[u8] = b"LD_PRELOAD=";
/// Names of the profiler's libraries, where they are files.
const OWN_NAMES: [&[u8]; 2] = [b"libsimprof_preload.so", b"libsimprof_heap.so"];

/// Room for a changed environment, on the stack of who executes.
pub struct Room {
    variables: [*const c_char; VARIABLES],
    text: [u8; TEXT_BYTES],
}

/// The path that this library was loaded from; null before it is known.
static OWN_PATH: AtomicPtr<c_char> = AtomicPtr::new(ptr::null_mut());

/// To be called once, when the library is loaded.
pub fn prepare() {
    let mut found = MaybeUninit::<sys::SharedObject>::uninit();
    let address = (passable as *const ()).cast();
    // SAFETY: `found` is a valid place for the answer; the path lives as long as the library, which is never unloaded.
    unsafe {
        if sys::dladdr(address, found.as_mut_ptr()) != 0 {
            OWN_PATH.store(found.assume_init_ref().path.cast_mut(), Ordering::Release);
        }
    }
}

/// What to hand on of an environment: itself where the library can be opened, or is not in it.
///
/// # Safety
/// `environment` must be null, or as the `exec` functions take it; the result is valid as long as it and `room` are.
pub unsafe fn passable(environment: Texts, room: &mut MaybeUninit<Room>) -> Texts {
    let _errno = sys::KeptErrno::new();
    let path = OWN_PATH.load(Ordering::Acquire);
    if path.is_null() {
        return environment;
    }
    // SAFETY: it is a C string, see `prepare`.
    let path = unsafe { CStr::from_ptr(path) };
    match is_out_of_reach(path) {
        // SAFETY: as of this function.
        true => unsafe { without(path, environment, room) },
        false => environment,
    }
}

/// Whether a file surely cannot be opened by what this process executes.
fn is_out_of_reach(path: &CStr) -> bool {
    // SAFETY: the path is a C string; the descriptor is closed where there is one.
    unsafe {
        let fd = sys::open(path.as_ptr(), sys::O_CLOEXEC | sys::O_NOCTTY);
        if fd >= 0 {
            sys::close(fd);
            return false;
        }
    }
    // Other errors are this process's own, such as too many open files.
    matches!(sys::errno(), sys::ENOENT | sys::EACCES | sys::ENOTDIR | sys::EPERM | sys::ELOOP)
}

/// The environment without the profiler's libraries, of which this one has that path.
///
/// # Safety
/// As of [`passable`].
unsafe fn without(path: &CStr, environment: Texts, room: &mut MaybeUninit<Room>) -> Texts {
    let room = room.as_mut_ptr();
    let (mut count, mut changed) = (0, false);
    // SAFETY: the texts are read up to the null pointer that ends them, the room is written within its bounds.
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
                    // There is room for one, and more than one is nothing that a loader looks at.
                    Some(_) if changed => return environment,
                    Some(all) => {
                        changed = true;
                        let text = (&raw mut (*room).text).cast::<u8>();
                        match write_others(all, path, text) {
                            Some(true) => text.cast_const().cast(),
                            Some(false) => continue,
                            None => return environment,
                        }
                    }
                };
            (&raw mut (*room).variables).cast::<*const c_char>().add(count).write(kept);
            count += 1;
            if variable.is_null() {
                break;
            }
        }
        (&raw const (*room).variables).cast()
    }
}

/// What `LD_PRELOAD` says, where a variable is that one.
///
/// # Safety
/// `variable` must be null or a C string.
unsafe fn libraries<'a>(variable: *const c_char) -> Option<&'a [u8]> {
    if variable.is_null() {
        return None;
    }
    // SAFETY: as of this function.
    unsafe { CStr::from_ptr(variable) }.to_bytes().strip_prefix(NAME)
}

/// The paths in it.
fn entries(libraries: &[u8]) -> impl Iterator<Item = &[u8]> {
    libraries.split(|byte| matches!(byte, b':' | b' ')).filter(|entry| !entry.is_empty())
}

/// Whether this is one of the profiler's libraries: this one, or, where the other is loaded too, that.
fn is_ours(entry: &[u8], path: &CStr) -> bool {
    let name = entry.rsplit(|&byte| byte == b'/').next();
    entry == path.to_bytes() || name.is_some_and(|name| OWN_NAMES.contains(&name))
}

/// Writes `LD_PRELOAD` with those libraries that are not the profiler's, as a C string; false where there are none, none where
/// there is no room.
///
/// # Safety
/// `text` has room for [`TEXT_BYTES`].
unsafe fn write_others(libraries: &[u8], path: &CStr, text: *mut u8) -> Option<bool> {
    let mut end = 0;
    // SAFETY: within the room, as is looked at before.
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
    fn only_the_profilers_libraries_are_left_out() {
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
    fn what_has_no_room_stays_as_it_is() {
        let mut many = vec![c"A=1"; VARIABLES + 1];
        many[3] = c"LD_PRELOAD=/l.so";
        assert_eq!(changed(&many), many);
        let long = format!("LD_PRELOAD=/l.so:/{}\0", "a".repeat(TEXT_BYTES));
        let long = CStr::from_bytes_with_nul(long.as_bytes()).expect("one zero");
        assert_eq!(changed(&[long]), [long]);
    }

    #[test]
    fn what_fails_for_another_reason_is_no_reason() {
        assert!(is_out_of_reach(c"/no/such/library.so") && is_out_of_reach(c"/dev/null/l.so"));
        assert!(!is_out_of_reach(c"/dev/null"));
        let long = format!("/{}\0", "a".repeat(5000));
        assert!(!is_out_of_reach(CStr::from_bytes_with_nul(long.as_bytes()).expect("one zero")));
    }

    fn changed(given: &[&CStr]) -> Vec<&'static CStr> {
        let mut texts: Vec<_> = given.iter().map(|text| text.as_ptr()).collect();
        texts.push(ptr::null());
        let room = Box::leak(Box::new(MaybeUninit::uninit()));
        // SAFETY: the texts end with a null pointer, and what is returned is in them or in the room.
        unsafe {
            let changed = without(c"/l.so", texts.leak().as_ptr(), room);
            let read = (0..).map(|at| *changed.add(at)).take_while(|text| !text.is_null());
            read.map(|text| CStr::from_ptr(text)).collect()
        }
    }
}
