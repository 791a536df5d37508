//! Finds the executable file that a command names, and explains why it cannot be run.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use object::Object;
use object::elf::PT_INTERP;
use object::read::elf::{ElfFile32, ElfFile64, FileHeader, ProgramHeader};

use crate::RecordError;

/// Used if the target's environment has no PATH, as in the C library.
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// Returns the absolute path of the file that `program` names.
///
/// A name with a slash is relative to `directory`, as after `cd`. A name without a slash is looked
/// up in the PATH that the target will have.
///
/// # Errors
/// Returns an error if there is no such file, or if it may not be executed.
pub fn resolve(
    program: &str,
    directory: Option<&Path>,
    environment: &BTreeMap<String, String>,
) -> Result<PathBuf, RecordError> {
    if program.is_empty() {
        return Err(RecordError::EmptyCommand);
    }
    if program.contains('/') {
        let path = absolute(directory, Path::new(program))?;
        return executable(&path).map(|()| path);
    }
    let path = environment
        .get("PATH")
        .cloned()
        .or_else(|| std::env::var_os("PATH").map(|path| path.to_string_lossy().into_owned()))
        .unwrap_or_else(|| DEFAULT_PATH.to_owned());
    search(program, &path, directory)
}

/// Returns the first executable file of that name in the folders of `path`.
///
/// If there is none, the error is about the first file that exists but cannot be run, since that
/// explains more than "not found".
fn search(program: &str, path: &str, directory: Option<&Path>) -> Result<PathBuf, RecordError> {
    let mut unusable = None;
    for folder in path.split(':') {
        let folder = if folder.is_empty() { "." } else { folder };
        let candidate = absolute(directory, &Path::new(folder).join(program))?;
        match executable(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(RecordError::ProgramMissing { .. } | RecordError::ProgramIsDirectory { .. }) => {}
            // This user may not read the folder, so it is unknown whether the program is in it.
            Err(RecordError::Exec { source, .. })
                if source.kind() == io::ErrorKind::PermissionDenied => {}
            Err(error) => unusable = unusable.or(Some(error)),
        }
    }
    let (program, path) = (program.to_owned(), path.to_owned());
    Err(unusable.unwrap_or(RecordError::NotInPath { program, path }))
}

/// Returns `path`, relative to `directory`, as an absolute path, since the target changes its
/// directory before its exec.
fn absolute(directory: Option<&Path>, path: &Path) -> Result<PathBuf, RecordError> {
    let path = directory.unwrap_or(Path::new("")).join(path);
    std::path::absolute(&path).map_err(|source| RecordError::Exec { path, source })
}

/// Checks that `path` is a file that may be executed.
fn executable(path: &Path) -> Result<(), RecordError> {
    let owned = || path.to_owned();
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) => {
            return Err(match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
                    RecordError::ProgramMissing { path: owned() }
                }
                _ => RecordError::Exec { path: owned(), source: error },
            });
        }
    };
    if metadata.is_dir() {
        return Err(RecordError::ProgramIsDirectory { path: owned() });
    }
    let Ok(name) = CString::new(path.as_os_str().as_bytes()) else {
        return Err(RecordError::Unpassable { what: path.display().to_string() });
    };
    // SAFETY: `name` is a valid C string.
    let status =
        unsafe { libc::faccessat(libc::AT_FDCWD, name.as_ptr(), libc::X_OK, libc::AT_EACCESS) };
    if status == 0 { Ok(()) } else { Err(RecordError::NotExecutable { path: owned() }) }
}

/// Turns an error of `execve` on `path` into an error that explains it.
pub fn explain(path: &Path, errno: i32) -> RecordError {
    let path = path.to_owned();
    match errno {
        libc::ENOEXEC => RecordError::NotAProgram { path },
        libc::EACCES => RecordError::NotExecutable { path },
        libc::ENOENT => match interpreter(&path) {
            Some(interpreter) => RecordError::InterpreterMissing { path, interpreter },
            None => RecordError::ProgramMissing { path },
        },
        _ => RecordError::Exec { path, source: io::Error::from_raw_os_error(errno) },
    }
}

/// Returns the interpreter that a script's first line, or a binary's header, names.
pub fn interpreter(path: &Path) -> Option<String> {
    let mut head = Vec::new();
    fs::File::open(path).ok()?.take(4096).read_to_end(&mut head).ok()?;
    script_interpreter(&head).or_else(|| loader(&fs::read(path).ok()?))
}

/// Returns the interpreter after `#!`, without its argument.
pub fn script_interpreter(head: &[u8]) -> Option<String> {
    let line = head.strip_prefix(b"#!")?.split(|&byte| byte == b'\n').next()?;
    Some(String::from_utf8_lossy(line).split_whitespace().next()?.to_owned())
}

/// Returns the loader that an ELF file names; `None` if the file is static.
pub fn loader(data: &[u8]) -> Option<String> {
    match object::FileKind::parse(data).ok()? {
        object::FileKind::Elf64 => {
            let file: ElfFile64 = ElfFile64::parse(data).ok()?;
            interp_segment(file.elf_header(), file.endianness(), data)
        }
        object::FileKind::Elf32 => {
            let file: ElfFile32 = ElfFile32::parse(data).ok()?;
            interp_segment(file.elf_header(), file.endianness(), data)
        }
        _ => None,
    }
}

/// Returns whether an ELF file is a program that needs no loader. The loader of the GNU C library needs none itself, but loads
/// the program that its arguments name.
pub fn is_static(data: &[u8]) -> bool {
    loader(data).is_none() && !is_gnu_loader(data)
}

fn is_gnu_loader(data: &[u8]) -> bool {
    let Ok(file) = ElfFile64::<object::Endianness>::parse(data) else { return false };
    let Ok(table) = file.elf_dynamic_table() else { return false };
    let mut names = table.iter().filter(|entry| entry.tag == object::elf::DT_SONAME);
    names.any(|entry| table.string(entry).is_ok_and(|name| name.starts_with(b"ld-linux")))
}

fn interp_segment<H>(header: &H, endianness: object::Endianness, data: &[u8]) -> Option<String>
where
    H: FileHeader<Endian = object::Endianness>,
{
    let segments = header.program_headers(endianness, data).ok()?;
    let segment = segments.iter().find(|segment| segment.p_type(endianness) == PT_INTERP)?;
    let text = segment.data(endianness, data).ok()?;
    Some(String::from_utf8_lossy(text).trim_end_matches('\0').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interpreter_is_the_first_word_after_the_shebang() {
        let name = |text: &str| script_interpreter(text.as_bytes());
        assert_eq!(name("#!/bin/sh\n").as_deref(), Some("/bin/sh"));
        assert_eq!(name("#! /usr/bin/env -S python3\nx").as_deref(), Some("/usr/bin/env"));
        assert_eq!(name("#!\n"), None);
        assert_eq!(name("\u{7f}ELF"), None);
    }

    #[test]
    fn a_binary_names_its_loader() {
        let data = fs::read("/proc/self/exe").expect("this program");
        let loader = loader(&data).expect("tests are linked dynamically");
        assert!(Path::new(&loader).exists(), "{loader}");
        assert!(!is_static(&data));
        // The loader itself loads the library into the program that it starts.
        let data = fs::read(&loader).expect("it exists");
        assert_eq!((super::loader(&data), is_static(&data)), (None, false));
        assert!(is_static(b"\x7fELF, but not a program"));
    }
}
