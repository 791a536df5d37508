//! Which part of the simulation each sample belongs to.

use std::collections::BTreeMap;

use serde::Serialize;
use simprof_model::{FunctionId, FunctionKind, Profile, StackId};

use super::functions::UNKNOWN;
use super::names;
use super::origin::{Origin, origins};
use super::patterns::Pattern;
use super::weights::{Once, by_stack, share};
use crate::ReportError;

/// Name of what no rule matches.
pub const OTHER: &str = "other";

/// Share of the author's code from which one crate or namespace is split into its modules.
const SPLIT_SHARE: f64 = 0.9;

/// Named groups of functions, as the user wrote them.
#[derive(Debug, Clone, Default)]
pub struct ComponentRules {
    components: Vec<(String, Vec<Pattern>)>,
}

impl ComponentRules {
    /// Rules from names and globs. A glob with `::` is held against function names; one with `/`
    /// against names and paths of source file and module, whole or from after any `/`; any other
    /// against names, those paths and their last parts. `*` matches anything. A name is also tried from
    /// where its path begins, so that `sim::*` matches `<sim::Agent as Trait>::act`.
    ///
    /// # Errors
    /// Where a glob is not valid.
    pub fn new<N, P>(rules: impl IntoIterator<Item = (N, P)>) -> Result<Self, ReportError>
    where
        N: Into<String>,
        P: IntoIterator,
        P::Item: AsRef<str>,
    {
        let read = |(name, patterns): (N, P)| {
            let patterns: Result<Vec<Pattern>, ReportError> =
                patterns.into_iter().map(|pattern| Pattern::new(pattern.as_ref())).collect();
            Ok((name.into(), patterns?))
        };
        Ok(Self { components: rules.into_iter().map(read).collect::<Result<_, ReportError>>()? })
    }

    /// True where there is no rule.
    pub fn is_empty(&self) -> bool {
        self.components.is_empty()
    }

    /// The component of a function by itself: the first in the order given that matches.
    pub fn component_of(&self, profile: &Profile, id: FunctionId) -> Option<&str> {
        Some(self.components[self.position(profile, id)?].0.as_str())
    }

    fn position(&self, profile: &Profile, id: FunctionId) -> Option<usize> {
        self.components
            .iter()
            .position(|(_, patterns)| patterns.iter().any(|pattern| pattern.matches(profile, id)))
    }
}

/// What one component costs. Shares are 0 to 1 of all weight of the profile.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ComponentShare {
    /// Name, as in the rules or as found.
    pub name: String,
    /// Weight of the samples that belong to it: its own code and what that called outside of any
    /// other component. These sum to all weight.
    pub weight: u64,
    /// `weight` of all weight.
    pub share: f64,
    /// Weight of samples that were executing one of its own functions.
    pub self_weight: u64,
    /// `self_weight` of all weight.
    pub self_share: f64,
    /// Weight of samples with one of its functions anywhere on the stack. These overlap.
    pub total_weight: u64,
    /// `total_weight` of all weight.
    pub total_share: f64,
}

/// The cost of each component, by falling share; what belongs to none comes last.
///
/// With rules, a sample belongs to the component of the frame nearest the leaf that any rule
/// matches, and to [`OTHER`] where none does; a component without cost is listed with zero.
///
/// Without rules, a sample belongs to the crate, top-level namespace or Python package of the frame
/// nearest the leaf that the simulation's author wrote ([`Origin::Own`]; C functions go by module
/// file). Where one of these has 90 % or more of the author's weight, it is split by its second level:
/// `sim::spatial`, or the source file in C. Samples without such a frame belong to their leaf: the
/// library, the runtime, `[kernel]` or [`UNKNOWN`].
pub fn components(profile: &Profile, rules: &ComponentRules) -> Vec<ComponentShare> {
    if rules.is_empty() { default_components(profile) } else { ruled_components(profile, rules) }
}

fn ruled_components(profile: &Profile, rules: &ComponentRules) -> Vec<ComponentShare> {
    let mut names: Vec<String> = rules.components.iter().map(|(name, _)| name.clone()).collect();
    names.push(OTHER.to_owned());
    let other = names.len() - 1;
    let claims = function_ids(profile).map(|id| rules.position(profile, id)).collect();
    let labels = Labels { names, claims, leaf: vec![other; profile.functions.len()], none: other };
    let mut shares = labels.shares(profile);
    shares.retain(|entry| entry.total_weight > 0 || entry.name != OTHER);
    shares
}

/// The component of every function as [`components`] without rules has it, by position in the profile's table.
pub fn default_component_names(profile: &Profile) -> Vec<String> {
    let labels = split_labels(profile);
    labels.leaf.iter().map(|&label| labels.names[label].clone()).collect()
}

fn default_components(profile: &Profile) -> Vec<ComponentShare> {
    let mut shares = split_labels(profile).shares(profile);
    shares.retain(|entry| entry.total_weight > 0);
    shares
}

/// The labels of the first level, with the second level of the one that has nearly all.
fn split_labels(profile: &Profile) -> Labels {
    let first = default_labels(profile, |_| false);
    let shares = first.shares(profile);
    let own = |entry: &&ComponentShare| first.is_claimed(&entry.name);
    let whole: u64 = shares.iter().filter(own).map(|entry| entry.weight).sum();
    let largest = shares.iter().filter(own).max_by_key(|entry| entry.weight);
    match largest.filter(|entry| share(entry.weight, whole) >= SPLIT_SHARE) {
        Some(largest) => default_labels(profile, |name| name == largest.name),
        None => first,
    }
}

/// For every function the component that it claims and the one that it is by itself.
struct Labels {
    names: Vec<String>,
    /// Component that a function claims for a sample it is part of.
    claims: Vec<Option<usize>>,
    /// Component of a function that claims none, where it is the leaf.
    leaf: Vec<usize>,
    /// Component of samples without a stack.
    none: usize,
}

fn default_labels(profile: &Profile, is_split: impl Fn(&str) -> bool) -> Labels {
    let mut ids: BTreeMap<String, usize> = BTreeMap::new();
    let mut id_of = |name: String| {
        let next = ids.len();
        *ids.entry(name).or_insert(next)
    };
    let none = id_of(UNKNOWN.to_owned());
    let (mut claims, mut leaf) = (Vec::new(), Vec::new());
    for (id, origin) in function_ids(profile).zip(origins(profile)) {
        let first = first_level(profile, id, origin);
        let is_own = origin == Origin::Own;
        let name =
            if is_own && is_split(&first) { second_level(profile, id, first) } else { first };
        let label = id_of(name);
        claims.push(is_own.then_some(label));
        leaf.push(label);
    }
    let mut names = vec![String::new(); ids.len()];
    for (name, id) in ids {
        names[id] = name;
    }
    Labels { names, claims, leaf, none }
}

fn first_level(profile: &Profile, id: FunctionId, origin: Origin) -> String {
    let module = || profile.function_module(id).map_or(UNKNOWN, names::file_name).to_owned();
    match origin {
        Origin::Kernel => "[kernel]".to_owned(),
        Origin::Unknown => python_package(profile, id).unwrap_or_else(module),
        Origin::Own | Origin::Library | Origin::Runtime => python_package(profile, id)
            .unwrap_or_else(|| match segments(profile, id).as_slice() {
                [] | [_] => module(),
                [first, ..] => first.clone(),
            }),
    }
}

/// The package of a Python function, and of native code that was installed as part of one.
fn python_package(profile: &Profile, id: FunctionId) -> Option<String> {
    if profile.function(id).kind == FunctionKind::Python {
        let module = names::python_module(profile.function_name(id), profile.function_file(id));
        return module.split('.').next().map(str::to_owned);
    }
    let module = profile.function_module(id)?;
    let (_, inside) =
        module.split_once("site-packages/").or_else(|| module.split_once("dist-packages/"))?;
    let package = inside.split(['/', '.']).next()?;
    Some(package.to_owned())
}

/// `sim::spatial` for what is in a module of the crate, `sim.spatial` for one of the Python package, `sim.Model` for the classes of a
/// script that has no modules, `sim/agents.c` for C; `first` for the rest.
fn second_level(profile: &Profile, id: FunctionId, first: String) -> String {
    if profile.function(id).kind == FunctionKind::Python {
        return python_second_level(profile, id).unwrap_or(first);
    }
    match segments(profile, id).as_slice() {
        [crate_name, module, _, ..] if is_module_name(module) => format!("{crate_name}::{module}"),
        [_] => match profile.function_file(id) {
            Some(file) => format!("{first}/{}", names::file_name(file)),
            None => first,
        },
        _ => first,
    }
}

fn python_second_level(profile: &Profile, id: FunctionId) -> Option<String> {
    let name = profile.function_name(id);
    let module = names::python_module(name, profile.function_file(id));
    let mut parts = module.split('.');
    let package = parts.next()?;
    if let Some(second) = parts.next() {
        return Some(format!("{package}.{second}"));
    }
    let inside = names::enclosing(name).strip_prefix(module)?.strip_prefix('.')?;
    let (class, _) = inside.split_once('.')?;
    Some(format!("{package}.{class}"))
}

fn is_module_name(segment: &str) -> bool {
    segment.starts_with(|c: char| c.is_lowercase() || c == '_')
}

/// The path of a native function: crates and modules, or namespaces.
fn segments(profile: &Profile, id: FunctionId) -> Vec<String> {
    names::path(profile.function_name(id)).into_iter().map(str::to_owned).collect()
}

fn function_ids(profile: &Profile) -> impl Iterator<Item = FunctionId> {
    (0..u32::try_from(profile.functions.len()).expect("ids of functions have 32 bits"))
        .map(FunctionId)
}

impl Labels {
    fn is_claimed(&self, name: &str) -> bool {
        self.claims.iter().flatten().any(|&label| self.names[label] == name)
    }

    fn shares(&self, profile: &Profile) -> Vec<ComponentShare> {
        let mut sums = vec![[0_u64; 3]; self.names.len()];
        let mut once = Once::new(self.names.len());
        for entry in by_stack(profile) {
            once.next_round();
            let claimed = self.claimed(profile, entry.stack);
            let executing = self.executing(profile, entry.stack);
            let belongs = claimed.first().copied().unwrap_or(executing);
            sums[belongs][0] += entry.weight;
            sums[executing][1] += entry.weight;
            for label in claimed.into_iter().chain([belongs, executing]) {
                if once.first(label) {
                    sums[label][2] += entry.weight;
                }
            }
        }
        self.sorted(&sums, profile.total_weight())
    }

    /// Components claimed by the frames of a stack, from the leaf.
    fn claimed(&self, profile: &Profile, stack: Option<StackId>) -> Vec<usize> {
        profile
            .frames_from_leaf(stack)
            .filter_map(|frame| self.claims[profile.frame(frame).function.index()])
            .collect()
    }

    fn executing(&self, profile: &Profile, stack: Option<StackId>) -> usize {
        profile.frames_from_leaf(stack).next().map_or(self.none, |frame| {
            let function = profile.frame(frame).function.index();
            self.claims[function].unwrap_or(self.leaf[function])
        })
    }

    fn sorted(&self, sums: &[[u64; 3]], whole: u64) -> Vec<ComponentShare> {
        let mut shares: Vec<ComponentShare> = self
            .names
            .iter()
            .zip(sums)
            .map(|(name, &[weight, self_weight, total_weight])| ComponentShare {
                name: name.clone(),
                weight,
                share: share(weight, whole),
                self_weight,
                self_share: share(self_weight, whole),
                total_weight,
                total_share: share(total_weight, whole),
            })
            .collect();
        let is_rest = |entry: &ComponentShare| entry.name == OTHER || entry.name == UNKNOWN;
        shares.sort_by(|a, b| {
            (is_rest(a), b.weight, b.total_weight, &a.name).cmp(&(
                is_rest(b),
                a.weight,
                a.total_weight,
                &b.name,
            ))
        });
        shares
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::profile;

    fn summary(shares: &[ComponentShare]) -> Vec<(&str, u64, u64, u64)> {
        shares.iter().map(|c| (c.name.as_str(), c.weight, c.self_weight, c.total_weight)).collect()
    }

    #[test]
    fn the_matching_frame_nearest_the_leaf_takes_the_sample() {
        let rules = ComponentRules::new([
            ("agents", vec!["sim::agents::*"]),
            ("spatial", vec!["sim::spatial::*", "kd::*"]),
            ("idle", vec!["sim::never"]),
        ])
        .expect("valid");
        let profile = profile(&[
            ("main > sim::agents::act > sim::spatial::nearby > memcpy", 5),
            ("main > sim::agents::act", 3),
            ("main > sim::spatial::nearby > sim::agents::visit", 1),
            ("main > log", 2),
            ("", 1),
        ]);
        assert_eq!(
            summary(&components(&profile, &rules)),
            [("spatial", 5, 0, 6), ("agents", 4, 4, 9), ("idle", 0, 0, 0), ("other", 3, 8, 8),]
        );
    }

    #[test]
    fn crates_are_components_where_there_are_no_rules() {
        let registry = "/home/me/.cargo/registry/src/kd-1/lib.rs";
        let kd = format!("main > sim::run > grid::nearby > kd::nearest%{registry}");
        let start = "__start_thread%/rustc/1/library/std/src/rt.rs > core::spin%/rustc/1/library/core/src/hint.rs";
        let profile = profile(&[(&kd, 4), ("main > sim::run > k:write", 3), (start, 2), ("", 1)]);
        let shares = components(&profile, &ComponentRules::default());
        assert_eq!(
            summary(&shares),
            [
                ("grid", 4, 0, 4),
                ("sim", 3, 0, 7),
                ("core", 2, 2, 2),
                ("kd", 0, 4, 4),
                ("[kernel]", 0, 3, 3),
                ("[unknown]", 1, 1, 1),
            ]
            .map(|entry| entry)
        );
        let sum: f64 = shares.iter().map(|entry| entry.share).sum();
        assert!((sum - 1.0).abs() < 1e-12);
    }

    #[test]
    fn a_lone_crate_is_split_by_module_and_a_c_program_by_file() {
        for (samples, expected) in [
            (
                vec![
                    ("main > sim::agents::Agent::act", 5),
                    ("main > <sim::spatial::Grid as X>::near", 3),
                    ("main > sim::step", 1),
                ],
                vec!["sim::agents", "sim::spatial", "sim"],
            ),
            (
                vec![("main%main.c > act%src/agents.c", 5), ("main%main.c", 1)],
                vec!["sim/agents.c", "sim/main.c"],
            ),
        ] {
            let shares = components(&profile(&samples), &ComponentRules::default());
            let names: Vec<&str> =
                shares.iter().filter(|c| c.weight > 0).map(|c| c.name.as_str()).collect();
            assert_eq!(names, expected);
        }
    }

    #[test]
    fn python_packages_are_components_and_libraries_are_charged_to_their_callers() {
        let site = "/opt/lib/python3.11/site-packages";
        let numpy = format!("p:numpy.sum%{site}/numpy/fromnumeric.py > add~{site}/numpy/_core.so");
        let json = "p:json.dumps%/opt/lib/python3.11/json/__init__.py";
        let main = "p:run.<module>%/w/run.py";
        let profile = profile(&[
            (&format!("{main} > p:sim.grid.Grid.near%/w/sim/grid.py > {numpy}"), 5),
            (&format!("{main} > p:tools.save%/w/tools/__init__.py > {json}"), 3),
            (&format!("{main} > p:plugins.fast.go%/w/plugins/fast.py"), 2),
            (main, 1),
            (&numpy, 1),
        ]);
        let shares = components(&profile, &ComponentRules::default());
        assert_eq!(
            summary(&shares),
            [
                ("sim", 5, 0, 5),
                ("tools", 3, 0, 3),
                ("plugins", 2, 2, 2),
                ("run", 1, 1, 11),
                ("numpy", 1, 6, 6),
                ("json", 0, 3, 3),
            ]
        );
    }

    #[test]
    fn a_lone_package_is_split_by_module_and_a_script_by_class() {
        for (samples, expected) in [
            (
                vec![
                    ("p:sim.model.Model.step%/w/sim/model.py", 5),
                    ("p:sim.agents.walk.<locals>.turn%/w/sim/agents.py", 3),
                    ("p:sim.helper%/w/sim/__init__.py", 1),
                ],
                vec!["sim.model", "sim.agents", "sim"],
            ),
            (
                vec![
                    ("p:run.Model.step%/w/run.py", 5),
                    ("p:run.Agent.act.<locals>.turn%/w/run.py", 3),
                    ("p:run.main.<locals>.go%/w/run.py", 1),
                ],
                vec!["run.Model", "run.Agent", "run"],
            ),
        ] {
            let shares = components(&profile(&samples), &ComponentRules::default());
            let names: Vec<&str> = shares.iter().map(|c| c.name.as_str()).collect();
            assert_eq!(names, expected);
        }
    }

    #[test]
    fn an_empty_profile_has_no_components() {
        assert_eq!(components(&profile(&[]), &ComponentRules::default()), []);
    }
}
