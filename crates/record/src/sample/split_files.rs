//! Split debug information: the functions of a unit are in a `.dwo` file, or in a `.dwp` package of such files (DWARF 5, section
//! 7.3.2; before, an extension by GNU). The program itself has only the lines.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use addr2line::SplitDwarfLoad;
use gimli::{Dwarf, DwarfPackage, SectionId, Unit};

use super::debug_file;
use super::debug_storage::{Reader, Storage};

/// Finds the split debug information of one program.
pub(super) struct SplitFiles<'a> {
    storage: &'a Storage,
    /// The program's folder.
    folder: PathBuf,
    package: Option<DwarfPackage<Reader<'a>>>,
    /// Files that were needed but not found.
    missing: BTreeSet<String>,
}

impl<'a> SplitFiles<'a> {
    /// `paths` are those of the program and of its separate debug file. A package is beside one of them.
    pub fn new(storage: &'a Storage, paths: &[PathBuf]) -> Self {
        let folder = paths.first().and_then(|path| path.parent()).unwrap_or(Path::new("/"));
        let package = paths.iter().flat_map(|path| packages(path)).find_map(|path| {
            let file = storage.file(debug_file::open(&path)?)?;
            let section = |id: SectionId| Ok(storage.section(&file, id.dwo_name()));
            DwarfPackage::load::<_, gimli::Error>(section, storage.bytes(Vec::new())).ok()
        });
        Self { storage, folder: folder.to_owned(), package, missing: BTreeSet::new() }
    }

    /// Returns the debug information of a unit; `None` if it is missing.
    pub fn load(&mut self, unit: &SplitDwarfLoad<Reader<'a>>) -> Option<Arc<Dwarf<Reader<'a>>>> {
        let wanted = Wanted {
            id: unit.dwo_id,
            name: unit.path.map(path).unwrap_or_default(),
            directory: unit.comp_dir.map(path).unwrap_or_default(),
        };
        self.find(&wanted, &unit.parent).map(Arc::new)
    }

    /// Looks for the split information of every unit of a program, and returns the files that are missing.
    pub fn missing_of_all_units(mut self, dwarf: &Dwarf<Reader<'a>>) -> BTreeSet<String> {
        let mut headers = dwarf.units();
        while let Ok(Some(header)) = headers.next() {
            if let Some(wanted) = dwarf.unit(header).ok().and_then(|unit| wanted(dwarf, &unit)) {
                self.find(&wanted, dwarf);
            }
        }
        self.missing
    }

    /// Returns the files that were needed but not found.
    pub fn missing(&self) -> &BTreeSet<String> {
        &self.missing
    }

    fn find(&mut self, wanted: &Wanted, parent: &Dwarf<Reader<'a>>) -> Option<Dwarf<Reader<'a>>> {
        let packed =
            self.package.as_ref().and_then(|all| all.find_cu(wanted.id, parent).ok().flatten());
        let found = packed.or_else(|| {
            let candidates = wanted.candidates(&self.folder);
            candidates.iter().find_map(|path| self.open(path, wanted.id, parent))
        });
        if found.is_none() {
            self.missing.insert(wanted.name.display().to_string());
        }
        found
    }

    /// Opens a `.dwo` file. Returns `None` if it belongs to another version of the unit.
    fn open(
        &self,
        path: &Path,
        id: gimli::DwoId,
        parent: &Dwarf<Reader<'a>>,
    ) -> Option<Dwarf<Reader<'a>>> {
        let file = self.storage.file(debug_file::open(path)?)?;
        let mut dwarf = self.storage.dwarf(&file, SectionId::dwo_name);
        let header = dwarf.units().next().ok()??;
        (dwarf.unit(header).ok()?.dwo_id == Some(id)).then_some(())?;
        dwarf.make_dwo(parent);
        Some(dwarf)
    }
}

/// A `.dwo` file, as the program refers to it.
struct Wanted {
    id: gimli::DwoId,
    name: PathBuf,
    /// The folder in which the unit was compiled.
    directory: PathBuf,
}

impl Wanted {
    /// Returns where the file may be: where the compiler wrote it, or beside the program.
    fn candidates(&self, folder: &Path) -> Vec<PathBuf> {
        let beside = self.name.file_name().map(|name| folder.join(name));
        [Some(self.directory.join(&self.name)), Some(folder.join(&self.name)), beside]
            .into_iter()
            .flatten()
            .collect()
    }
}

/// Returns the file that a unit of the program refers to; `None` if its debug information is not split.
fn wanted<'a>(dwarf: &Dwarf<Reader<'a>>, unit: &Unit<Reader<'a>>) -> Option<Wanted> {
    let name = unit.dwo_name().ok()??;
    let name = path(dwarf.attr_string(unit, name).ok()?);
    let directory = unit.comp_dir.map(path).unwrap_or_default();
    Some(Wanted { id: unit.dwo_id?, name, directory })
}

/// Returns the names that the package of a program or debug file may have.
fn packages(path: &Path) -> Vec<PathBuf> {
    let named = |path: &Path| {
        let mut name = path.as_os_str().to_owned();
        name.push(".dwp");
        PathBuf::from(name)
    };
    let mut found = vec![named(path)];
    // `program.debug` may be accompanied by `program.dwp`.
    if path.extension() == Some(OsStr::new("debug")) {
        found.push(path.with_extension("dwp"));
    }
    found.extend(path.canonicalize().ok().filter(|real| real != path).map(|real| named(&real)));
    found
}

fn path(text: Reader<'_>) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(text.slice()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_is_looked_for_where_it_was_compiled_and_beside_the_program() {
        let table = [
            ("a.dwo", "/build", ["/build/a.dwo", "/bin/a.dwo", "/bin/a.dwo"]),
            ("o/a.dwo", "/build", ["/build/o/a.dwo", "/bin/o/a.dwo", "/bin/a.dwo"]),
            ("/tmp/a.dwo", "/build", ["/tmp/a.dwo", "/tmp/a.dwo", "/bin/a.dwo"]),
        ];
        for (name, directory, expected) in table {
            let (name, directory) = (name.into(), directory.into());
            let wanted = Wanted { id: gimli::DwoId(1), name, directory };
            assert_eq!(wanted.candidates(Path::new("/bin")), expected.map(PathBuf::from));
        }
    }

    #[test]
    fn a_package_is_named_after_the_program() {
        let table = [
            ("/no/sim", &["/no/sim.dwp"][..]),
            ("/no/libsim.so", &["/no/libsim.so.dwp"]),
            ("/no/sim.debug", &["/no/sim.debug.dwp", "/no/sim.dwp"]),
        ];
        for (path, expected) in table {
            let expected: Vec<_> = expected.iter().map(PathBuf::from).collect();
            assert_eq!(packages(Path::new(path)), expected);
        }
    }
}
