//! Derives the name of a Python module from the path of its file.

use std::path::{Component, Path};

/// Folders from which modules are imported: names begin below them.
const ROOTS: [&str; 2] = ["site-packages", "dist-packages"];
/// Endings of archives from which modules are imported. Archives that no longer exist are recognised by them.
const ARCHIVES: [&str; 5] = [".zip", ".egg", ".whl", ".pyz", ".pyzw"];

/// Returns the name of the module in a file, such as `sim.model` for `/home/u/sim/model.py` if `/home/u/sim` is a package.
///
/// The name of a script is the stem of its file. `is_package` returns whether a folder is a package.
pub fn for_file(file: &str, is_package: impl FnMut(&Path) -> bool) -> String {
    if let Some(inner) = file.strip_prefix('<').and_then(|rest| rest.strip_suffix('>')) {
        let frozen = inner.strip_prefix("frozen ");
        return frozen.map_or_else(|| file.to_owned(), str::to_owned);
    }
    let path = Path::new(file);
    let mut parts: Vec<String> = path
        .components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_string_lossy().into_owned()),
            _ => None,
        })
        .collect();
    let first = below_root(&parts).unwrap_or_else(|| first_package(path, parts.len(), is_package));
    if let Some(last) = parts.last_mut()
        && let Some(stem) = [".py", ".pyc", ".pyw"].iter().find_map(|end| last.strip_suffix(end))
    {
        *last = stem.to_owned();
    }
    let mut parts = parts.split_off(first);
    if parts.len() > 1 && parts.last().is_some_and(|last| last == "__init__") {
        parts.pop();
    }
    parts.join(".")
}

/// Returns the position of the first part below a folder or archive from which modules are imported.
fn below_root(parts: &[String]) -> Option<usize> {
    let folders = parts.len().checked_sub(1)?;
    (0..folders).rev().find(|&index| is_root(parts, index)).map(|index| index + 1)
}

fn is_root(parts: &[String], index: usize) -> bool {
    let part = &parts[index];
    let is_versioned = || {
        part.strip_prefix("python3.").is_some_and(|rest| {
            rest.trim_end_matches('t').bytes().all(|byte| byte.is_ascii_digit())
        })
    };
    let is_library = || index > 0 && parts[index - 1].starts_with("lib") && is_versioned();
    ROOTS.contains(&part.as_str()) || ARCHIVES.iter().any(|end| part.ends_with(end)) || is_library()
}

/// Returns the position of the outermost of the nested packages that contain the file.
fn first_package(path: &Path, count: usize, mut is_package: impl FnMut(&Path) -> bool) -> usize {
    let packages = path.ancestors().skip(1).take_while(|folder| is_package(folder)).count();
    count.saturating_sub(packages + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_import_statements() {
        let packages = ["/home/u/sim", "/home/u/sim/core", "/home/u/sim/__init__"];
        let is_package = |path: &Path| packages.iter().any(|package| Path::new(package) == path);
        let table = [
            ("/home/u/run.py", "run"),
            ("/home/u/tool", "tool"),
            ("/home/u/sim/model.py", "sim.model"),
            ("/home/u/sim/core/grid.py", "sim.core.grid"),
            ("/home/u/sim/core/__init__.py", "sim.core"),
            ("/home/u/sim/__main__.py", "sim.__main__"),
            ("/home/u/sim/gap/deep.py", "deep"),
            ("/usr/lib/python3.11/json/decoder.py", "json.decoder"),
            ("/usr/lib64/python3.13t/os.py", "os"),
            ("/v/lib/python3.11/site-packages/space/name/part.py", "space.name.part"),
            ("/usr/lib/python3/dist-packages/numpy/__init__.py", "numpy"),
            ("/v/lib/python311.zip/json/decoder.pyc", "json.decoder"),
            ("/home/python3.11/run.py", "run"),
            ("relative.py", "relative"),
            ("__init__.py", "__init__"),
            ("<string>", "<string>"),
            ("<frozen importlib._bootstrap>", "importlib._bootstrap"),
            ("", ""),
        ];
        for (file, expected) in table {
            assert_eq!(for_file(file, is_package), expected, "{file}");
        }
    }

    #[test]
    fn names_begin_below_archives() {
        let tool = Path::new("/w/tool");
        let in_tool = |path: &Path| path != tool && path.starts_with(tool);
        let table = [
            ("/w/two.pyz/pa/model.py", "pa.model"),
            ("/w/two.pyz/__main__.py", "__main__"),
            ("/w/tool/pa/__init__.py", "pa"),
            ("/w/tool/pa/model.py", "pa.model"),
            ("/w/tool/__main__.py", "__main__"),
            ("/w/tool/site-packages/pa/model.py", "pa.model"),
            ("/w/a-1.0-py3-none-any.whl/pa/model.py", "pa.model"),
            ("/w/a-1.0-py3.9.egg/pa/model.py", "pa.model"),
        ];
        for (file, expected) in table {
            assert_eq!(for_file(file, in_tool), expected, "{file}");
        }
    }
}
