//! The preload library and the shared memory that the target is started with to record its allocations.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use simprof_preload::heap::format::VARIABLE;

use super::HeapSampling;
use super::heap_memory::HeapMemory;
use crate::Preload;
use crate::preload::{self, HEAP, Library, path_of, preload_variable};

/// The library and the memory for one run of a target.
#[derive(Debug)]
pub struct HeapInjection {
    pub memory: HeapMemory,
    /// The memory of Python stacks, and the Python library, which is loaded only for a script.
    pub python: preload::Injection,
    has_script: bool,
    library: Library,
    /// Working directory of the target. File names in Python frames are relative to it.
    pub directory: PathBuf,
}

impl HeapInjection {
    /// Creates the memory and the library file.
    pub fn create(
        sampling: HeapSampling,
        script: Option<String>,
        directory: Option<&Path>,
    ) -> io::Result<Self> {
        let has_script = script.is_some();
        let preload = Preload { script, ..Preload::default() };
        let python = preload::Injection::create(&preload, directory)?;
        let directory = directory.unwrap_or(Path::new("."));
        Ok(Self {
            memory: HeapMemory::create(sampling.interval_bytes.max(1), sampling.seed, false)?,
            python,
            has_script,
            library: Library::create(&HEAP)?,
            directory: std::path::absolute(directory)?,
        })
    }

    /// Returns the environment variables that make a target load the library. `given` are the target's other variables.
    pub fn environment(&self, given: &BTreeMap<String, String>) -> [(String, String); 3] {
        let [python_libraries, python_memory] = self.python.environment(given);
        let (name, mut libraries) = preload_variable(&self.library, given);
        if self.has_script {
            libraries = format!("{}:{}", self.library.path(), python_libraries.1);
        }
        [(name, libraries), (variable(), path_of(self.memory.fd())), python_memory]
    }
}

/// Returns the name of the variable by which the library finds its memory.
pub fn variable() -> String {
    VARIABLE.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_library_can_be_read_by_its_path() {
        let injection = HeapInjection::create(HeapSampling::default(), None, None).expect("memory");
        let given = BTreeMap::from([("LD_PRELOAD".to_owned(), "/a.so".to_owned())]);
        let [load, heap, python] = injection.environment(&given);
        let (path, rest) = load.1.split_once(':').expect("the given library is kept");
        assert_eq!(std::fs::read(path).expect("readable"), simprof_preload::HEAP_LIBRARY);
        assert_eq!(
            (rest, heap.0.as_str(), python.0.as_str()),
            ("/a.so", "SIMPROF_HEAP", "SIMPROF_PRELOAD")
        );
    }
}
