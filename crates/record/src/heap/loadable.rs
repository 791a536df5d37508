//! What the target is given: the library, the memory that it tells by, and that of its Python stacks.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use simprof_preload::heap::format::VARIABLE;

use super::HeapSampling;
use super::memory::Memory;
use crate::Preload;
use crate::preload::{self, HEAP, Library, loads, path_of};

/// Open for the time of one run.
#[derive(Debug)]
pub struct Loadable {
    pub memory: Memory,
    /// Python's: its memory, and its library where a Python text is to be run in the target.
    pub python: preload::Loadable,
    has_script: bool,
    library: Library,
    /// Working directory of the target: files that it names are relative to it.
    pub directory: PathBuf,
}

impl Loadable {
    /// Makes everything for one target.
    pub fn create(
        sampling: HeapSampling,
        script: Option<String>,
        directory: Option<&Path>,
    ) -> io::Result<Self> {
        let has_script = script.is_some();
        let preload = Preload { script, ..Preload::default() };
        let python = preload::Loadable::create(&preload, directory)?;
        let directory = directory.unwrap_or(Path::new("."));
        Ok(Self {
            memory: Memory::create(sampling.interval_bytes.max(1), sampling.seed, false)?,
            python,
            has_script,
            library: Library::create(&HEAP)?,
            directory: std::path::absolute(directory)?,
        })
    }

    /// The variables that make a target load the library, given those that it would have without.
    pub fn environment(&self, given: &BTreeMap<String, String>) -> [(String, String); 3] {
        let [loads_python, python] = self.python.environment(given);
        let (name, mut before) = loads(&self.library, given);
        if self.has_script {
            before = format!("{}:{}", self.library.path(), loads_python.1);
        }
        [(name, before), (variable(), path_of(self.memory.fd())), python]
    }
}

/// Name of the variable by which the library finds its memory.
pub fn variable() -> String {
    VARIABLE.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_library_can_be_read_by_its_path() {
        let loadable = Loadable::create(HeapSampling::default(), None, None).expect("memory");
        let given = BTreeMap::from([("LD_PRELOAD".to_owned(), "/a.so".to_owned())]);
        let [load, heap, python] = loadable.environment(&given);
        let (path, rest) = load.1.split_once(':').expect("what was there stays");
        assert_eq!(std::fs::read(path).expect("readable"), simprof_preload::HEAP_LIBRARY);
        assert_eq!(
            (rest, heap.0.as_str(), python.0.as_str()),
            ("/a.so", "SIMPROF_HEAP", "SIMPROF_PRELOAD")
        );
    }
}
