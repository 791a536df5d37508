//! Components: the part of the simulation that each sample belongs to.

use std::collections::BTreeMap;

use serde::Serialize;
use simprof_model::{FunctionId, FunctionKind, Profile, StackId};

use super::names;
use super::origin::{Origin, origins};
use super::patterns::Pattern;
use super::placeholders::{KERNEL, UNKNOWN};
use super::weights::{Once, by_stack, share};
use crate::ReportError;

/// The component of samples that no rule matches.
pub const OTHER: &str = "other";

/// Share of the author's weight from which a single crate, namespace or package is split into its modules.
const SPLIT_SHARE: f64 = 0.9;

/// Named groups of functions, defined by the user's glob patterns.
#[derive(Debug, Clone, Default)]
pub struct ComponentRules {
    components: Vec<(String, Vec<Pattern>)>,
}

impl ComponentRules {
    /// Builds rules from component names and their globs. `*` matches anything.
    ///
    /// - A glob with `::` is matched against function names.
    /// - A glob with `/` is matched against names and against the paths of source file and module, from their beginning
    ///   or from after any `/`.
    /// - Any other glob is matched against names, those paths, and the last parts of the paths.
    ///
    /// A name is also tried from the beginning of its path, so that `sim::*` matches `<sim::Agent as Trait>::act`.
    ///
    /// # Errors
    /// Returns an error if a glob is not valid.
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

    /// Whether there is no rule.
    pub fn is_empty(&self) -> bool {
        self.components.is_empty()
    }

    /// Returns the component of a function: the first rule that matches, in the order given.
    pub fn component_of(&self, profile: &Profile, id: FunctionId) -> Option<&str> {
        Some(self.components[self.position(profile, id)?].0.as_str())
    }

    /// Returns the globs of each component that match no function of the profile: the component and its globs.
    pub fn unmatched(&self, profile: &Profile) -> Vec<(&str, Vec<&str>)> {
        let is_unmatched =
            |pattern: &&Pattern| !function_ids(profile).any(|id| pattern.matches(profile, id));
        let mut found = Vec::new();
        for (name, patterns) in &self.components {
            let globs: Vec<&str> =
                patterns.iter().filter(is_unmatched).map(Pattern::text).collect();
            if !globs.is_empty() {
                found.push((name.as_str(), globs));
            }
        }
        found
    }

    fn position(&self, profile: &Profile, id: FunctionId) -> Option<usize> {
        self.components
            .iter()
            .position(|(_, patterns)| patterns.iter().any(|pattern| pattern.matches(profile, id)))
    }
}

/// The cost of one component. Shares are fractions of all weight of the profile, 0 to 1.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ComponentShare {
    /// Name, from the rules or derived from the function names.
    pub name: String,
    /// Weight of the samples that belong to it: its own functions and what they called outside any other component.
    /// Over all components these sum to all weight.
    pub weight: u64,
    /// `weight` as a fraction of all weight.
    pub share: f64,
    /// Weight of samples whose leaf is one of its functions.
    pub self_weight: u64,
    /// `self_weight` as a fraction of all weight.
    pub self_share: f64,
    /// Weight of samples with one of its functions anywhere on the stack. These overlap.
    pub total_weight: u64,
    /// `total_weight` as a fraction of all weight.
    pub total_share: f64,
}

/// Returns the cost of each component, by decreasing share; [`OTHER`] and [`UNKNOWN`] come last.
///
/// With rules, a sample belongs to the component of the frame nearest the leaf that any rule matches, or to [`OTHER`] if
/// none does. Components without cost are listed with zero.
///
/// Without rules, a sample belongs to the crate, top-level namespace or Python package of the frame nearest the leaf that
/// the author wrote ([`Origin::Own`]); for C it is the module file. If one of these has 90 % or more of the author's
/// weight, it is split by its second level: `sim::spatial`, or the source file in C. Samples without such a frame belong
/// to their leaf: the library, the runtime, `[kernel]` or [`UNKNOWN`].
pub fn components(profile: &Profile, rules: &ComponentRules) -> Vec<ComponentShare> {
    let mut shares = Labels::new(profile, rules).shares(profile);
    let is_named = |entry: &ComponentShare| !rules.is_empty() && entry.name != OTHER;
    shares.retain(|entry| entry.total_weight > 0 || is_named(entry));
    shares
}

fn ruled_labels(profile: &Profile, rules: &ComponentRules) -> Labels {
    let mut names: Vec<String> = rules.components.iter().map(|(name, _)| name.clone()).collect();
    names.push(OTHER.to_owned());
    let other = names.len() - 1;
    let claims = function_ids(profile).map(|id| rules.position(profile, id)).collect();
    Labels { names, claims, leaf: vec![other; profile.functions.len()], none: other }
}

/// Returns the component of every function under the default rules of [`components`], indexed as the profile's table.
pub(crate) fn default_component_names(profile: &Profile) -> Vec<String> {
    let labels = split_labels(profile);
    labels.leaf.iter().map(|&label| labels.names[label].clone()).collect()
}

/// Returns the first-level components, with the dominant one split into its second level.
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

/// Component labels of every function, as indices into `names`.
pub(super) struct Labels {
    names: Vec<String>,
    /// By function: the component that it claims samples for. `None` for functions that claim none, such as libraries.
    claims: Vec<Option<usize>>,
    /// By function: its component if it is the leaf of a sample that no function claims.
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
        Origin::Kernel => KERNEL.to_owned(),
        Origin::Unknown => python_package(profile, id).unwrap_or_else(module),
        Origin::Own | Origin::Library | Origin::Runtime => python_package(profile, id)
            .unwrap_or_else(|| match segments(profile, id).as_slice() {
                [] | [_] => module(),
                [first, ..] => first.clone(),
            }),
    }
}

/// Returns the package of a Python function, or of native code that was installed as part of a package.
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

/// Returns the second-level component: `sim::spatial` (Rust module), `sim.spatial` (Python module), `sim.Model` (class of
/// a Python script without modules) or `sim/agents.c` (C source file); `first` if there is no second level.
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

/// Returns the path of a native function: crate and modules, or namespaces.
fn segments(profile: &Profile, id: FunctionId) -> Vec<String> {
    names::path(profile.function_name(id)).into_iter().map(str::to_owned).collect()
}

fn function_ids(profile: &Profile) -> impl Iterator<Item = FunctionId> {
    (0..u32::try_from(profile.functions.len()).expect("ids of functions have 32 bits"))
        .map(FunctionId)
}

impl Labels {
    /// Returns the labels that [`components`] uses.
    pub(super) fn new(profile: &Profile, rules: &ComponentRules) -> Self {
        if rules.is_empty() { split_labels(profile) } else { ruled_labels(profile, rules) }
    }

    /// Returns the component that the samples of a stack belong to.
    pub(super) fn component(&self, profile: &Profile, stack: Option<StackId>) -> &str {
        &self.names[self.belongs(profile, stack)]
    }

    fn belongs(&self, profile: &Profile, stack: Option<StackId>) -> usize {
        let claimed = self.claimed(profile, stack).first().copied();
        claimed.unwrap_or_else(|| self.executing(profile, stack))
    }

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

    /// Returns the components that the frames of a stack claim, from the leaf.
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
    fn a_sample_belongs_to_the_matching_frame_nearest_the_leaf() {
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
        assert_eq!(
            rules.unmatched(&profile),
            [("spatial", vec!["kd::*"]), ("idle", vec!["sim::never"])]
        );
    }

    #[test]
    fn without_rules_crates_are_components() {
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
    fn a_dominant_crate_is_split_by_module_and_a_c_program_by_file() {
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
    fn a_dominant_package_is_split_by_module_and_a_script_by_class() {
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
