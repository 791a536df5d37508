//! The library function in which an author's function spends most of its time.

use std::collections::BTreeMap;

use simprof_model::{FunctionId, Profile};

use super::origin::{Origin, origins};
use super::python::interpreter_functions;
use super::weights::{Groups, by_stack, share};

/// Part of a function's time from which the path goes on to one callee.
const HEAVY: f64 = 0.5;

/// A library function that an author's function calls, directly or through other libraries.
#[derive(Debug, Clone, PartialEq)]
pub struct HeavyCallee {
    /// Demangled name.
    pub name: String,
    /// Source file of its definition.
    pub file: Option<String>,
    /// First line of its definition, if known.
    pub line: Option<u32>,
    /// Share of all weight in it and its callees, as far as it is charged to the author's function, 0 to 1.
    pub share: f64,
}

/// Returns the library function that takes at least half of the weight charged to the author's function `of`, or `None` if none does.
///
/// Like [`super::FunctionCost::charged_weight`], only stacks count on which `of` is the author's function nearest the leaf. From `of`, the path
/// goes on to the callee with at least half of the weight of its caller, as long as there is one. The result is the last function of a library
/// on this path. If the path has functions of the language's own library only, it is the first of them: the function that the author called.
/// The kernel and an interpreter's own functions are not part of the path.
pub fn heavy_callee(profile: &Profile, of: &[FunctionId]) -> Option<HeavyCallee> {
    let origins = origins(profile);
    let groups = Groups::new(profile);
    let start = groups.group_of(*of.first()?);
    let origin = |group: usize| origins[groups.first(group).index()];
    let paths = inner_paths(profile, &groups, &origins, start);
    let path = heavy_path(paths);
    let last_of_library = path.iter().rev().find(|(group, _)| origin(*group) == Origin::Library);
    let of_language = || path.iter().find(|(group, _)| origin(*group) == Origin::Runtime);
    let &(group, weight) = last_of_library.or_else(of_language)?;
    let id = groups.first(group);
    let lines = groups.members(group).iter().filter_map(|&id| profile.function(id).line);
    Some(HeavyCallee {
        name: profile.function_name(id).to_owned(),
        file: profile.function_file(id).map(str::to_owned),
        line: lines.min(),
        share: share(weight, profile.total_weight()),
    })
}

/// Returns the functions that run inside `start` in each stack that is charged to it, from caller to callee, with the stack's weight.
fn inner_paths(
    profile: &Profile,
    groups: &Groups,
    origins: &[Origin],
    start: usize,
) -> Vec<(Vec<usize>, u64)> {
    let interpreter = interpreter_functions(profile);
    let is_shown = |group: &usize| {
        let index = groups.first(*group).index();
        !interpreter[index] && origins[index] != Origin::Kernel
    };
    let is_own = |group: usize| origins[groups.first(group).index()] == Origin::Own;
    let mut paths = Vec::new();
    for entry in by_stack(profile) {
        let from_leaf: Vec<usize> = groups.on_stack(profile, entry.stack).collect();
        let own = from_leaf.iter().position(|&group| is_own(group));
        if let Some(own) = own.filter(|&own| from_leaf[own] == start) {
            let inner = from_leaf[..own].iter().rev().copied().filter(is_shown);
            paths.push((inner.collect(), entry.weight));
        }
    }
    paths
}

/// Returns the callees that take at least [`HEAVY`] of their caller's weight, from caller to callee, each with its weight.
fn heavy_path(mut paths: Vec<(Vec<usize>, u64)>) -> Vec<(usize, u64)> {
    let mut weight: u64 = paths.iter().map(|(_, weight)| weight).sum();
    let mut found = Vec::new();
    loop {
        let mut callees: BTreeMap<usize, u64> = BTreeMap::new();
        for (path, weight) in &paths {
            if let Some(&callee) = path.first() {
                *callees.entry(callee).or_default() += weight;
            }
        }
        let Some((callee, inner)) = callees.into_iter().max_by_key(|&(_, weight)| weight) else {
            return found;
        };
        if inner == 0 || share(inner, weight) < HEAVY {
            return found;
        }
        found.push((callee, inner));
        weight = inner;
        paths.retain(|(path, _)| path.first() == Some(&callee));
        for (path, _) in &mut paths {
            // A recursive function is left at its innermost call.
            let last = path.iter().rposition(|&group| group == callee).unwrap_or_default();
            path.drain(..=last);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::FunctionSet;
    use crate::testing::profile;

    fn heaviest(samples: &[(&str, u64)], of: &str) -> Option<(String, f64)> {
        let registry = "%/home/me/.cargo/registry/src/x/lib.rs";
        let texts: Vec<(String, u64)> = samples
            .iter()
            .map(|(text, weight)| (text.replace("%lib", registry), *weight))
            .collect();
        let texts: Vec<(&str, u64)> = texts.iter().map(|(text, w)| (text.as_str(), *w)).collect();
        let profile = profile(&texts);
        let set = FunctionSet::matching(&profile, of).expect("valid");
        let ids: Vec<FunctionId> = set.ids().collect();
        heavy_callee(&profile, &ids).map(|found| (found.name, found.share))
    }

    #[test]
    fn the_path_ends_where_the_time_spreads() {
        let core = "core::iter::fold%/rustc/1/library/core/src/iter.rs";
        let in_core = format!("main > {core} > ptr::read%/rustc/1/library/core/src/ptr.rs");
        let solver = format!("main > w::step%lib > w::solve%lib > {core}");
        for (case, samples, expected) in [
            (
                "through the libraries to the solver",
                vec![
                    (solver.as_str(), 40),
                    ("main > w::step%lib > w::solve%lib", 30),
                    ("main > w::step%lib > w::collide%lib", 20),
                    ("main", 10),
                ],
                Some(("w::solve", 0.7)),
            ),
            ("the author's own code", vec![("main", 51), ("main > w::step%lib", 49)], None),
            (
                "several libraries",
                vec![("main > a%lib", 4), ("main > b%lib", 4), ("main", 2)],
                None,
            ),
            (
                "another of the author's functions",
                vec![("main > f > w::step%lib", 9), ("main > w::init%lib", 1)],
                Some(("w::init", 0.1)),
            ),
            ("the kernel", vec![("main > k:read", 9), ("main", 1)], None),
            ("recursion", vec![("main > a%lib > a%lib > b%lib", 9)], Some(("b", 1.0))),
            (
                "only the language's library",
                vec![(in_core.as_str(), 3)],
                Some(("core::iter::fold", 1.0)),
            ),
            ("absent", vec![("other", 3)], None),
        ] {
            let expected = expected.map(|(name, share): (&str, f64)| (name.to_owned(), share));
            assert_eq!(heaviest(&samples, "main"), expected, "{case}");
        }
    }

    #[test]
    fn an_interpreter_is_not_part_of_the_path() {
        let package = "%/v/lib/python3.11/site-packages/mesa/agent.py";
        let eval = "_PyEval_EvalFrameDefault~/opt/lib/libpython3.11.so";
        let own = format!("main > p:sim.step%/w/sim.py > {eval}");
        let library = format!("{own} > p:mesa.AgentSet.__getitem__{package} > {eval}");
        let stdlib = format!("{library} > p:weakref.keys%/opt/lib/python3.11/weakref.py");
        let samples = [(own.as_str(), 20), (library.as_str(), 20), (stdlib.as_str(), 60)];
        let expected = Some(("mesa.AgentSet.__getitem__".to_owned(), 0.8));
        assert_eq!(heaviest(&samples, "sim.step"), expected);
    }
}
