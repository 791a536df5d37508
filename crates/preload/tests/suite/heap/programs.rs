//! The programs of these tests.

use std::path::{Path, PathBuf};

use simprof_testkit::program;

/// Returns the path of `tests/programs/heap/NAME`.
pub fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs/heap").join(name)
}

/// Compiles `tests/programs/heap/NAME`. The executable is named as the source without its extension.
pub fn compiled(name: &str, options: &[&str]) -> PathBuf {
    let (stem, _) = name.rsplit_once('.').expect("the name has an extension");
    program::compile(&source(name), stem, options)
}
