//! Finds the separate file with the debug information of a stripped program.
//!
//! Two conventions are supported (GDB manual, "Separate Debug Files"): the build id, under `/usr/lib/debug/.build-id`, and the
//! name and checksum in the program's `.gnu_debuglink` section.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use object::read::elf::ElfFile64;
use object::{Endianness, Object};

use super::module::SharedBytes;

/// Where distributions install debug files.
const GLOBAL: &str = "/usr/lib/debug";

/// Returns the bytes of the debug file of `file`, which was loaded from `path`; `None` if none is installed.
pub(super) fn find(file: &ElfFile64<'_, Endianness>, path: &Path) -> Option<SharedBytes> {
    by_build_id(file).or_else(|| by_link(file, path))
}

fn by_build_id(file: &ElfFile64<'_, Endianness>) -> Option<SharedBytes> {
    let id = file.build_id().ok()??;
    let bytes = open(&build_id_path(id)?)?;
    has_build_id(&bytes, id).then_some(bytes)
}

/// Returns a path such as `/usr/lib/debug/.build-id/ab/cdef….debug`.
fn build_id_path(id: &[u8]) -> Option<PathBuf> {
    let (first, rest) = id.split_first()?;
    let name = format!("{first:02x}/{}.debug", hexadecimal(rest));
    Some(Path::new(GLOBAL).join(".build-id").join(name))
}

fn by_link(file: &ElfFile64<'_, Endianness>, path: &Path) -> Option<SharedBytes> {
    let (name, checksum) = file.gnu_debuglink().ok()??;
    let name = Path::new(OsStr::from_bytes(name)).file_name()?;
    let directory = path.parent()?;
    let below_global = Path::new(GLOBAL).join(directory.strip_prefix("/").unwrap_or(directory));
    let candidates =
        [directory.join(name), directory.join(".debug").join(name), below_global.join(name)];
    candidates.iter().filter(|candidate| *candidate != path).find_map(|candidate| {
        let bytes = open(candidate)?;
        (crc32fast::hash(&bytes) == checksum).then_some(bytes)
    })
}

/// Returns the supplementary file (`.gnu_debugaltlink`), in which several debug files share their common parts.
pub(super) fn find_supplementary(
    debug: &ElfFile64<'_, Endianness>,
    path: &Path,
) -> Option<SharedBytes> {
    let (name, id) = debug.gnu_debugaltlink().ok()??;
    let name = Path::new(OsStr::from_bytes(name));
    let beside = path.parent().unwrap_or(Path::new("/")).join(name);
    let candidates = [Some(beside), build_id_path(id)];
    candidates.into_iter().flatten().find_map(|candidate| {
        let bytes = open(&candidate)?;
        has_build_id(&bytes, id).then_some(bytes)
    })
}

fn open(path: &Path) -> Option<SharedBytes> {
    let file = File::open(path).ok()?;
    file.metadata().ok()?.is_file().then_some(())?;
    SharedBytes::map(&file).ok()
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
}
