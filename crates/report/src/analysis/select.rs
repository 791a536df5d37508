//! Selects functions by name or pattern.

use simprof_model::{FunctionId, Profile};

use super::names;
use super::patterns::Pattern;
use crate::ReportError;

/// A set of functions of one profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionSet {
    /// Indexed as the profile's table.
    contains: Vec<bool>,
}

impl FunctionSet {
    /// Returns the functions with these ids; ids that the profile does not have are ignored.
    pub fn from_ids(profile: &Profile, ids: &[FunctionId]) -> Self {
        let mut contains = vec![false; profile.functions.len()];
        for id in ids {
            if let Some(entry) = contains.get_mut(id.index()) {
                *entry = true;
            }
        }
        Self { contains }
    }

    /// Returns the functions that `text` names, with their closures. The first of these interpretations that selects a
    /// function is used:
    ///
    /// 1. a whole name,
    /// 2. the end of a path (`Grid::nearby`, `nearby`),
    /// 3. a glob over names, source files and modules, as in component rules.
    ///
    /// # Errors
    /// Returns an error if no function has that name and `text` is not a valid glob.
    pub fn matching(profile: &Profile, text: &str) -> Result<Self, ReportError> {
        let enclosing = |id| names::enclosing(profile.function_name(id));
        let whole = Self::where_true(profile, |id| {
            profile.function_name(id) == text || enclosing(id) == text
        });
        if !whole.is_empty() {
            return Ok(whole);
        }
        let end = Self::where_true(profile, |id| ends_with_path(enclosing(id), text));
        if !end.is_empty() {
            return Ok(end);
        }
        let pattern = Pattern::new(text)?;
        Ok(Self::where_true(profile, |id| {
            pattern.matches(profile, id) || pattern.matches_name(enclosing(id))
        }))
    }

    /// Whether it has no function.
    pub fn is_empty(&self) -> bool {
        !self.contains.contains(&true)
    }

    /// Whether the function is in it.
    pub fn contains(&self, id: FunctionId) -> bool {
        self.contains[id.index()]
    }

    /// Iterates over its functions, in the order of the profile's table.
    pub fn ids(&self) -> impl Iterator<Item = FunctionId> + '_ {
        self.contains
            .iter()
            .zip(0..)
            .filter(|(contains, _)| **contains)
            .map(|(_, id)| FunctionId(id))
    }

    fn where_true(profile: &Profile, test: impl Fn(FunctionId) -> bool) -> Self {
        let count = u32::try_from(profile.functions.len()).expect("ids of functions have 32 bits");
        Self { contains: (0..count).map(|id| test(FunctionId(id))).collect() }
    }
}

fn ends_with_path(name: &str, end: &str) -> bool {
    let path = names::path(name).join("::");
    let method = name.rsplit("::").next().unwrap_or(name);
    let full = if path.ends_with(method) { path } else { format!("{path}::{method}") };
    ["::", "."].iter().any(|separator| {
        full.strip_suffix(end).is_some_and(|rest| rest.is_empty() || rest.ends_with(separator))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::profile;

    #[test]
    fn names_are_tried_before_path_ends_and_globs() {
        let profile = profile(&[(
            "main > sim::step > sim::step::{closure#0} > <sim::Grid as sim::Index>::nearby > old::step2",
            1,
        )]);
        for (text, expected) in [
            ("sim::step", vec!["sim::step", "sim::step::{closure#0}"]),
            ("step", vec!["sim::step", "sim::step::{closure#0}"]),
            ("Grid::nearby", vec!["<sim::Grid as sim::Index>::nearby"]),
            ("nearby", vec!["<sim::Grid as sim::Index>::nearby"]),
            ("<sim::Grid as sim::Index>::nearby", vec!["<sim::Grid as sim::Index>::nearby"]),
            ("sim::step::{closure#0}", vec!["sim::step::{closure#0}"]),
            ("old::*", vec!["old::step2"]),
            ("tep", vec![]),
        ] {
            let set = FunctionSet::matching(&profile, text).expect("valid");
            let names: Vec<&str> = set.ids().map(|id| profile.function_name(id)).collect();
            assert_eq!(names, expected, "{text}");
        }
        assert!(FunctionSet::matching(&profile, "x[").is_err());
    }

    #[test]
    fn ids_of_another_profile_are_ignored() {
        let profile = profile(&[("main", 1)]);
        let set = FunctionSet::from_ids(&profile, &[FunctionId(0), FunctionId(7)]);
        assert_eq!(set.ids().collect::<Vec<_>>(), [FunctionId(0)]);
    }
}
