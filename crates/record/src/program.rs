//! Which file a command names, and why it cannot be run.

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

/// Used where the target's environment has no PATH, as the C library does.
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// The absolute path of the file that `program` names. A name with a slash is relative to `directory` (as after `cd`),
/// one without is looked up in the PATH that the target will have.
///
/// # Errors
/// Where there is no such file, or it may not be executed.
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

/// The first executable file of that name in the folders of `path`; a file that is there but
/// cannot be run explains a failure better than "not found".
fn search(program: &str, path: &str, directory: Option<&Path>) -> Result<PathBuf, RecordError> {
    let mut refusal = None;
    for folder in path.split(':') {
        let folder = if folder.is_empty() { "." } else { folder };
        let candidate = absolute(directory, &Path::new(folder).join(program))?;
        match executable(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(RecordError::ProgramMissing { .. } | RecordError::ProgramIsDirectory { .. }) => {}
            // A folder that this user may not look into says nothing of the program.
            Err(RecordError::Exec { source, .. })
                if source.kind() == io::ErrorKind::PermissionDenied => {}
            Err(error) => refusal = refusal.or(Some(error)),
        }
    }
    let (program, path) = (program.to_owned(), path.to_owned());
    Err(refusal.unwrap_or(RecordError::NotInPath { program, path }))
}

/// The path that `path` is after a change to `directory`; absolute, since the target changes to it
/// before its exec.
fn absolute(directory: Option<&Path>, path: &Path) -> Result<PathBuf, RecordError> {
    let path = directory.unwrap_or(Path::new("")).join(path);
    std::path::absolute(&path).map_err(|source| RecordError::Exec { path, source })
}

/// Whether `path` is a file that may be executed.
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
    // SAFETY: `name` is a C string.
    let status =
        unsafe { libc::faccessat(libc::AT_FDCWD, name.as_ptr(), libc::X_OK, libc::AT_EACCESS) };
    if status == 0 { Ok(()) } else { Err(RecordError::NotExecutable { path: owned() }) }
}

/// What an error of `execve` on `path` means.
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

/// The interpreter that a script's first line, or a binary's header, names.
pub fn interpreter(path: &Path) -> Option<String> {
    let mut head = Vec::new();
    fs::File::open(path).ok()?.take(4096).read_to_end(&mut head).ok()?;
    script_interpreter(&head).or_else(|| loader(&fs::read(path).ok()?))
}

/// The interpreter after `#!`, without its argument.
pub fn script_interpreter(head: &[u8]) -> Option<String> {
    let line = head.strip_prefix(b"#!")?.split(|&byte| byte == b'\n').next()?;
    Some(String::from_utf8_lossy(line).split_whitespace().next()?.to_owned())
}

/// The loader that an ELF file asks for; none where it is static.
pub fn loader(data: &[u8]) -> Option<String> {
    match object::FileKind::parse(data).ok()? {
        object::FileKind::Elf64 => {
            let file: ElfFile64 = ElfFile64::parse(data).ok()?;
            loader_of(file.elf_header(), file.endianness(), data)
        }
        object::FileKind::Elf32 => {
            let file: ElfFile32 = ElfFile32::parse(data).ok()?;
            loader_of(file.elf_header(), file.endianness(), data)
        }
        _ => None,
    }
}

fn loader_of<H>(header: &H, endianness: object::Endianness, data: &[u8]) -> Option<String>
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
    fn an_interpreter_is_the_first_word_after_the_mark() {
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
    }
}
