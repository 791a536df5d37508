//! Adds the profiler's variables to the environment of a new image if the target left them out.
//!
//! A program that starts another one with an environment of its own, such as an empty one, would start it without the
//! library. So the variables are added, and a mark that names them. When the library is loaded into the new image, it
//! removes them from that image's environment again, so that the program sees the environment that it was given.

use core::ffi::{CStr, c_char};
use core::mem::MaybeUninit;
use core::ptr;
use core::sync::atomic::{AtomicUsize, Ordering};

use super::environment::{Buffer, NAME, TEXT_BYTES, Texts, VARIABLES, entries, libraries};
use crate::{format, sys};

/// The variable that names the added ones by their letters.
const MARK: &[u8] = b"SIMPROF_RESTORED=";
/// Letter of the library in `LD_PRELOAD`.
const LIBRARY: u8 = b'l';
/// The profiler's other variables, with their letters.
const VARIABLES_OF_PROFILER: [(&CStr, u8); 2] =
    [(format::VARIABLE, b'p'), (c"SIMPROF_MARKS", b'm')];
/// Maximum length of one of these variables.
const VALUE_BYTES: usize = 256;

/// A variable of this image, as a C string; empty if it does not have it.
struct Saved {
    text: core::cell::UnsafeCell<[u8; VALUE_BYTES]>,
    /// Length with the terminating zero.
    length: AtomicUsize,
}

// SAFETY: the text is written once, while the library is loaded, before the length is set with release ordering.
unsafe impl Sync for Saved {}

static SAVED: [Saved; VARIABLES_OF_PROFILER.len()] = [const {
    Saved { text: core::cell::UnsafeCell::new([0; VALUE_BYTES]), length: AtomicUsize::new(0) }
}; VARIABLES_OF_PROFILER.len()];

/// Copies the profiler's variables. Must be called once, when the library is loaded.
pub fn save() {
    for ((name, _), saved) in VARIABLES_OF_PROFILER.iter().zip(&SAVED) {
        // SAFETY: the name is a C string. While libraries are loaded no other thread changes the environment.
        let value = unsafe { sys::getenv(name.as_ptr()) };
        if value.is_null() {
            continue;
        }
        // SAFETY: getenv returned a C string.
        let value = unsafe { CStr::from_ptr(value) }.to_bytes();
        let mut writer = Writer { to: saved.text.get().cast(), capacity: VALUE_BYTES, length: 0 };
        // SAFETY: nothing reads the text before its length is set.
        if unsafe { writer.write(&[name.to_bytes(), b"=", value]) } {
            saved.length.store(writer.length, Ordering::Release);
        }
    }
}

impl Saved {
    /// Returns the variable, `NAME=value` with a terminating zero. `None` if this image does not have it.
    fn text(&self) -> Option<&[u8]> {
        let length = self.length.load(Ordering::Acquire);
        // SAFETY: the text is not written any more once the length is set.
        (length > 0).then(|| unsafe { core::slice::from_raw_parts(self.text.get().cast(), length) })
    }
}

/// Returns `environment` with the library, whose path is `path`, and with the profiler's variables. It is `environment` itself if it has
/// them all, or if they do not fit.
///
/// # Safety
/// `environment` must be null, or valid for the `exec` functions. The result is valid as long as it and `buffer` are.
pub unsafe fn with_library(
    path: &CStr,
    environment: Texts,
    buffer: &mut MaybeUninit<Buffer>,
) -> Texts {
    if SAVED[0].text().is_none() {
        return environment;
    }
    let buffer = buffer.as_mut_ptr();
    // SAFETY: the buffer is written within its bounds, which are checked; the strings of the environment are C strings.
    unsafe {
        let variables = (&raw mut (*buffer).variables).cast::<*const c_char>();
        let mut missing = Missing { library: true, variables: [true; SAVED.len()] };
        let mut others: &[u8] = b"";
        let mut count = 0;
        while let Some(variable) = variable(environment, count) {
            // Three more and the terminating null pointer must fit.
            if count + SAVED.len() + 3 > VARIABLES {
                return environment;
            }
            let bytes = CStr::from_ptr(variable).to_bytes();
            for ((name, _), missing) in VARIABLES_OF_PROFILER.iter().zip(&mut missing.variables) {
                *missing &= !is_named(bytes, name.to_bytes());
            }
            if let Some(all) = libraries(variable) {
                missing.library &= !entries(all).any(|entry| entry == path.to_bytes());
                others = all;
            }
            variables.add(count).write(variable);
            count += 1;
        }
        for (missing, saved) in missing.variables.iter_mut().zip(&SAVED) {
            *missing &= saved.text().is_some();
        }
        if !missing.any() {
            return environment;
        }
        let text = (&raw mut (*buffer).text).cast::<u8>();
        let mut writer = Writer { to: text, capacity: TEXT_BYTES, length: 0 };
        if missing.library {
            let at = writer.length;
            let separator: &[u8] = if others.is_empty() { b"" } else { b":" };
            if !writer.write(&[NAME, others, separator, path.to_bytes()]) {
                return environment;
            }
            let found = (0..count).find(|&at| libraries(*variables.add(at)).is_some());
            variables.add(found.unwrap_or(count)).write(text.add(at).cast());
            count += usize::from(found.is_none());
        }
        for (_, saved) in missing.variables.iter().zip(&SAVED).filter(|(missing, _)| **missing) {
            if let Some(saved) = saved.text() {
                variables.add(count).write(saved.as_ptr().cast());
                count += 1;
            }
        }
        let at = writer.length;
        if !writer.write(&[MARK, missing.letters().as_ref()]) {
            return environment;
        }
        variables.add(count).write(text.add(at).cast());
        variables.add(count + 1).write(ptr::null());
        variables.cast_const()
    }
}

/// Which of the profiler's variables an environment does not have.
struct Missing {
    library: bool,
    variables: [bool; SAVED.len()],
}

impl Missing {
    fn any(&self) -> bool {
        self.library || self.variables.contains(&true)
    }

    /// Returns the letters of the missing variables. Others are blanks.
    fn letters(&self) -> [u8; SAVED.len() + 1] {
        let mut letters = [b' '; SAVED.len() + 1];
        if self.library {
            letters[0] = LIBRARY;
        }
        for (at, (_, letter)) in VARIABLES_OF_PROFILER.iter().enumerate() {
            if self.variables[at] {
                letters[at + 1] = *letter;
            }
        }
        letters
    }
}

/// Returns whether variables were added for this image.
///
/// # Safety
/// `environment` must be the environment of this process. No other thread may change it meanwhile.
pub unsafe fn has_added(environment: Texts) -> bool {
    // SAFETY: the caller's promise.
    unsafe { mark(environment) }.is_some()
}

/// Removes the variables that were added for this image from its environment. Must be called when the library is loaded, after everything
/// that reads them.
///
/// # Safety
/// `environment` must be the environment of this process. No other thread may use it meanwhile.
pub unsafe fn remove_added(path: &CStr, environment: *mut *mut c_char) {
    // SAFETY: the caller's promise: an array of C strings that ends with a null pointer, which the process may change.
    unsafe {
        let Some(mark) = mark(environment.cast::<*const c_char>().cast_const()) else { return };
        let (mut from, mut to) = (0, 0);
        loop {
            let variable = *environment.add(from);
            if variable.is_null() || !is_added(variable, mark, path) {
                environment.add(to).write(variable);
                to += 1;
            }
            if variable.is_null() {
                return;
            }
            from += 1;
        }
    }
}

/// Returns the letters of the added variables; `None` if none were added.
///
/// # Safety
/// `environment` must be null or an array of C strings that ends with a null pointer.
unsafe fn mark<'a>(environment: Texts) -> Option<&'a [u8]> {
    // SAFETY: the caller's promise.
    let texts = (0..).map_while(|at| unsafe { variable(environment, at) });
    // SAFETY: as above.
    texts
        .map(|text| unsafe { CStr::from_ptr(text) }.to_bytes())
        .find_map(|text| text.strip_prefix(MARK))
}

/// Returns whether a variable was added. If only the end of `LD_PRELOAD` was added, it is shortened.
///
/// # Safety
/// `variable` must be a C string that the process may change.
unsafe fn is_added(variable: *mut c_char, mark: &[u8], path: &CStr) -> bool {
    // SAFETY: the caller's promise.
    let bytes = unsafe { CStr::from_ptr(variable) }.to_bytes();
    if bytes.starts_with(MARK) {
        return true;
    }
    let named = VARIABLES_OF_PROFILER.iter().find(|(name, _)| is_named(bytes, name.to_bytes()));
    if let Some((_, letter)) = named {
        return mark.contains(letter);
    }
    let own = bytes.strip_prefix(NAME).and_then(|all| all.strip_suffix(path.to_bytes()));
    match own.filter(|_| mark.contains(&LIBRARY)) {
        None => false,
        Some(b"") => true,
        Some(others) => {
            // SAFETY: the text continues with the separator and the path.
            unsafe { variable.add(NAME.len() + others.len() - 1).write(0) };
            false
        }
    }
}

fn is_named(variable: &[u8], name: &[u8]) -> bool {
    variable.strip_prefix(name).is_some_and(|rest| rest.first() == Some(&b'='))
}

/// Returns the variable at this position; `None` at the end.
///
/// # Safety
/// `environment` must be null, or have this many variables.
unsafe fn variable(environment: Texts, at: usize) -> Option<*const c_char> {
    if environment.is_null() {
        return None;
    }
    // SAFETY: the caller's promise.
    let variable = unsafe { *environment.add(at) };
    (!variable.is_null()).then_some(variable)
}

/// Appends C strings to a buffer.
struct Writer {
    to: *mut u8,
    capacity: usize,
    /// Bytes in use, and so the beginning of the next string.
    length: usize,
}

impl Writer {
    /// Appends one C string made of these parts. Returns false if it does not fit.
    ///
    /// # Safety
    /// `to` must be valid for `capacity` bytes.
    unsafe fn write(&mut self, parts: &[&[u8]]) -> bool {
        let bytes: usize = parts.iter().map(|part| part.len()).sum();
        if self.length + bytes + 1 > self.capacity {
            return false;
        }
        for part in parts {
            // SAFETY: the sum of the lengths was checked.
            unsafe {
                ptr::copy_nonoverlapping(part.as_ptr(), self.to.add(self.length), part.len())
            };
            self.length += part.len();
        }
        // SAFETY: as above.
        unsafe { self.to.add(self.length).write(0) };
        self.length += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &CStr = c"/t/libsimprof_preload.so";
    const MEMORY: &CStr = c"SIMPROF_PRELOAD=/proc/7/fd/3";

    /// Stores what the library finds when it is loaded.
    fn prepare() {
        for (saved, value) in SAVED.iter().zip([MEMORY, c"SIMPROF_MARKS=/proc/7/fd/4"]) {
            let bytes = value.to_bytes();
            let mut writer =
                Writer { to: saved.text.get().cast(), capacity: VALUE_BYTES, length: 0 };
            // SAFETY: all tests write the same bytes.
            assert!(unsafe { writer.write(&[bytes]) });
            saved.length.store(writer.length, Ordering::Release);
        }
    }

    fn read(environment: Texts) -> Vec<String> {
        // SAFETY: the environments of these tests end with a null pointer.
        let texts = (0..).map_while(|at| unsafe { variable(environment, at) });
        // SAFETY: they consist of C strings.
        texts
            .map(|text| unsafe { CStr::from_ptr(text) }.to_str().expect("text").to_owned())
            .collect()
    }

    /// Returns the environment that the new image gets, and the one that its program sees.
    fn started_with(given: &[&CStr]) -> (Vec<String>, Vec<String>) {
        prepare();
        let mut texts: Vec<_> = given.iter().map(|text| text.as_ptr()).collect();
        texts.push(ptr::null());
        let mut buffer = Box::new(MaybeUninit::uninit());
        // SAFETY: the array ends with a null pointer.
        let passed = read(unsafe { with_library(PATH, texts.as_ptr(), &mut buffer) });
        let copies: Vec<std::ffi::CString> = passed
            .iter()
            .map(|text| std::ffi::CString::new(text.as_str()).expect("no zero"))
            .collect();
        let mut copies: Vec<*mut c_char> = copies.into_iter().map(|text| text.into_raw()).collect();
        copies.push(ptr::null_mut());
        // SAFETY: the array is of strings that this test owns.
        unsafe { remove_added(PATH, copies.as_mut_ptr()) };
        (passed, read(copies.as_ptr().cast()))
    }

    #[test]
    fn an_image_gets_the_library_and_sees_its_own_environment() {
        let table: [&[&CStr]; 6] = [
            &[],
            &[c"A=1", c"B=2"],
            &[c"A=1", c"LD_PRELOAD=/a.so", c"B=2"],
            &[c"LD_PRELOAD=", c"A=1"],
            &[MEMORY, c"A=1"],
            &[c"LD_PRELOAD=/a.so:/t/libsimprof_preload.so"],
        ];
        for given in table {
            let (passed, left) = started_with(given);
            let has = |text: &str| passed.iter().any(|variable| variable == text);
            assert!(has(MEMORY.to_str().expect("text")), "{passed:?}");
            assert!(has("SIMPROF_MARKS=/proc/7/fd/4"), "{passed:?}");
            let preload: Vec<_> =
                passed.iter().filter_map(|text| text.strip_prefix("LD_PRELOAD=")).collect();
            let [preload] = preload[..] else { panic!("{passed:?}") };
            assert!(preload.split(':').any(|path| path == PATH.to_str().expect("text")));
            let given: Vec<_> = given.iter().map(|text| text.to_str().expect("text")).collect();
            // An empty list of libraries is the same as none.
            let same = |left: &&String| *left != "LD_PRELOAD=";
            let expected = |text: &&&str| **text != "LD_PRELOAD=";
            let left: Vec<_> = left.iter().filter(same).map(String::as_str).collect();
            assert_eq!(left, given.iter().filter(expected).copied().collect::<Vec<_>>());
        }
    }

    #[test]
    fn complete_and_too_large_environments_stay_unchanged() {
        let complete: &[&CStr] =
            &[c"LD_PRELOAD=/t/libsimprof_preload.so", MEMORY, c"SIMPROF_MARKS=/other", c"A=1"];
        let (passed, left) = started_with(complete);
        assert_eq!((passed.len(), &left), (complete.len(), &passed));
        let (passed, _) = started_with(&vec![c"A=1"; VARIABLES]);
        assert_eq!(passed.len(), VARIABLES);
        let long = format!("LD_PRELOAD=/{}\0", "a".repeat(TEXT_BYTES));
        let long = CStr::from_bytes_with_nul(long.as_bytes()).expect("one zero");
        assert_eq!(started_with(&[long]).0.len(), 1);
    }
}
