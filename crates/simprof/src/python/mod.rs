//! Python texts that run in the target before its own program, and what they tell.
//!
//! The recorder has them run; how is described in the crate `simprof-preload`. Each text is made of files of the folder
//! `python` of this crate, after assignments of what it must know. What it has to tell it writes to a folder.

mod calls;
mod steps;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::runner::with_ending;
use crate::spec::StepFunction;

pub use calls::{Counted, counted};
pub use steps::uncalled_step;

const FOLDER: &str = include_str!("../../python/folder.py");
const STEPS: &str = include_str!("../../python/steps.py");
const CALLS: &str = include_str!("../../python/calls.py");

/// The folder that a text writes to; it is removed with the value.
#[derive(Debug)]
pub struct Told(PathBuf);

impl Told {
    /// Makes the folder, empty, beside a process's log.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub fn create(log: &Path) -> io::Result<Self> {
        let path = std::path::absolute(with_ending(log, "python"))?;
        remove(&path);
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    /// Whether a process ran Python, and the text with it.
    pub fn ran(&self) -> bool {
        self.0.join("ran").exists()
    }

    /// The text that marks the calls of a function as steps.
    pub fn steps_script(&self, function: &StepFunction) -> String {
        let StepFunction { module, name } = function;
        let known = [("MODULE", module.as_str()), ("NAME", name.as_str())];
        self.script(&known, STEPS)
    }

    /// The text that counts all calls.
    pub fn calls_script(&self) -> String {
        self.script(&[], CALLS)
    }

    fn script(&self, known: &[(&str, &str)], text: &str) -> String {
        let folder = self.0.to_string_lossy();
        let known = [("FOLDER", &*folder)].into_iter().chain(known.iter().copied());
        let known = known.map(|(name, value)| format!("{name} = {}\n", literal(value)));
        format!("{}{FOLDER}\n\n{text}", known.collect::<String>())
    }

    /// The files whose names begin with `prefix`, by name: name and content.
    fn files(&self, prefix: &str) -> Vec<(String, Vec<u8>)> {
        let entries = fs::read_dir(&self.0).into_iter().flatten().flatten();
        let mut files: Vec<(String, Vec<u8>)> = entries
            .filter_map(|entry| {
                let name = entry.file_name().into_string().ok()?;
                name.starts_with(prefix).then(|| Some((name, fs::read(entry.path()).ok()?)))?
            })
            .collect();
        files.sort_by(|a, b| a.0.cmp(&b.0));
        files
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        remove(&self.0);
    }
}

/// What cannot be removed costs room, not correctness: it is not read again.
fn remove(path: &Path) {
    let _ = fs::remove_dir_all(path);
}

/// A Python literal: JSON's texts are Python's too.
fn literal(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_know_what_they_must_and_leave_nothing() {
        let place = tempfile::tempdir().expect("a temporary folder");
        let told = Told::create(&place.path().join("a \"log\"")).expect("a folder");
        let function = StepFunction { module: "sim".into(), name: "Model.step".into() };
        let text = told.steps_script(&function);
        let folder = place.path().join("a \"log\".python");
        let first = format!("FOLDER = {}", literal(&folder.to_string_lossy()));
        assert_eq!(text.lines().next(), Some(first.as_str()));
        assert!(text.contains("\nMODULE = \"sim\"\nNAME = \"Model.step\"\n"));
        assert!(text.len() < 64 << 10 && told.calls_script().len() < 64 << 10);
        assert!(!told.ran());
        drop(told);
        assert!(!folder.exists());
    }
}
