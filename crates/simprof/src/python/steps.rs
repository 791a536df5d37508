//! Explains why no calls of a step function were seen.

use simprof_model::{Notice, NoticeId};
use simprof_record::supported::CPYTHON;

use super::ScriptFolder;
use crate::spec::StepFunction;
use crate::text::nearest;

/// Maximum number of names that are listed if none is similar.
const MAX_LISTED: usize = 8;

/// The notes of processes that ended without a step.
#[derive(Debug, Default)]
struct Notes {
    found: bool,
    /// Whether the function was called once, and steps last from one call to the next.
    once: bool,
    trouble: Option<String>,
    modules: Vec<String>,
    names: Vec<String>,
    loaded: Vec<String>,
}

/// Returns a notice with the reason why no call of the step function was recorded, and the fix.
pub fn uncalled_step(folder: &ScriptFolder, function: &StepFunction) -> Notice {
    let notes = notes(folder);
    if notes.once {
        let text = format!(
            "target.step: there are no steps, because `{function}` was called only once in a process and a step lasts from one \
             call to the next."
        );
        return Notice::new(NoticeId::StepSeenOnce, text);
    }
    let reason = if folder.ran() { notes.reason(function) } else { not_python() };
    let text = format!("target.step: no call of `{function}` was recorded: {reason}.");
    Notice::new(NoticeId::StepFunctionNotCalled, text)
}

fn not_python() -> String {
    format!(
        "the target ran no Python that simprof supports ({CPYTHON}, linked dynamically). The functions of other languages cannot be \
         steps: mark the steps with simprof-probe or simprof_probe.h, or recognise them in the output: \
         step = {{ output = \"^step (\\\\d+)\" }}"
    )
}

fn notes(folder: &ScriptFolder) -> Notes {
    let mut notes = Notes::default();
    for (_, content) in folder.files("steps-") {
        for line in String::from_utf8_lossy(&content).lines() {
            notes.read(line);
        }
    }
    notes
}

impl Notes {
    fn read(&mut self, line: &str) {
        let (kind, text) = line.split_once(' ').unwrap_or((line, ""));
        let list = match kind {
            "found" => return self.found = true,
            "once" => return self.once = true,
            "trouble" => return self.trouble = Some(text.to_owned()),
            "module" => &mut self.modules,
            "has" => &mut self.names,
            "loaded" => &mut self.loaded,
            _ => return,
        };
        if !list.iter().any(|known| known == text) {
            list.push(text.to_owned());
        }
    }

    fn reason(&self, function: &StepFunction) -> String {
        if let Some(trouble) = &self.trouble {
            return trouble.clone();
        }
        if self.found {
            return "the function exists, but its Python code was not called".into();
        }
        if let Some(module) = self.modules.first() {
            let suggestion = suggest(&function.name, &self.names, "it has");
            return format!("module `{module}` has no `{}`{suggestion}", function.name);
        }
        if self.loaded.is_empty() {
            return "the reason is unknown, because no process that ran Python exited normally"
                .into();
        }
        let suggestion = suggest(&function.module, &self.loaded, "imported modules are");
        format!("no module `{}` was imported{suggestion}", function.module)
    }
}

/// Suggests the most similar name, or lists some of the existing ones.
fn suggest(name: &str, known: &[String], introduction: &str) -> String {
    let known: Vec<&str> =
        known.iter().map(String::as_str).filter(|name| !is_private(name)).collect();
    if let Some(similar) = nearest(name, &known) {
        return format!("; did you mean `{similar}`?");
    }
    match known.len() {
        0 => String::new(),
        1..=MAX_LISTED => format!("; {introduction} {}", known.join(", ")),
        more => {
            format!(
                "; {introduction} {} and {} more",
                known[..MAX_LISTED].join(", "),
                more - MAX_LISTED
            )
        }
    }
}

fn is_private(name: &str) -> bool {
    name.starts_with('_') && name != "__main__"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::StepSpan;

    fn notice(files: &[(&str, &str)], function: &str) -> Notice {
        let directory = tempfile::tempdir().expect("a temporary folder");
        let folder = ScriptFolder::create(&directory.path().join("log")).expect("a folder");
        for (name, content) in files {
            std::fs::write(folder.0.join(name), content).expect("the file is written");
        }
        let (module, name) = function.split_once(':').expect("a function");
        let span = StepSpan::Begins;
        uncalled_step(&folder, &StepFunction { module: module.into(), name: name.into(), span })
    }

    #[test]
    fn one_call_makes_no_step() {
        let files = [("ran", ""), ("steps-1", "once\n"), ("steps-2", "module sim\nhas step\n")];
        assert_eq!(notice(&files, "sim:step").id, NoticeId::StepSeenOnce);
        assert_eq!(notice(&files[2..], "sim:step").id, NoticeId::StepFunctionNotCalled);
    }

    #[test]
    fn the_explanation_names_the_problem_and_a_similar_name() {
        let ran = ("ran", "");
        let has = ("steps-1", "module sim\nhas Model.step\nhas Model.run\n");
        for (files, function, words) in [
            (&[][..], "sim:step", "ran no Python"),
            (&[ran], "sim:step", "exited normally"),
            (
                &[ran, has],
                "sim:Model.stop",
                "`sim` has no `Model.stop`; did you mean `Model.step`?",
            ),
            (&[ran, has], "sim:tick", "`sim` has no `tick`; it has Model.step, Model.run"),
            (&[ran, ("steps-7", "found step\n")], "sim:step", "the function exists"),
            (&[ran, ("steps-7", "trouble nobody knows\n")], "sim:step", "recorded: nobody knows"),
            (
                &[ran, ("steps-7", "loaded sys\nloaded sim.model\n")],
                "sim.modle:step",
                "no module `sim.modle` was imported; did you mean `sim.model`?",
            ),
            (
                &[ran, ("steps-7", "loaded __main__\nloaded sim.model\n")],
                "nomod:step",
                "no module `nomod` was imported; imported modules are __main__, sim.model",
            ),
        ] {
            let text = notice(files, function).text;
            assert!(text.contains(words) && text.contains(function), "{text}");
        }
    }
}
