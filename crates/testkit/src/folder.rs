//! Temporary folders.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::run;

/// A temporary folder of one test. It is removed on drop. Its path is UTF-8.
#[derive(Debug)]
pub struct TestFolder(tempfile::TempDir);

impl Default for TestFolder {
    fn default() -> Self {
        Self::new()
    }
}

impl TestFolder {
    /// Makes an empty folder.
    pub fn new() -> Self {
        Self(tempfile::tempdir().expect("the temporary folder can be written"))
    }

    /// Returns the path of the folder itself.
    pub fn root(&self) -> &Path {
        self.0.path()
    }

    /// Returns the path of `name` in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Returns the path of `name` in the folder as text.
    pub fn text_path(&self, name: &str) -> String {
        self.path(name).into_os_string().into_string().expect("temporary paths are UTF-8")
    }

    /// Writes a file and the folders above it. Returns its path.
    pub fn write(&self, name: &str, content: &(impl AsRef<[u8]> + ?Sized)) -> String {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a file is in a folder"))
            .expect("the folder is made");
        fs::write(&path, content).expect("the file is written");
        self.text_path(name)
    }

    /// Reads a text file.
    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// Writes an executable file. Returns its path.
    ///
    /// Another process writes the file. If this process did, a child that another test forks at the same time could inherit the
    /// open file, and executing it would fail with "text file busy".
    pub fn write_script(&self, name: &str, content: &str) -> String {
        let draft = self.write(&format!("{name}.draft"), content);
        run(Command::new("install").args(["-m", "755", &draft]).arg(self.path(name)));
        self.text_path(name)
    }

    /// Copies a program into the folder. Another process does it, for the same reason as in [`TestFolder::write_script`].
    pub fn copy_program(&self, from: impl AsRef<Path>, name: &str) -> String {
        run(Command::new("cp").arg(from.as_ref()).arg(self.path(name)));
        self.text_path(name)
    }

    /// Compiles a C source text into the executable `name`. Returns its path. The source is kept as `NAME.c`.
    pub fn compile_c(&self, name: &str, source: &str, options: &[&str]) -> String {
        let file = self.write(&format!("{name}.c"), source);
        run(Command::new("cc").arg(file).arg("-o").arg(self.path(name)).args(options));
        self.text_path(name)
    }
}
