//! The spec of a target: simprof.toml. Unknown keys are errors.

mod command_template;
mod config;
mod config_template;
mod error;
mod placeholder;
mod readiness;
mod step;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use simprof_model::{Mode, Value};

use crate::text::nearest;

pub use command_template::{CommandSource, CommandTemplate, TemplateError};
pub use config::Config;
pub use config_template::ConfigTemplate;
pub use error::SpecError;
pub use placeholder::{BUILT_IN, Strictness, escaped, is_used, written};
pub use readiness::{Limits, Readiness};
pub use step::{StepFunction, StepRule, StepSource, StepSpan};

/// The spec of the reference simulation. It uses no feature that other specs do not have.
pub const REFERENCE: &str = include_str!("reference.toml");

/// The commented template that `simprof init` writes.
pub const INIT: &str = include_str!("init.toml");

/// Longest time limit, in seconds: a year.
pub const MAX_TIMEOUT_S: f64 = 31_536_000.0;

/// File that is read from the current folder if no other is given.
pub const FILE_NAME: &str = "simprof.toml";

/// The content of a simprof.toml. Every part is optional.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Spec {
    /// The program.
    pub target: Target,
    /// Parameters that reach the program by a placeholder in its command, environment or
    /// configuration files, by name.
    pub parameters: BTreeMap<String, Parameter>,
    /// Named groups of functions: globs over function names, modules and source files.
    pub components: BTreeMap<String, Vec<String>>,
    /// Additional runs of phase 1.
    pub phase1: Phase1,
    /// Component benchmarks of phase 2.
    pub benchmark: Vec<Benchmark>,
    /// Functions that phase 3 annotates in addition to those that it selects.
    pub phase3: Phase3,
    /// Additional runs of phase 4.
    pub phase4: Phase4,
    /// Limits of the readiness checks.
    pub readiness: Readiness,
}

/// The program.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Target {
    /// Name in reports; by default the file name of the program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The program and its arguments, with `{name}` placeholders.
    pub command: Vec<String>,
    /// Working folder, relative to the folder of the spec.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub directory: Option<PathBuf>,
    /// File that the program reads as standard input, relative to the folder of the spec.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<PathBuf>,
    /// Variables added to the environment. Values may contain placeholders.
    pub environment: BTreeMap<String, String>,
    /// Configuration files that the program reads. Each process gets edited copies.
    #[serde(deserialize_with = "config::one_or_many", skip_serializing_if = "Vec::is_empty")]
    pub config: Vec<Config>,
    /// Command that builds the program and its arguments. It runs once at the start.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub build: Vec<String>,
    /// Time limit of each process, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_s: Option<f64>,
    /// How steps are recognised if the program does not mark them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<StepSource>,
    /// Whether standard output is a pseudo-terminal, so that the C library and Python flush it after each line.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub terminal: bool,
    /// Time of one run with the default parameters, in seconds, for estimates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub estimate_s: Option<f64>,
}

/// A parameter of the target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parameter {
    /// Value used when the parameter is not swept.
    pub default: Value,
    /// Values of the sweep of phase 4 in a full run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sweep: Vec<Value>,
    /// Values of the sweep in a quick run; by default an evenly spread subset of `sweep`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub quick: Vec<Value>,
    /// Values of other parameters while this one is swept.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub with: BTreeMap<String, Value>,
}

/// Additional runs of phase 1 in a full run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Phase1 {
    /// Parameters that differ from the defaults, for each run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cases: Vec<BTreeMap<String, Value>>,
}

/// What phase 3 annotates.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Phase3 {
    /// Names of functions, or globs over names, files and modules.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub functions: Vec<String>,
}

/// Runs of phase 4 in addition to the sweeps of the parameters.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Phase4 {
    /// Parameters of the runs whose resources are recorded over time; by default one run with the
    /// default parameters.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub timelines: Vec<BTreeMap<String, Value>>,
    /// Additional sweeps in a full run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sweeps: Vec<ExtraSweep>,
}

/// A sweep of a parameter with other values of the remaining parameters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExtraSweep {
    /// The swept parameter.
    pub parameter: String,
    /// Its values.
    pub values: Vec<Value>,
    /// Values of the other parameters.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub with: BTreeMap<String, Value>,
    /// Fresh processes for each value; by default as many as for other sweeps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repeats: Option<u32>,
    /// Mean time of one process, in seconds, for estimates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimate_s: Option<f64>,
}

/// A command that measures one operation of one component and prints a report of the runner
/// protocol.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Benchmark {
    /// Name of the component.
    pub component: String,
    /// Name of the operation.
    pub operation: String,
    /// The program and its arguments. `baseline` names the placeholders.
    pub command: Vec<String>,
    /// Variables added to the environment. Values may contain placeholders.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
    /// Configuration files that the program reads. Each process gets edited copies.
    #[serde(
        default,
        deserialize_with = "config::one_or_many",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub config: Vec<Config>,
    /// Parameters and their values when they are not varied.
    pub baseline: BTreeMap<String, Value>,
    /// Sizes to vary, one at a time. Scaling laws are fitted to them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sweep: BTreeMap<String, Values>,
    /// Configurations to compare. The first of each list is the baseline.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub arms: BTreeMap<String, Values>,
    /// The metric by which arms are compared.
    pub metric: String,
    /// True if every arm must compute the same result. The digests are compared.
    #[serde(default)]
    pub same_answer: bool,
    /// True if a quick run skips it.
    #[serde(default)]
    pub full_only: bool,
    /// Time of one process, in seconds, for estimates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimate_s: Option<f64>,
}

/// Values for both modes or for each mode.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Values {
    /// The same values in both modes.
    Same(Vec<Value>),
    /// Different values for each mode.
    PerMode {
        /// Values in a quick run.
        quick: Vec<Value>,
        /// Values in a full run.
        full: Vec<Value>,
    },
}

impl Values {
    /// Returns the values for a mode.
    pub fn for_mode(&self, mode: Mode) -> &[Value] {
        match (self, mode) {
            (Values::Same(values), _) => values,
            (Values::PerMode { quick, .. }, Mode::Quick) => quick,
            (Values::PerMode { full, .. }, Mode::Full) => full,
        }
    }
}

impl Parameter {
    /// Returns the values of the sweep in a mode; empty if the parameter is not swept.
    pub fn values(&self, mode: Mode) -> Vec<Value> {
        match mode {
            Mode::Full => self.sweep.clone(),
            Mode::Quick if self.quick.is_empty() => spread(&self.sweep, QUICK_SIZES),
            Mode::Quick => self.quick.clone(),
        }
    }
}

/// Number of sizes in a quick sweep: the fewest that a scaling law can be fitted to.
const QUICK_SIZES: usize = 5;

/// Returns at most `max` of `values`, evenly spread, including both ends.
fn spread(values: &[Value], max: usize) -> Vec<Value> {
    if values.len() <= max {
        return values.to_vec();
    }
    (0..max).map(|index| values[index * (values.len() - 1) / (max - 1)].clone()).collect()
}

impl Spec {
    /// Parses a spec. `origin` names it in errors.
    ///
    /// # Errors
    /// Returns an error if it is not TOML, or has an unknown key or a value of a wrong type. The
    /// message has the position and the most similar key.
    pub fn parse(text: &str, origin: &str) -> Result<Spec, SpecError> {
        toml::from_str(text).map_err(|error| SpecError::from_toml(origin, &error))
    }

    /// Loads a spec from a file.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read, or as [`Spec::parse`].
    pub fn load(path: &Path) -> Result<Spec, SpecError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| SpecError::Unreadable { path: path.to_owned(), source })?;
        log::info!("read the spec {}", path.display());
        let mut spec = Spec::parse(&text, &path.display().to_string())?;
        let folder = path.parent().unwrap_or(Path::new("."));
        if let Some(directory) = &mut spec.target.directory {
            *directory = folder.join(&directory);
        }
        if let Some(input) = &mut spec.target.input {
            *input = folder.join(&input);
        }
        Ok(spec)
    }

    /// Returns the default of every parameter.
    pub fn defaults(&self) -> BTreeMap<String, Value> {
        self.parameters
            .iter()
            .map(|(name, parameter)| (name.clone(), parameter.default.clone()))
            .collect()
    }

    /// Sets the default of a parameter from the text `name=value`.
    ///
    /// # Errors
    /// Returns an error if there is no `=`, no such parameter, or the default is a number and the
    /// value is not.
    pub fn set(&mut self, assignment: &str) -> Result<(), SpecError> {
        let (name, value) = assignment
            .split_once('=')
            .ok_or_else(|| SpecError::Assignment { text: assignment.to_owned() })?;
        let names: Vec<&str> = self.parameters.keys().map(String::as_str).collect();
        let hint = nearest(name, &names);
        match self.parameters.get_mut(name) {
            Some(parameter) => {
                let value = Value::parse(value);
                if parameter.default.as_number().is_some() && value.as_number().is_none() {
                    let (key, value) = (format!("--set {name}"), format!("`{value}`"));
                    return Err(SpecError::Value {
                        key,
                        value,
                        want: "a number, because its default is one",
                    });
                }
                parameter.default = value;
                Ok(())
            }
            None => Err(SpecError::UnknownParameter { name: name.to_owned(), hint }),
        }
    }

    /// Checks names that must exist, and ranges of values.
    ///
    /// # Errors
    /// Returns the first error that it finds.
    pub fn check(&self) -> Result<(), SpecError> {
        self.check_parameter_sets()?;
        self.benchmark.iter().try_for_each(Benchmark::check)?;
        if let Some(step) = &self.target.step {
            step.rule()?;
        }
        if let Some(limit) =
            self.target.timeout_s.filter(|limit| !(*limit > 0.0 && *limit <= MAX_TIMEOUT_S))
        {
            return Err(SpecError::Value {
                key: "target.timeout_s".into(),
                value: limit.to_string(),
                want: "a number of seconds above 0 and at most a year",
            });
        }
        self.readiness.check()
    }

    /// Checks that every set of parameters names parameters that exist.
    fn check_parameter_sets(&self) -> Result<(), SpecError> {
        let with = self.parameters.values().map(|parameter| &parameter.with);
        let extra = self.phase4.sweeps.iter();
        let sets = with
            .chain(&self.phase1.cases)
            .chain(&self.phase4.timelines)
            .chain(extra.clone().map(|sweep| &sweep.with));
        let known: Vec<&str> = self.parameters.keys().map(String::as_str).collect();
        let named = sets.flat_map(BTreeMap::keys).chain(extra.map(|sweep| &sweep.parameter));
        for name in named {
            if !self.parameters.contains_key(name) {
                return Err(SpecError::UnknownParameter {
                    name: name.clone(),
                    hint: nearest(name, &known),
                });
            }
        }
        Ok(())
    }
}

impl Benchmark {
    /// Returns `component/operation`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.component, self.operation)
    }

    fn check(&self) -> Result<(), SpecError> {
        let known: Vec<&str> = self.baseline.keys().map(String::as_str).collect();
        for (name, values) in self.sweep.iter().chain(&self.arms) {
            if !self.baseline.contains_key(name) {
                return Err(SpecError::UnknownParameter {
                    name: name.clone(),
                    hint: nearest(name, &known),
                });
            }
            if values.for_mode(Mode::Full).is_empty() {
                let key = format!("benchmark {} {name}", self.name());
                return Err(SpecError::Value {
                    key,
                    value: "[]".into(),
                    want: "at least one value",
                });
            }
        }
        if self.command.is_empty() {
            let key = format!("benchmark {} command", self.name());
            return Err(SpecError::Value {
                key,
                value: "[]".into(),
                want: "a program and its arguments",
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_specs_are_valid() {
        for (text, name) in [(REFERENCE, "reference.toml"), (INIT, "init.toml")] {
            let spec = Spec::parse(text, name).unwrap_or_else(|error| panic!("{error}"));
            spec.check().unwrap_or_else(|error| panic!("{name}: {error}"));
        }
    }

    #[test]
    fn an_unknown_key_is_an_error_that_suggests_the_most_similar() {
        let error =
            Spec::parse("[target]\ncomand = [\"x\"]\n", "simprof.toml").expect_err("unknown key");
        let text = error.to_string();
        assert!(text.contains("simprof.toml") && text.contains("line 2"), "{text}");
        assert!(text.contains("`comand`") && text.contains("did you mean `command`"), "{text}");
    }

    #[test]
    fn a_wrong_type_is_an_error() {
        let error =
            Spec::parse("[target]\ncommand = \"x\"\n", "simprof.toml").expect_err("wrong type");
        assert!(error.to_string().contains("expected a sequence"), "{error}");
    }

    #[test]
    fn setting_an_unknown_parameter_is_an_error() {
        let mut spec = Spec::parse("[parameters]\nagents = { default = 5 }\n", "s").expect("valid");
        spec.set("agents=7").expect("known");
        assert_eq!(spec.defaults()["agents"], Value::Integer(7));
        let error = spec.set("agent=7").expect_err("unknown").to_string();
        assert!(error.contains("did you mean `agents`"), "{error}");
        assert!(spec.set("agents").is_err());
    }

    #[test]
    fn a_case_with_an_unknown_parameter_is_an_error() {
        let text = "[parameters]\nagents = { default = 5 }\n[phase1]\ncases = [{ agnets = 3 }]\n";
        let error = Spec::parse(text, "s").expect("well formed").check().expect_err("unknown");
        assert!(error.to_string().contains("agnets"), "{error}");
    }

    #[test]
    fn a_quick_sweep_keeps_both_ends() {
        let sweep: Vec<Value> = (1..=9).map(Value::Integer).collect();
        let parameter =
            Parameter { default: Value::Integer(1), sweep, quick: vec![], with: BTreeMap::new() };
        let quick: Vec<f64> =
            parameter.values(Mode::Quick).iter().filter_map(Value::as_number).collect();
        assert_eq!(quick, [1.0, 3.0, 5.0, 7.0, 9.0]);
        assert_eq!(parameter.values(Mode::Full).len(), 9);
    }
}
