//! Names, origins, components and charged times of all functions, from which analysis and advice are computed.

use simprof_model::{CallProfile, CalledFunction};

use super::as_profile::AsProfile;
use super::charge::charge;
use super::modules::{Modules, is_generated};
use super::tracing::{Tracing, calls_made};
use crate::analysis::{ComponentRules, GENERATED, OTHER, Origin};

/// Minimum share of all time, with their callees, of the functions that are taken as the profiled program.
const PROFILED_SHARE: f64 = 0.05;

/// A profile and data derived from it. All vectors are indexed as its table.
pub(super) struct Facts<'a> {
    pub(super) profile: &'a CallProfile,
    pub(super) total_s: f64,
    pub(super) names: Vec<String>,
    pub(super) modules: Vec<String>,
    pub(super) tracing: Tracing,
    /// Time of each function, including the functions written in C that it called, s.
    pub(super) with_built_in_s: Vec<f64>,
    pub(super) origins: Vec<Origin>,
    pub(super) components: Vec<String>,
    pub(super) charged_s: Vec<f64>,
    /// Time of each function, including the functions without a component that it called, s.
    pub(super) component_s: Vec<f64>,
    pub(super) calls_made: Vec<u64>,
}

impl<'a> Facts<'a> {
    pub(super) fn new(
        profile: &'a CallProfile,
        modules: &Modules<'_>,
        rules: &ComponentRules,
    ) -> Self {
        let modules: Vec<String> =
            profile.functions.iter().map(|f| modules.name(profile.file(f))).collect();
        let functions = profile.functions.iter().zip(&modules);
        let names: Vec<String> =
            functions.map(|(f, module)| qualified_name(profile, f, module)).collect();
        let is_python: Vec<bool> =
            profile.functions.iter().map(|function| !profile.is_built_in(function)).collect();
        let mut as_profile = AsProfile::new(profile, &names);
        let origins = as_profile.origins();
        let authors = authors(profile, &origins);
        let charged_s = charge(profile, &authors);
        let (components, component_s) = if rules.is_empty() {
            let components = components(profile, &mut as_profile, &charged_s, &authors);
            (components, charged_s.clone())
        } else {
            let ruled = as_profile.ruled_components(rules);
            let claims: Vec<bool> = ruled.iter().map(Option::is_some).collect();
            let name = |component: Option<String>| component.unwrap_or_else(|| OTHER.to_owned());
            (ruled.into_iter().map(name).collect(), charge(profile, &claims))
        };
        Self {
            total_s: charged_s.iter().sum(),
            tracing: Tracing::new(profile),
            with_built_in_s: charge(profile, &is_python),
            components,
            component_s,
            calls_made: calls_made(profile),
            profile,
            names,
            modules,
            origins,
            charged_s,
        }
    }

    /// Returns a time as a fraction of all time, 0 to 1.
    pub(super) fn share(&self, time_s: f64) -> f64 {
        if self.total_s > 0.0 { (time_s / self.total_s).clamp(0.0, 1.0) } else { 0.0 }
    }
}

/// Returns the functions that time is charged to: the author's, without generated code. If these take almost no time, the
/// program is an installed one, and time is charged to libraries. If these take almost no time either, it is charged to the
/// author's functions and generated code.
fn authors(profile: &CallProfile, origins: &[Origin]) -> Vec<bool> {
    let of = |origin: Origin, generated: bool| -> Vec<bool> {
        let functions = profile.functions.iter().zip(origins);
        let is_generated = |function| is_generated(profile.file(function));
        functions.map(|(f, &of)| of == origin && (generated || !is_generated(f))).collect()
    };
    let total_s = profile.total_s();
    let matters = |set: &Vec<bool>| {
        let members = profile.functions.iter().zip(set).filter(|(_, is_in)| **is_in);
        members.map(|(function, _)| function.cumulative_s).fold(0.0, f64::max)
            >= PROFILED_SHARE * total_s
    };
    let candidates = [of(Origin::Own, false), of(Origin::Library, false)];
    candidates.into_iter().find(matters).unwrap_or_else(|| of(Origin::Own, true))
}

/// Returns the component of each function.
fn components(
    profile: &CallProfile,
    as_profile: &mut AsProfile,
    charged_s: &[f64],
    authors: &[bool],
) -> Vec<String> {
    let mut components = as_profile.components(charged_s);
    for ((component, function), &author) in
        components.iter_mut().zip(&profile.functions).zip(authors)
    {
        if is_generated(profile.file(function)) && !author {
            GENERATED.clone_into(component);
        }
    }
    components
}

/// Returns the module and name of a function, `sim.model.step`; only the name for functions written in C.
pub(super) fn qualified_name(
    profile: &CallProfile,
    function: &CalledFunction,
    module: &str,
) -> String {
    let name = profile.name(function);
    if profile.is_built_in(function) || module.is_empty() {
        return name.to_owned();
    }
    format!("{module}.{name}")
}
