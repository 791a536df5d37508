//! Globs that select functions: `*::spatial::*`, `sim.spatial.*`, `src/spatial/*`, `libsqlite3*`.

use globset::{Glob, GlobBuilder, GlobMatcher};
use simprof_model::{FunctionId, Profile};

use super::names;
use crate::ReportError;

/// One glob. `*` matches anything, including `/` and `::`.
#[derive(Debug, Clone)]
pub(crate) struct Pattern {
    text: String,
    whole: GlobMatcher,
    /// The same glob after any folder, for patterns with `/`.
    below_folder: Option<GlobMatcher>,
    names_only: bool,
}

impl Pattern {
    /// Parses a pattern. With `::` it is matched against names only; with `/` also against paths, from their beginning or
    /// from after any `/`; otherwise against names, paths, and the last parts of paths.
    ///
    /// # Errors
    /// Returns an error if the glob is not valid.
    pub(crate) fn new(text: &str) -> Result<Self, ReportError> {
        let below = text.contains('/').then(|| glob(&format!("*/{text}"), text)).transpose()?;
        Ok(Self {
            text: text.to_owned(),
            whole: glob(text, text)?.compile_matcher(),
            below_folder: below.map(|glob| glob.compile_matcher()),
            names_only: text.contains("::"),
        })
    }

    /// Returns the pattern as the user wrote it.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Whether the function's name, its source file or its module matches.
    pub(crate) fn matches(&self, profile: &Profile, id: FunctionId) -> bool {
        let paths = [profile.function_file(id), profile.function_module(id)];
        self.matches_name(profile.function_name(id))
            || !self.names_only && paths.into_iter().flatten().any(|path| self.matches_path(path))
    }

    /// Whether a name matches, from its beginning or from the beginning of its path.
    pub(crate) fn matches_name(&self, name: &str) -> bool {
        self.whole.is_match(name) || self.whole.is_match(names::from_path(name))
    }

    fn matches_path(&self, path: &str) -> bool {
        self.whole.is_match(path)
            || match &self.below_folder {
                Some(below) => below.is_match(path),
                None => self.whole.is_match(names::file_name(path)),
            }
    }
}

/// Compiles `pattern`; an error names the pattern as the user wrote it, `shown`.
fn glob(pattern: &str, shown: &str) -> Result<Glob, ReportError> {
    GlobBuilder::new(pattern)
        .literal_separator(false)
        .build()
        .map_err(|source| ReportError::Pattern { pattern: shown.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use simprof_model::FunctionKind;

    use super::*;
    use crate::testing::Sketch;

    #[test]
    fn patterns_over_names_files_and_modules() {
        let mut sketch = Sketch::new();
        let name = "<sim::spatial::Grid as sim::Index>::nearby";
        let (module, file) = (Some("/usr/lib/libsqlite3.so.0"), Some("/w/src/spatial/grid.rs"));
        let id = sketch.function(name, module, file, FunctionKind::Native);
        let profile = sketch.finish();
        for (pattern, expected) in [
            ("*::spatial::*", true),
            ("sim::spatial::*", true),
            ("sim::Index*", false),
            ("src/spatial/*", true),
            ("spatial/*", true),
            ("atial/*", false),
            ("*spatial*", true),
            ("spatial*", false),
            ("grid.rs", true),
            ("libsqlite3*", true),
            ("*", true),
            ("", false),
        ] {
            let matcher = Pattern::new(pattern).expect("valid");
            assert_eq!(matcher.matches(&profile, id), expected, "{pattern}");
        }
    }

    #[test]
    fn the_error_names_the_invalid_pattern() {
        let error = Pattern::new("a[").expect_err("the bracket is not closed");
        assert!(error.to_string().contains("\"a[\""), "{error}");
    }
}
