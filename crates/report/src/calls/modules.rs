//! Names Python modules by their source files.

use std::collections::HashSet;

use simprof_model::{BUILT_IN_FILE, CallProfile};

/// The file that makes a folder a package.
const PACKAGE_FILE: &str = "/__init__.py";

/// Endings of archives from which Python imports modules, with the slash that follows.
const ARCHIVES: [&str; 5] = [".zip/", ".egg/", ".whl/", ".pyz/", ".pyzw/"];

/// Names modules by their files. A folder is a package if the profile has code of its `__init__.py`, or if `is_package`
/// returns true for it.
pub struct Modules<'a> {
    seen: HashSet<&'a str>,
    is_package: &'a dyn Fn(&str) -> bool,
}

impl<'a> Modules<'a> {
    /// Creates the names for the files of a profile. `is_package` returns whether a folder on this machine is a package;
    /// for profiles of other machines it must return false.
    pub fn new(profile: &'a CallProfile, is_package: &'a dyn Fn(&str) -> bool) -> Self {
        let files = profile.functions.iter().map(|function| profile.file(function));
        Self {
            seen: files.filter_map(|file| file.strip_suffix(PACKAGE_FILE)).collect(),
            is_package,
        }
    }

    /// Returns the module of a file:
    ///
    /// - `sim.model` for `/home/me/sim/model.py`, if `sim` is a package,
    /// - `numpy.linalg` for `.../site-packages/numpy/linalg/__init__.py`,
    /// - `json.decoder` for a file of the standard library,
    /// - `posixpath` for `<frozen posixpath>`,
    /// - other names in angle brackets, and `~`, unchanged.
    pub fn name(&self, file: &str) -> String {
        if let Some(frozen) = file.strip_prefix("<frozen ").and_then(|rest| rest.strip_suffix('>'))
        {
            return frozen.to_owned();
        }
        if file == BUILT_IN_FILE || file.starts_with('<') {
            return file.to_owned();
        }
        let file = &slashes(file);
        let path = library_path(file).unwrap_or_else(|| &file[self.root(file)..]);
        dotted(path)
    }

    /// Returns where the module name begins in the path of its file: after the innermost folder that is not a package. A
    /// relative path starts in the folder in which Python was started, so the name begins at the first folder of the path.
    fn root(&self, file: &str) -> usize {
        if !file.starts_with('/') && !file.contains(':') {
            return file.find(|c| c != '.' && c != '/').unwrap_or(0);
        }
        let mut folders = file.rmatch_indices('/').map(|(at, _)| at);
        let is_package = |folder: &str| self.seen.contains(folder) || (self.is_package)(folder);
        folders.find(|&at| at == 0 || !is_package(&file[..at])).map_or(0, |at| at + 1)
    }
}

/// Whether code has no file because it was generated at run time, usually by a library: `<string>`,
/// `<attrs generated ...>`. Interactive input also has a name in angle brackets, but is the author's.
pub(super) fn is_generated(file: &str) -> bool {
    let is_interactive = ["<stdin>", "<ipython-input"].iter().any(|name| file.starts_with(name));
    file.starts_with('<') && !file.starts_with("<frozen ") && !is_interactive
}

/// Returns the path with slashes instead of backslashes if it is a Windows path.
pub(super) fn slashes(file: &str) -> String {
    let is_drive =
        matches!(file.as_bytes(), [letter, b':', b'\\', ..] if letter.is_ascii_alphabetic());
    if is_drive { file.replace('\\', "/") } else { file.to_owned() }
}

/// Returns the path below an archive, a folder of installed packages or of the standard library.
fn library_path(file: &str) -> Option<&str> {
    let archived = ARCHIVES.iter().filter_map(|end| file.rfind(end).map(|at| at + end.len())).max();
    if let Some(below) = archived {
        return Some(&file[below..]);
    }
    let packages = ["/site-packages/", "/dist-packages/"]
        .iter()
        .find_map(|folder| file.rfind(folder).map(|at| &file[at + folder.len()..]));
    packages.or_else(|| {
        let (_, rest) = file.rsplit_once("/lib/python")?;
        let (version, path) = rest.split_once('/')?;
        let is_version = version.starts_with(|c: char| c.is_ascii_digit());
        is_version.then(|| path.strip_prefix("lib-dynload/").unwrap_or(path))
    })
}

fn dotted(path: &str) -> String {
    let path = ["/__init__.py", ".py", ".pyc", ".pyx"]
        .iter()
        .find_map(|end| path.strip_suffix(end))
        .unwrap_or(path);
    path.replace('/', ".")
}

#[cfg(test)]
mod tests {
    use simprof_model::{CalledFunction, StringId};

    use super::*;

    fn profile(files: &[&str]) -> CallProfile {
        let function = |index: usize| CalledFunction {
            file: StringId(index as u32),
            line: 1,
            name: StringId(0),
            primitive_calls: 1,
            calls: 1,
            self_s: 0.0,
            cumulative_s: 0.0,
            callers: Vec::new(),
        };
        let strings = files.iter().map(|&file| file.to_owned()).collect();
        CallProfile { strings, functions: (0..files.len()).map(function).collect() }
    }

    #[test]
    fn files_are_named_as_python_imports_them() {
        let profile = profile(&["/w/sim/__init__.py", "/w/sim/agents/__init__.py"]);
        let on_disk = |folder: &str| folder == "/w/other";
        let modules = Modules::new(&profile, &on_disk);
        for (file, expected) in [
            ("/w/sim/model.py", "sim.model"),
            ("/w/sim/agents/base.py", "sim.agents.base"),
            ("/w/sim/agents/__init__.py", "sim.agents"),
            ("/w/other/a.py", "other.a"),
            ("/w/run.py", "run"),
            ("/w/sim/data/x.py", "x"),
            ("run.py", "run"),
            ("./sim/model.py", "sim.model"),
            ("/v/lib/python3.11/site-packages/numpy/linalg/__init__.py", "numpy.linalg"),
            ("/usr/lib/python3/dist-packages/yaml/loader.py", "yaml.loader"),
            ("/p/lib/python3.11/json/decoder.py", "json.decoder"),
            ("/p/lib/python2.7/json/__init__.py", "json"),
            ("/w/two.pyz/pa/model.py", "pa.model"),
            ("two.pyz/__main__.py", "__main__"),
            ("/w/a-1.0-py3-none-any.whl/sim/__init__.py", "sim"),
            ("/v/site-packages/a-1.0-py3.9.egg/sim/model.py", "sim.model"),
            ("C:\\v\\Lib\\site-packages\\mesa\\time.py", "mesa.time"),
            ("D:\\work\\run.py", "run"),
            ("<frozen importlib._bootstrap>", "importlib._bootstrap"),
            ("<string>", "<string>"),
            ("~", "~"),
            ("/", ""),
            ("", ""),
        ] {
            assert_eq!(modules.name(file), expected, "{file}");
        }
    }
}
