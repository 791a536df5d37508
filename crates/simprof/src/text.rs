//! Text helpers: chains of errors, suggestions for misspelt names, names of files, text that is safe for a terminal.

use std::path::{Path, PathBuf};

/// Jaro-Winkler similarity above which a name is suggested for a misspelt one.
const SIMILAR: f64 = 0.7;

/// Longest file stem that is made from a name, in characters.
const MAX_STEM: usize = 100;

/// Returns an error and its causes in one line. A cause that the line already contains is not repeated.
pub fn error_chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    let mut text = error.to_string();
    for cause in causes {
        let cause = cause.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

/// Returns the candidate that is most similar to `name`, or `None` if none is similar enough.
pub fn nearest(name: &str, candidates: &[&str]) -> Option<String> {
    let score = |candidate: &str| strsim::jaro_winkler(name, candidate);
    let best = candidates.iter().max_by(|a, b| score(a).total_cmp(&score(b)))?;
    (score(best) > SIMILAR).then(|| (*best).to_owned())
}

/// Returns ``; did you mean `hint`?``, or an empty text without a hint.
pub fn did_you_mean(hint: Option<&str>) -> String {
    hint.map_or_else(String::new, |hint| format!("; did you mean `{hint}`?"))
}

/// Returns `path` with `.extension` appended; an extension that it already has stays.
pub fn append_extension(path: &Path, extension: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(extension);
    PathBuf::from(name)
}

/// Returns a name as part of a file name: other characters than letters, digits and `=-_.` become `-`.
pub fn file_stem(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "=-_.".contains(c) { c } else { '-' };
    let stem: String = name.chars().take(MAX_STEM).map(plain).collect();
    stem.trim_start_matches('.').to_owned()
}

/// Returns a number with its noun: `1 run`, `2 runs`, `1 process`, `2 processes`.
pub fn counted(number: usize, noun: &str) -> String {
    let ending = match noun {
        _ if number == 1 => "",
        noun if noun.ends_with('s') => "es",
        _ => "s",
    };
    format!("{number} {noun}{ending}")
}

/// Returns a path relative to the current folder if it is below it, otherwise unchanged.
pub fn relative(path: &Path) -> PathBuf {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(&here).map_or_else(|_| path.to_owned(), Path::to_owned)
}

/// Replaces control characters except line feeds and tabs. Names and output of a target can contain escape sequences,
/// which the terminal would execute.
pub fn without_controls(text: &str) -> String {
    let shown = |c: char| if c.is_control() && c != '\n' && c != '\t' { '\u{FFFD}' } else { c };
    text.chars().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(without_controls("a\u{1b}[2Jb\n\tc\u{9b}d"), "a\u{FFFD}[2Jb\n\tc\u{FFFD}d");
    }

    #[test]
    fn file_stems_have_no_separators_and_are_not_hidden() {
        for (name, stem) in
            [("agents=5, world=2", "agents=5--world=2"), ("../a/b", "-a-b"), (".x", "x")]
        {
            assert_eq!(file_stem(name), stem);
        }
    }

    #[test]
    fn nouns_follow_their_number() {
        for (number, noun, expected) in [
            (0, "run", "0 runs"),
            (1, "run", "1 run"),
            (1, "process", "1 process"),
            (2, "process", "2 processes"),
        ] {
            assert_eq!(counted(number, noun), expected);
        }
    }

    #[test]
    fn causes_are_appended_once() {
        let cause = std::io::Error::other("disk full");
        let error = anyhow::Error::new(cause).context("cannot write a");
        assert_eq!(error_chain(error.as_ref()), "cannot write a: disk full");
        let repeated = anyhow::Error::msg("disk full").context("cannot write a: disk full");
        assert_eq!(error_chain(repeated.as_ref()), "cannot write a: disk full");
    }

    #[test]
    fn only_similar_names_are_suggested() {
        assert_eq!(nearest("agnets", &["steps", "agents"]).as_deref(), Some("agents"));
        assert_eq!(nearest("zzz", &["steps", "agents"]), None);
        assert_eq!(did_you_mean(Some("a")), "; did you mean `a`?");
        assert_eq!(did_you_mean(None), "");
    }
}
