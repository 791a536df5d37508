//! Finds the separate files with the debug information of a stripped program.
//!
//! Two conventions are supported (GDB manual, "Separate Debug Files"): the build id, under `/usr/lib/debug/.build-id`, and the
//! name and checksum in the program's `.gnu_debuglink` section.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use object::read::elf::ElfFile64;
use object::{Endianness, Object, ObjectSection};

use super::module::SharedBytes;

/// Where distributions install debug files.
const GLOBAL: &str = "/usr/lib/debug";

/// A debug file.
#[derive(Debug)]
pub(super) struct DebugFile {
    pub path: PathBuf,
    pub bytes: SharedBytes,
}

/// Returns the debug file of `file`, which was loaded from `path`; `None` if none is installed.
pub(super) fn find(file: &ElfFile64<'_, Endianness>, path: &Path) -> Option<DebugFile> {
    by_build_id(file).or_else(|| by_link(file, path))
}

fn by_build_id(file: &ElfFile64<'_, Endianness>) -> Option<DebugFile> {
    let id = file.build_id().ok()??;
    let path = build_id_path(id)?;
    let bytes = open(&path)?;
    has_build_id(&bytes, id).then_some(DebugFile { path, bytes })
}

/// Returns a path such as `/usr/lib/debug/.build-id/ab/cdef….debug`.
fn build_id_path(id: &[u8]) -> Option<PathBuf> {
    let (first, rest) = id.split_first()?;
    let name = format!("{first:02x}/{}.debug", hexadecimal(rest));
    Some(Path::new(GLOBAL).join(".build-id").join(name))
}

fn by_link(file: &ElfFile64<'_, Endianness>, path: &Path) -> Option<DebugFile> {
    let (name, checksum) = file.gnu_debuglink().ok()??;
    let name = Path::new(OsStr::from_bytes(name)).file_name()?;
    let directory = path.parent()?;
    let candidates = [
        directory.join(name),
        directory.join(".debug").join(name),
        below_global(&directory.join(name)),
    ];
    candidates.into_iter().filter(|candidate| candidate != path).find_map(|path| {
        let bytes = open(&path)?;
        (crc32fast::hash(&bytes) == checksum).then_some(DebugFile { path, bytes })
    })
}

/// A reference to a supplementary file, in which several debug files share their common parts.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Supplementary {
    /// Path of the file, relative to the file that refers to it.
    pub name: PathBuf,
    id: Vec<u8>,
}

impl Supplementary {
    /// Returns the reference in a debug file: `.gnu_debugaltlink`, or `.debug_sup` of DWARF 5.
    pub fn of(debug: &ElfFile64<'_, Endianness>) -> Option<Self> {
        if let Ok(Some((name, id))) = debug.gnu_debugaltlink() {
            return Some(Self { name: OsStr::from_bytes(name).into(), id: id.to_vec() });
        }
        let section = debug.section_by_name(".debug_sup")?.uncompressed_data().ok()?;
        Self::parse(&section)
    }

    /// Parses `.debug_sup` (DWARF 5, section 7.3.6): version, whether the file itself is supplementary, name, id.
    fn parse(section: &[u8]) -> Option<Self> {
        let [_, _, 0, rest @ ..] = section else { return None };
        let end = rest.iter().position(|&byte| byte == 0)?;
        let (name, rest) = (&rest[..end], &rest[end + 1..]);
        let (&length, id) = rest.split_first()?;
        let id = id.get(..usize::from(length))?.to_vec();
        Some(Self { name: OsStr::from_bytes(name).into(), id })
    }

    /// Returns the bytes of the file that `referrer` refers to; `None` if it is not installed.
    pub fn open(&self, referrer: &Path) -> Option<SharedBytes> {
        let real = referrer.canonicalize().unwrap_or_else(|_| referrer.to_owned());
        let beside = |path: &Path| path.parent().unwrap_or(Path::new("/")).join(&self.name);
        let candidates = [
            Some(beside(referrer)),
            Some(beside(&real)),
            Some(below_global(&beside(&real))),
            self.name.file_name().map(|name| Path::new(GLOBAL).join(".dwz").join(name)),
            build_id_path(&self.id),
        ];
        candidates.into_iter().flatten().find_map(|path| {
            let bytes = open(&path)?;
            has_id(&bytes, &self.id).then_some(bytes)
        })
    }
}

/// Returns the path at which distributions install the debug file of a path.
fn below_global(path: &Path) -> PathBuf {
    Path::new(GLOBAL).join(path.strip_prefix("/").unwrap_or(path))
}

/// Maps a file; `None` if it is not a regular file that can be read.
pub(super) fn open(path: &Path) -> Option<SharedBytes> {
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path).ok()?;
    file.metadata().ok()?.is_file().then_some(())?;
    SharedBytes::map(&file).ok()
}

/// Returns whether a supplementary file has this id: its build id, or the one in its own `.debug_sup`.
fn has_id(bytes: &[u8], id: &[u8]) -> bool {
    has_build_id(bytes, id) || {
        let file = ElfFile64::<Endianness>::parse(bytes).ok();
        let section = file.as_ref().and_then(|file| file.section_by_name(".debug_sup"));
        let data = section.and_then(|section| section.data().ok());
        data.is_some_and(|data| !id.is_empty() && data.ends_with(id))
    }
}

fn has_build_id(bytes: &[u8], id: &[u8]) -> bool {
    ElfFile64::<Endianness>::parse(bytes)
        .ok()
        .and_then(|file| file.build_id().ok().flatten().map(|found| found == id))
        .unwrap_or(false)
}

/// Formats bytes in lower-case hexadecimal.
pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_follows_from_the_build_id() {
        let path = build_id_path(&[0xab, 0x0c, 0xde]).expect("not empty");
        assert_eq!(path, Path::new("/usr/lib/debug/.build-id/ab/0cde.debug"));
        assert_eq!(build_id_path(&[]), None);
    }

    #[test]
    fn a_supplementary_file_is_named_with_its_id() {
        let named = |name: &str, id: &[u8]| Supplementary { name: name.into(), id: id.to_vec() };
        let table: [(&[u8], Option<Supplementary>); 5] = [
            (b"\x05\0\0../a.sup\0\x03\x01\x02\x03", Some(named("../a.sup", &[1, 2, 3]))),
            // The file is itself supplementary.
            (b"\x05\0\x01\0\x03\x01\x02\x03", None),
            (b"\x05\0\0a.sup\0\x03\x01", None),
            (b"\x05\0\0a.sup", None),
            (b"", None),
        ];
        for (section, expected) in table {
            assert_eq!(Supplementary::parse(section), expected, "{section:?}");
        }
    }
}
