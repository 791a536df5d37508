//! Folded stacks: one line per stack, `root;caller;leaf weight`.

use std::collections::BTreeMap;
use std::io::{self, Write};

use simprof_model::{Function, FunctionKind, Profile, StackId};

use crate::analysis::{UNKNOWN, UNNAMED, by_stack};

/// Writes the stacks of a profile, sorted, each with its weight in the profile's unit.
pub(super) fn write(profile: &Profile, out: &mut dyn Write) -> io::Result<()> {
    for (stack, weight) in lines(profile) {
        writeln!(out, "{stack} {weight}")?;
    }
    Ok(())
}

/// Returns the stacks as text, with their weights. Stacks with the same text are merged.
pub(super) fn lines(profile: &Profile) -> BTreeMap<String, u64> {
    let names = names(profile);
    let mut lines = BTreeMap::new();
    for entry in by_stack(profile).into_iter().filter(|entry| entry.weight > 0) {
        *lines.entry(folded_stack(profile, &names, entry.stack)).or_default() += entry.weight;
    }
    lines
}

/// Returns the names of all functions, indexed as the profile's table. Python functions have their file appended, which
/// distinguishes them from native ones: `sim.model.Model.step (model.py)`.
pub(super) fn names(profile: &Profile) -> Vec<String> {
    let name = |function: &Function| {
        let name = profile.string(function.name);
        let file = function.file.map(|file| profile.string(file));
        match (function.kind, file.and_then(|file| file.rsplit('/').next())) {
            (FunctionKind::Python, Some(file)) => folded_name(&format!("{name} ({file})")),
            _ => folded_name(name),
        }
    };
    profile.functions.iter().map(name).collect()
}

fn folded_stack(profile: &Profile, names: &[String], stack: Option<StackId>) -> String {
    let mut frames: Vec<&str> = profile
        .frames_from_leaf(stack)
        .map(|frame| names[profile.frame(frame).function.index()].as_str())
        .collect();
    if frames.is_empty() {
        frames.push(UNKNOWN);
    }
    frames.reverse();
    frames.join(";")
}

/// Returns a name that is safe in a folded stack: `;` becomes `:`, control characters become spaces. The last
/// space is replaced by `_` if a number follows, because the number would be read as the weight.
pub(super) fn folded_name(name: &str) -> String {
    let plain: String = name
        .chars()
        .map(|character| match character {
            ';' => ':',
            '\u{fffe}' | '\u{ffff}' => ' ',
            character if character.is_control() || character.is_whitespace() => ' ',
            character => character,
        })
        .collect();
    let mut plain = plain.trim().to_owned();
    while let Some((at, _)) =
        plain.rmatch_indices(' ').next().filter(|&(at, _)| is_number(&plain[at + 1..]))
    {
        plain.replace_range(at..=at, "_");
    }
    match plain.strip_prefix("# ") {
        _ if plain.is_empty() => UNNAMED.to_owned(),
        // A line that begins with "# " is a comment.
        Some(rest) => format!("#_{rest}"),
        None => plain,
    }
}

fn is_number(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::profile;

    fn text(samples: &[(&str, u64)]) -> String {
        let mut out = Vec::new();
        write(&profile(samples), &mut out).expect("writing to memory cannot fail");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn stacks_run_from_the_root() {
        insta::assert_snapshot!(text(&[
            ("main@1 > sim::step@4 > +sim::grid::nearby@9", 30),
            ("main@1 > sim::step@5 > +sim::grid::nearby@9", 10),
            ("main@1 > sim::step@6 > k:page_fault", 5),
            ("main@1 > ?sim+0x40", 2),
            ("main@1 > f > f > f", 1),
            ("main@2", 0),
            ("", 3),
        ]));
    }

    #[test]
    fn python_functions_have_their_file_appended() {
        let found = text(&[("main > p:sim.model.Model.step%/w/sim/model.py > dot", 2)]);
        assert_eq!(found, "main;sim.model.Model.step (model.py);dot 2\n");
    }

    #[test]
    fn names_are_made_safe_for_folded_stacks() {
        for (name, expected) in [
            ("plain", "plain"),
            ("[u8; 4]", "[u8: 4]"),
            ("a\nb\tc\u{1}", "a b c"),
            ("", "[unnamed]"),
            (" \n", "[unnamed]"),
            ("f 12", "f_12"),
            ("f 12 7.5", "f 12_7.5"),
            ("# x", "#_x"),
            ("operator new", "operator new"),
        ] {
            assert_eq!(folded_name(name), expected);
        }
    }

    proptest! {
        #[test]
        fn weight_survives_the_round_trip(
            samples in prop::collection::vec(
                (prop::collection::vec("[a-c; \\n\\r0-9#\u{e9}]{0,5}", 0..6), 0_u64..1000), 0..30)
        ) {
            let mut sketch = crate::testing::Sketch::new();
            for (stack, weight) in &samples {
                sketch = sketch.stack(stack, *weight);
            }
            let profile = sketch.finish();
            let mut out = Vec::new();
            write(&profile, &mut out).expect("writing to memory cannot fail");
            let text = String::from_utf8(out).expect("text");
            let mut sum = 0;
            for line in text.lines() {
                let (stack, weight) = line.rsplit_once(' ').expect("a weight at the end");
                prop_assert!(stack.split(';').all(|frame| !frame.is_empty()));
                prop_assert!(stack.rsplit_once(' ').is_none_or(|(_, end)| end.parse::<f64>().is_err()));
                sum += weight.parse::<u64>().expect("a number");
            }
            prop_assert_eq!(sum, profile.total_weight());
            let depths: Vec<usize> = text.lines().map(|line| line.split(';').count()).collect();
            let deepest = samples.iter().filter(|(_, w)| *w > 0).map(|(s, _)| s.len().max(1)).max();
            prop_assert_eq!(depths.into_iter().max(), deepest);
        }
    }
}
