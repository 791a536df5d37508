//! The environment of a new image, without this library where it could not be loaded there.
//!
//! After a change of its user, its root or its file systems a process may not be able to open the library. The loader of what it
//! executes would say so on its standard error, in the target's name; so the library is no longer asked for from there on. Nothing
//! is allocated: the caller may be a child that shares its parent's memory, or has a copy of a locked allocator.

use core::ffi::{CStr, c_char};
use core::mem::MaybeUninit;
use core::ptr;

use crate::sys;

/// Texts of an environment, ended by a null pointer.
pub type Texts = *const *const c_char;

/// Most variables, and longest text of `LD_PRELOAD`, that are dealt with; what has more stays as it is.
const VARIABLES: usize = 512;
const TEXT_BYTES: usize = 512;
const NAME: &[u8] = b"LD_PRELOAD=";

/// Room for a changed environment, on the stack of who executes.
pub struct Room {
    variables: [*const c_char; VARIABLES],
    text: [u8; TEXT_BYTES],
}

/// What to hand on of an environment: itself where the library can be opened, or is not in it.
///
/// # Safety
/// `environment` must be null, or as the `exec` functions take it; the result is valid as long as it and `room` are.
pub unsafe fn passable(environment: Texts, room: &mut MaybeUninit<Room>) -> Texts {
    let _errno = sys::KeptErrno::new();
    match own_path() {
        // SAFETY: as of this function.
        Some(path) if !can_be_opened(path) => unsafe { without(path, environment, room) },
        _ => environment,
    }
}

/// The path that this library was loaded from.
fn own_path() -> Option<&'static CStr> {
    let mut found = MaybeUninit::<sys::SharedObject>::uninit();
    let address = (passable as *const ()).cast();
    // SAFETY: `found` is a valid place for the answer; the path lives as long as the library, which is never unloaded.
    unsafe {
        let is_found = sys::dladdr(address, found.as_mut_ptr()) != 0;
        is_found.then(|| CStr::from_ptr(found.assume_init_ref().path))
    }
}

fn can_be_opened(path: &CStr) -> bool {
    // SAFETY: the path is a C string; the descriptor is closed where there is one.
    unsafe {
        let fd = sys::open(path.as_ptr(), sys::O_CLOEXEC | sys::O_NOCTTY);
        fd >= 0 && sys::close(fd) == 0
    }
}

/// The environment without the first of the libraries to be loaded, if that is `path`.
///
/// # Safety
/// As of [`passable`].
unsafe fn without(path: &CStr, environment: Texts, room: &mut MaybeUninit<Room>) -> Texts {
    let room = room.as_mut_ptr();
    let mut count = 0;
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
            let kept = match rest(variable, path) {
                None => variable,
                Some([]) => continue,
                Some(rest) if NAME.len() + rest.len() < TEXT_BYTES => {
                    let text = (&raw mut (*room).text).cast::<u8>();
                    ptr::copy_nonoverlapping(NAME.as_ptr(), text, NAME.len());
                    ptr::copy_nonoverlapping(rest.as_ptr(), text.add(NAME.len()), rest.len());
                    *text.add(NAME.len() + rest.len()) = 0;
                    text.cast_const().cast()
                }
                Some(_) => return environment,
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

/// What `LD_PRELOAD` names after `path`, where a variable is that one and names this first.
///
/// # Safety
/// `variable` must be null or a C string.
unsafe fn rest<'a>(variable: *const c_char, path: &CStr) -> Option<&'a [u8]> {
    if variable.is_null() {
        return None;
    }
    // SAFETY: as of this function.
    let text = unsafe { CStr::from_ptr(variable) }.to_bytes();
    let rest = text.strip_prefix(NAME)?.strip_prefix(path.to_bytes())?;
    match rest {
        [] => Some(rest),
        [b':' | b' ', rest @ ..] => Some(rest),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_library_itself_is_left_out() {
        let table: [(&[&CStr], &[&CStr]); 6] = [
            (&[c"A=1", c"LD_PRELOAD=/l.so", c"B=2"], &[c"A=1", c"B=2"]),
            (&[c"LD_PRELOAD=/l.so:/a.so:/l.so"], &[c"LD_PRELOAD=/a.so:/l.so"]),
            (&[c"LD_PRELOAD=/l.so /a.so"], &[c"LD_PRELOAD=/a.so"]),
            (
                &[c"LD_PRELOAD=/l.so.6", c"XLD_PRELOAD=/l.so"],
                &[c"LD_PRELOAD=/l.so.6", c"XLD_PRELOAD=/l.so"],
            ),
            (&[c"LD_PRELOAD=/a.so:/l.so"], &[c"LD_PRELOAD=/a.so:/l.so"]),
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
