//! Python scripts that run in the target before its own program, and the files that they write.
//!
//! The preload library runs them, see the crate `simprof-preload`. A script consists of assignments
//! of its inputs, followed by files of this crate's folder `python`. It writes its results to a
//! folder.

mod calls;
mod steps;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::spec::{StepFunction, StepSpan};
use crate::text::append_extension;

pub use calls::{CallCounts, read_call_counts};
pub use steps::uncalled_step;

const WRITE: &str = include_str!("../../python/folder.py");
const DEFINITION: &str = include_str!("../../python/definition.py");
const STEPS: &str = include_str!("../../python/steps.py");
const CALLS: &str = include_str!("../../python/calls.py");

/// The folder that a script writes to. It is removed when the value is dropped.
#[derive(Debug)]
pub struct ScriptFolder(PathBuf);

impl ScriptFolder {
    /// Creates an empty folder beside the log of a process.
    ///
    /// # Errors
    /// Returns an error if it cannot be created.
    pub fn create(log: &Path) -> io::Result<Self> {
        let path = std::path::absolute(append_extension(log, "python"))?;
        remove(&path);
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    /// Returns true if a process ran Python, and with it the script.
    pub fn ran(&self) -> bool {
        self.0.join("ran").exists()
    }

    /// Returns the script that marks the steps that the calls of a function delimit.
    pub fn steps_script(&self, function: &StepFunction) -> String {
        let StepFunction { module, name, span } = function;
        let span = match span {
            StepSpan::Call => "call",
            StepSpan::Begins => "begin",
            StepSpan::Ends => "end",
        };
        let inputs = [("MODULE", module.as_str()), ("NAME", name.as_str()), ("SPAN", span)];
        self.script(&inputs, &format!("{DEFINITION}\n\n{STEPS}"))
    }

    /// Returns the script that counts all calls.
    pub fn calls_script(&self) -> String {
        self.script(&[], CALLS)
    }

    fn script(&self, inputs: &[(&str, &str)], body: &str) -> String {
        let folder = self.0.to_string_lossy();
        let inputs = [("FOLDER", &*folder)].into_iter().chain(inputs.iter().copied());
        let assignments = inputs.map(|(name, value)| format!("{name} = {}\n", literal(value)));
        format!("{}{WRITE}\n\n{body}", assignments.collect::<String>())
    }

    /// Returns name and content of the files whose names start with `prefix`, sorted by name.
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

impl Drop for ScriptFolder {
    fn drop(&mut self) {
        remove(&self.0);
    }
}

/// Removes a folder. One that cannot be removed only takes disk space: it is not read again.
fn remove(path: &Path) {
    let _ = fs::remove_dir_all(path);
}

/// Returns a Python literal. Every JSON string is also a Python string.
fn literal(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_get_their_inputs_and_the_folder_is_removed() {
        let directory = tempfile::tempdir().expect("a temporary folder");
        let scripts = ScriptFolder::create(&directory.path().join("a \"log\"")).expect("a folder");
        let function =
            StepFunction { module: "sim".into(), name: "Model.step".into(), span: StepSpan::Ends };
        let text = scripts.steps_script(&function);
        let folder = directory.path().join("a \"log\".python");
        let first = format!("FOLDER = {}", literal(&folder.to_string_lossy()));
        assert_eq!(text.lines().next(), Some(first.as_str()));
        assert!(text.contains("\nMODULE = \"sim\"\nNAME = \"Model.step\"\nSPAN = \"end\"\n"));
        assert!(text.len() < 64 << 10 && scripts.calls_script().len() < 64 << 10);
        assert!(!scripts.ran());
        drop(scripts);
        assert!(!folder.exists());
    }
}
