//! Why no steps were seen of a function that was named.

use simprof_model::{Notice, NoticeId};
use simprof_record::supported::CPYTHON;

use super::Told;
use crate::spec::{StepFunction, nearest};

/// Names that are listed where none is near.
const LISTED: usize = 8;

/// What the text told in the processes that ended without a step.
#[derive(Debug, Default)]
struct Notes {
    found: bool,
    trouble: Option<String>,
    modules: Vec<String>,
    names: Vec<String>,
    loaded: Vec<String>,
}

/// Returns a notice that says why no call of the step function was recorded, and how to fix it.
pub fn uncalled_step(told: &Told, function: &StepFunction) -> Notice {
    let reason = if told.ran() { notes(told).reason(function) } else { not_python() };
    let text = format!("target.step: no call of `{function}` was recorded: {reason}.");
    Notice::new(NoticeId::StepFunctionNotCalled, text)
}

fn not_python() -> String {
    format!("the target ran no Python that simprof can follow ({CPYTHON}, linked dynamically)")
}

fn notes(told: &Told) -> Notes {
    let mut notes = Notes::default();
    for (_, content) in told.files("steps-") {
        for line in String::from_utf8_lossy(&content).lines() {
            notes.read(line);
        }
    }
    notes
}

impl Notes {
    fn read(&mut self, line: &str) {
        let Some((what, text)) = line.split_once(' ') else { return };
        let list = match what {
            "found" => return self.found = true,
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
            return "it is there but no Python code of it was called".into();
        }
        if let Some(module) = self.modules.first() {
            let near = suggest(&function.name, &self.names, "it has");
            return format!("module `{module}` has no `{}`{near}", function.name);
        }
        if self.loaded.is_empty() {
            return "no process that ran Python came to its own end, where it would have told why"
                .into();
        }
        let near = suggest(&function.module, &self.loaded, "imported were");
        format!("no module `{}` was imported{near}", function.module)
    }
}

/// The nearest name, or a few of those that there are.
fn suggest(name: &str, known: &[String], there_are: &str) -> String {
    let known: Vec<&str> =
        known.iter().map(String::as_str).filter(|name| !is_private(name)).collect();
    if let Some(near) = nearest(name, &known) {
        return format!("; did you mean `{near}`?");
    }
    match known.len() {
        0 => String::new(),
        1..=LISTED => format!("; {there_are} {}", known.join(", ")),
        more => {
            format!("; {there_are} {} and {} more", known[..LISTED].join(", "), more - LISTED)
        }
    }
}

fn is_private(name: &str) -> bool {
    name.starts_with('_') && name != "__main__"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(files: &[(&str, &str)], function: &str) -> String {
        let place = tempfile::tempdir().expect("a temporary folder");
        let told = Told::create(&place.path().join("log")).expect("a folder");
        for (name, content) in files {
            std::fs::write(told.0.join(name), content).expect("the file is written");
        }
        let (module, name) = function.split_once(':').expect("a function");
        uncalled_step(&told, &StepFunction { module: module.into(), name: name.into() }).text
    }

    #[test]
    fn what_is_wrong_is_named_with_what_was_meant() {
        let ran = ("ran", "");
        let has = ("steps-1", "module sim\nhas Model.step\nhas Model.run\n");
        for (files, function, words) in [
            (&[][..], "sim:step", "ran no Python"),
            (&[ran], "sim:step", "came to its own end"),
            (
                &[ran, has],
                "sim:Model.stop",
                "`sim` has no `Model.stop`; did you mean `Model.step`?",
            ),
            (&[ran, has], "sim:tick", "`sim` has no `tick`; it has Model.step, Model.run"),
            (&[ran, ("steps-7", "found step\n")], "sim:step", "it is there"),
            (&[ran, ("steps-7", "trouble nobody knows\n")], "sim:step", "recorded: nobody knows"),
            (
                &[ran, ("steps-7", "loaded sys\nloaded sim.model\n")],
                "sim.modle:step",
                "no module `sim.modle` was imported; did you mean `sim.model`?",
            ),
            (
                &[ran, ("steps-7", "loaded __main__\nloaded sim.model\n")],
                "nomod:step",
                "no module `nomod` was imported; imported were __main__, sim.model",
            ),
        ] {
            let said = said(files, function);
            assert!(said.contains(words) && said.contains(function), "{said}");
        }
    }
}
