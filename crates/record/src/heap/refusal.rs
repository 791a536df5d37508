//! Checks before a run whether the allocations of a target can be recorded.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use object::read::elf::ElfFile64;
use object::{Architecture, Endianness, Object, ObjectSymbol};

use crate::{RecordError, program};

/// The sanitizers that replace the allocator: prefix of the library's name, and a symbol of it.
const SANITIZERS: [(&str, &str); 5] = [
    ("libasan", "__asan_init"),
    ("libtsan", "__tsan_init"),
    ("libmsan", "__msan_init"),
    ("liblsan", "__lsan_init"),
    ("libhwasan", "__hwasan_init"),
];
/// Maximum number of interpreters that are followed, since the interpreter of a script may itself be a script.
const MAX_INTERPRETERS: usize = 4;

/// Why the allocations of a target cannot be recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeapRefusal {
    /// It is statically linked, so no loader loads the library.
    Static,
    /// It is built with a sanitizer.
    Sanitizer,
    /// It runs with other rights than its user, so the loader ignores LD_PRELOAD.
    Privileged,
    /// Its C library is musl.
    Musl,
    /// It is built for another architecture, or for 32 bits.
    Foreign,
}

impl HeapRefusal {
    /// Returns the reason, as a clause.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Static => {
                "it is linked statically, so simprof's library cannot be loaded into it"
            }
            Self::Sanitizer => "it is built with a sanitizer, which replaces the allocator",
            Self::Privileged => {
                "it runs with other rights than its user (set-user-id, set-group-id or capabilities), so the loader does not \
                 load simprof's library into it"
            }
            Self::Musl => {
                "it uses the musl C library, and simprof's library needs the GNU C library"
            }
            Self::Foreign => "it is not a 64-bit program for this machine",
        }
    }

    /// Returns the fix, as a clause.
    pub fn fix(self) -> &'static str {
        match self {
            Self::Static => {
                "link it dynamically (C: without `-static`; Rust: a `-gnu` target without `crt-static`)"
            }
            Self::Sanitizer => "build it without `-fsanitize`",
            Self::Privileged => "run a copy of it without those rights",
            Self::Musl => "build it for the GNU C library",
            Self::Foreign => "build it for this machine",
        }
    }
}

/// Checks whether the allocations of a command can be recorded. Succeeds if that is unknown before the run.
///
/// # Errors
/// Returns [`RecordError::HeapRefused`] if they cannot be recorded, and the errors of [`resolve`](crate::resolve).
pub fn check(
    program: &str,
    directory: Option<&Path>,
    environment: &BTreeMap<String, String>,
) -> Result<(), RecordError> {
    check_path(&program::resolve(program, directory, environment)?)
}

/// Checks, as [`check`], the file that a command names.
pub(crate) fn check_path(path: &Path) -> Result<(), RecordError> {
    match refusal(path, MAX_INTERPRETERS) {
        Some((path, refusal)) => Err(RecordError::HeapRefused { path, refusal }),
        None => Ok(()),
    }
}

/// Returns the reason against recording a program, with the path of the program or of a script's interpreter.
fn refusal(path: &Path, depth: usize) -> Option<(PathBuf, HeapRefusal)> {
    let data = fs::read(path).ok()?;
    if let Some(interpreter) = program::script_interpreter(&data) {
        return refusal(Path::new(&interpreter), depth.checked_sub(1)?);
    }
    let found = if is_privileged(path) {
        Some(HeapRefusal::Privileged)
    } else if data.starts_with(b"\x7fELF") {
        binary_refusal(&data)
    } else {
        None
    };
    Some((path.to_owned(), found?))
}

fn binary_refusal(data: &[u8]) -> Option<HeapRefusal> {
    let Ok(file) = ElfFile64::<Endianness>::parse(data) else { return Some(HeapRefusal::Foreign) };
    if file.architecture() != Architecture::X86_64 {
        return Some(HeapRefusal::Foreign);
    }
    match program::loader(data) {
        None => program::is_static(data).then_some(HeapRefusal::Static),
        Some(loader) if loader.contains("ld-musl") => Some(HeapRefusal::Musl),
        Some(_) => has_sanitizer(&file).then_some(HeapRefusal::Sanitizer),
    }
}

fn has_sanitizer(file: &ElfFile64<'_>) -> bool {
    let needed = needed(file);
    let is_needed = |name: &str| needed.iter().any(|library| library.starts_with(name));
    let mut symbols = file.symbols().chain(file.dynamic_symbols());
    SANITIZERS.iter().any(|(library, _)| is_needed(library))
        || symbols.any(|symbol| {
            symbol.name().is_ok_and(|name| SANITIZERS.iter().any(|(_, init)| *init == name))
        })
}

/// Returns the names of the libraries that a file needs.
fn needed(file: &ElfFile64<'_>) -> Vec<String> {
    let Ok(table) = file.elf_dynamic_table() else { return Vec::new() };
    let names = table
        .iter()
        .filter(|entry| entry.tag == object::elf::DT_NEEDED)
        .filter_map(|entry| table.string(entry).ok());
    names.map(|name| String::from_utf8_lossy(name).into_owned()).collect()
}

/// Returns whether the kernel runs it with other rights than its user's.
fn is_privileged(path: &Path) -> bool {
    let Ok(metadata) = fs::metadata(path) else { return false };
    // SAFETY: both calls have no preconditions.
    let (user, group) = unsafe { (libc::geteuid(), libc::getegid()) };
    let mode = metadata.mode();
    let other_user = mode & libc::S_ISUID != 0 && metadata.uid() != user;
    let other_group = mode & libc::S_ISGID != 0 && metadata.gid() != group;
    other_user || other_group || (user != 0 && has_capabilities(path))
}

fn has_capabilities(path: &Path) -> bool {
    use std::os::unix::ffi::OsStrExt;
    let Ok(name) = std::ffi::CString::new(path.as_os_str().as_bytes()) else { return false };
    let attribute = c"security.capability";
    // SAFETY: both names are valid C strings. With a size of 0, the call writes nothing and returns the length.
    let length =
        unsafe { libc::getxattr(name.as_ptr(), attribute.as_ptr(), std::ptr::null_mut(), 0) };
    length > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_native_program_is_not_refused() {
        let path = std::env::current_exe().expect("this program has a path");
        assert!(check_path(&path).is_ok());
    }
}
