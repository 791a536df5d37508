//! Targets whose allocations cannot be recorded, known before they are started.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use object::read::elf::ElfFile64;
use object::{Architecture, Endianness, Object, ObjectSymbol};

use simprof_preload::HEAP_LIBRARY;

use crate::{RecordError, program};

/// Parts of the names of libraries that replace the allocator with one that checks.
const SANITIZERS: [(&str, &str); 5] = [
    ("libasan", "__asan_init"),
    ("libtsan", "__tsan_init"),
    ("libmsan", "__msan_init"),
    ("liblsan", "__lsan_init"),
    ("libhwasan", "__hwasan_init"),
];
/// What this program, and so the library, is built for.
const OWN: Architecture =
    if cfg!(target_arch = "aarch64") { Architecture::Aarch64 } else { Architecture::X86_64 };
/// How many interpreters of interpreters are followed.
const DEEPEST: usize = 4;

/// Why the allocations of a target cannot be recorded, and what would mend it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeapRefusal {
    /// It has no loader that would load the library.
    Static,
    /// A sanitizer is part of it.
    Sanitizer,
    /// It runs with other rights than its user, and the loader then loads nothing that is asked for.
    Privileged,
    /// Its C library is musl.
    Musl,
    /// It is a program of another machine, or of 32 bits.
    Foreign,
    /// There is no library for this machine yet.
    Machine,
}

impl HeapRefusal {
    /// Why, as the end of a sentence.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Static => "it is linked statically, so that no library can be loaded into it",
            Self::Sanitizer => {
                "a sanitizer is part of it, which replaces the allocator by one of its own"
            }
            Self::Privileged => {
                "it runs with other rights than its user (set-user-id, set-group-id or capabilities), and is loaded without \
                 any library but its own"
            }
            Self::Musl => {
                "it uses the musl C library, which simprof's library cannot be loaded beside"
            }
            Self::Foreign => "it is not a 64-bit program of this machine",
            Self::Machine => "this is not an x86-64 machine, the only kind that it is done on",
        }
    }

    /// What would mend it, as a clause.
    pub fn fix(self) -> &'static str {
        match self {
            Self::Static => {
                "link it dynamically (C: without `-static`; Rust: a `-gnu` target without `crt-static`)"
            }
            Self::Sanitizer => "build it without `-fsanitize`",
            Self::Privileged => "run a copy of it without those rights",
            Self::Musl => "build it for the GNU C library",
            Self::Foreign => "build it for this machine",
            Self::Machine => "profile its memory on one",
        }
    }
}

/// Whether the allocations of a command can be recorded; without a word where only its run will tell.
///
/// # Errors
/// [`RecordError::HeapRefused`] where they cannot; what [`resolve`](crate::resolve) refuses.
pub fn check(
    program: &str,
    directory: Option<&Path>,
    environment: &BTreeMap<String, String>,
) -> Result<(), RecordError> {
    check_path(&program::resolve(program, directory, environment)?)
}

/// As [`check`], of the file that a command names.
pub(crate) fn check_path(path: &Path) -> Result<(), RecordError> {
    check_with(HEAP_LIBRARY, path)
}

/// As [`check_path`], where this is the library of the machine: empty where there is none.
fn check_with(library: &[u8], path: &Path) -> Result<(), RecordError> {
    let found = match library.is_empty() {
        true => Some((path.to_owned(), HeapRefusal::Machine)),
        false => refusal(path, DEEPEST),
    };
    match found {
        Some((path, refusal)) => Err(RecordError::HeapRefused { path, refusal }),
        None => Ok(()),
    }
}

fn refusal(path: &Path, depth: usize) -> Option<(PathBuf, HeapRefusal)> {
    let data = fs::read(path).ok()?;
    if let Some(interpreter) = program::script_interpreter(&data) {
        return refusal(Path::new(&interpreter), depth.checked_sub(1)?);
    }
    let found = if is_privileged(path) {
        Some(HeapRefusal::Privileged)
    } else if data.starts_with(b"\x7fELF") {
        of_binary(&data)
    } else {
        None
    };
    Some((path.to_owned(), found?))
}

fn of_binary(data: &[u8]) -> Option<HeapRefusal> {
    let Ok(file) = ElfFile64::<Endianness>::parse(data) else { return Some(HeapRefusal::Foreign) };
    if file.architecture() != OWN {
        return Some(HeapRefusal::Foreign);
    }
    match program::loader(data) {
        None => Some(HeapRefusal::Static),
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

/// Names of the libraries that a file asks for.
fn needed(file: &ElfFile64<'_>) -> Vec<String> {
    let Ok(table) = file.elf_dynamic_table() else { return Vec::new() };
    let names = table
        .iter()
        .filter(|entry| entry.tag == object::elf::DT_NEEDED)
        .filter_map(|entry| table.string(entry).ok());
    names.map(|name| String::from_utf8_lossy(name).into_owned()).collect()
}

/// Whether the kernel gives it other rights than its user has.
fn is_privileged(path: &Path) -> bool {
    let Ok(metadata) = fs::metadata(path) else { return false };
    // SAFETY: these have no preconditions.
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
    // SAFETY: both names are C strings; without room, only the length is told.
    let length =
        unsafe { libc::getxattr(name.as_ptr(), attribute.as_ptr(), std::ptr::null_mut(), 0) };
    length > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_there_is_no_library_every_target_is_refused_with_the_reason() {
        let path = std::env::current_exe().expect("this program has a path");
        let error = check_with(&[], &path).expect_err("nothing can be loaded");
        let text = error.to_string();
        assert!(text.contains(&*path.to_string_lossy()), "{text}");
        assert!(text.contains("not an x86-64 machine"), "{text}");
        let (machine, works) = (cfg!(target_arch = "x86_64"), check_path(&path).is_ok());
        assert_eq!(works, machine, "of this machine");
    }
}
