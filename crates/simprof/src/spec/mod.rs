//! What a user says of a target: simprof.toml, read strictly.

mod config;
mod config_template;
mod error;
mod readiness;
mod step;
mod template;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use simprof_model::{Mode, Value};

pub use config::Config;
pub use config_template::ConfigTemplate;
pub use error::{SpecError, did_you_mean, nearest};
pub use readiness::Readiness;
pub use step::{StepFunction, StepRule, StepSource};
pub use template::{CommandSource, CommandTemplate, Strictness, TemplateError};

/// The spec of the reference simulation, written as a user would write one.
pub const REFERENCE: &str = include_str!("reference.toml");

/// The commented spec that `simprof init` writes.
pub const INIT: &str = include_str!("init.toml");

/// The longest time limit: a year, s.
pub const LONGEST_S: f64 = 31_536_000.0;

/// File that is read from the working folder where no other is named.
pub const FILE_NAME: &str = "simprof.toml";

/// All of a simprof.toml; every part is optional.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Spec {
    /// The program.
    pub target: Target,
    /// What it takes by arguments, variables or configuration files, by the name of the placeholder.
    pub parameters: BTreeMap<String, Parameter>,
    /// Named groups of functions: globs over function, module and file.
    pub components: BTreeMap<String, Vec<String>>,
    /// Further runs of phase 1.
    pub phase1: Phase1,
    /// Component benchmarks of phase 2.
    pub benchmark: Vec<Benchmark>,
    /// Functions that phase 3 looks at whatever the others choose.
    pub phase3: Phase3,
    /// Further runs of phase 4.
    pub phase4: Phase4,
    /// Thresholds.
    pub readiness: Readiness,
}

/// The program.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Target {
    /// Name for people; the program's file name where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// argv, with `{name}` placeholders.
    pub command: Vec<String>,
    /// Working folder, relative to the spec's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub directory: Option<PathBuf>,
    /// Added to the environment; values may hold placeholders.
    pub environment: BTreeMap<String, String>,
    /// Configuration files that it reads: copies are edited for each process.
    #[serde(deserialize_with = "config::one_or_many", skip_serializing_if = "Vec::is_empty")]
    pub config: Vec<Config>,
    /// argv of a command that builds the program, run once before all else.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub build: Vec<String>,
    /// Time limit of each process, seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_s: Option<f64>,
    /// How steps are told where the program does not mark them itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<StepSource>,
    /// What one run with the default parameters takes, seconds, where known: for estimates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub estimate_s: Option<f64>,
}

/// A parameter of the target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parameter {
    /// Used where it is not swept.
    pub default: Value,
    /// Values of phase 4's sweep, in the full run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sweep: Vec<Value>,
    /// Values in a quick run; a spread subset of `sweep` where absent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub quick: Vec<Value>,
    /// Other parameters' values while this one is swept.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub with: BTreeMap<String, Value>,
}

/// Further runs of phase 1, in the full run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Phase1 {
    /// Parameters that differ from the defaults.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cases: Vec<BTreeMap<String, Value>>,
}

/// What phase 3 looks at.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Phase3 {
    /// Globs over function names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub functions: Vec<String>,
}

/// Runs of phase 4 beside the sweeps.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Phase4 {
    /// Parameters of the runs whose resources are followed over time; the defaults where absent.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub timelines: Vec<BTreeMap<String, Value>>,
    /// Further sweeps, in the full run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sweeps: Vec<ExtraSweep>,
}

/// A sweep with other values of the other parameters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExtraSweep {
    /// The parameter that is swept.
    pub parameter: String,
    /// Its values.
    pub values: Vec<Value>,
    /// Other parameters' values meanwhile.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub with: BTreeMap<String, Value>,
    /// Fresh processes for each value; as for other sweeps where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repeats: Option<u32>,
    /// What one process takes on average, seconds: for estimates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimate_s: Option<f64>,
}

/// A command that measures one operation of one component and reports by the runner protocol.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Benchmark {
    /// Component.
    pub component: String,
    /// Operation.
    pub operation: String,
    /// argv, with placeholders named by `baseline`.
    pub command: Vec<String>,
    /// Added to the environment; values may hold placeholders.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
    /// Configuration files that it reads: copies are edited for each process.
    #[serde(
        default,
        deserialize_with = "config::one_or_many",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub config: Vec<Config>,
    /// Parameters and the values they have where they are not varied.
    pub baseline: BTreeMap<String, Value>,
    /// Sizes to vary, one at a time: laws are fitted over them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sweep: BTreeMap<String, Values>,
    /// Configurations to set side by side; the first of each list is the baseline of the comparison.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub arms: BTreeMap<String, Values>,
    /// The metric that arms are compared by.
    pub metric: String,
    /// True where every arm must compute the same answer (digests are compared).
    #[serde(default)]
    pub same_answer: bool,
    /// Left out of a quick run.
    #[serde(default)]
    pub full_only: bool,
    /// What one process takes, seconds: for estimates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimate_s: Option<f64>,
}

/// Values for a full run, or for each mode.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Values {
    /// The same for both modes.
    Both(Vec<Value>),
    /// Apart.
    Apart {
        /// In a quick run.
        quick: Vec<Value>,
        /// In the full run.
        full: Vec<Value>,
    },
}

impl Values {
    /// The values of a mode.
    pub fn of(&self, mode: Mode) -> &[Value] {
        match (self, mode) {
            (Values::Both(values), _) => values,
            (Values::Apart { quick, .. }, Mode::Quick) => quick,
            (Values::Apart { full, .. }, Mode::Full) => full,
        }
    }
}

impl Parameter {
    /// The values of its sweep in a mode; empty where it is not swept.
    pub fn values(&self, mode: Mode) -> Vec<Value> {
        match mode {
            Mode::Full => self.sweep.clone(),
            Mode::Quick if self.quick.is_empty() => spread(&self.sweep, QUICK_SIZES),
            Mode::Quick => self.quick.clone(),
        }
    }
}

/// Sizes of a quick sweep: the fewest that a law may be fitted to.
const QUICK_SIZES: usize = 5;

/// At most `most` of `values`, evenly spread, both ends among them.
fn spread(values: &[Value], most: usize) -> Vec<Value> {
    if values.len() <= most {
        return values.to_vec();
    }
    (0..most).map(|index| values[index * (values.len() - 1) / (most - 1)].clone()).collect()
}

impl Spec {
    /// Reads a spec from text; `origin` names it in errors.
    ///
    /// # Errors
    /// Where it is not TOML, or has an unknown key or a value of a wrong type: the message names the
    /// place and the nearest key.
    pub fn parse(text: &str, origin: &str) -> Result<Spec, SpecError> {
        toml::from_str(text).map_err(|error| SpecError::from_toml(origin, &error))
    }

    /// Reads a spec from a file.
    ///
    /// # Errors
    /// As [`Spec::parse`], or where the file cannot be read.
    pub fn load(path: &Path) -> Result<Spec, SpecError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| SpecError::Unreadable { path: path.to_owned(), source })?;
        let mut spec = Spec::parse(&text, &path.display().to_string())?;
        let folder = path.parent().unwrap_or(Path::new("."));
        if let Some(directory) = &mut spec.target.directory {
            *directory = folder.join(&directory);
        }
        Ok(spec)
    }

    /// The default of every parameter.
    pub fn defaults(&self) -> BTreeMap<String, Value> {
        self.parameters
            .iter()
            .map(|(name, parameter)| (name.clone(), parameter.default.clone()))
            .collect()
    }

    /// Sets the default of a parameter from `name=value` as typed.
    ///
    /// # Errors
    /// Where there is no `=` or no such parameter.
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
                        want: "a number, as its default is",
                    });
                }
                parameter.default = value;
                Ok(())
            }
            None => Err(SpecError::UnknownParameter { name: name.to_owned(), hint }),
        }
    }

    /// Checks what types cannot: names that must exist, values that must be there.
    ///
    /// # Errors
    /// The first thing that is wrong, named.
    pub fn check(&self) -> Result<(), SpecError> {
        self.check_parameter_sets()?;
        self.benchmark.iter().try_for_each(Benchmark::check)?;
        if let Some(step) = &self.target.step {
            step.rule()?;
        }
        if let Some(limit) =
            self.target.timeout_s.filter(|limit| !(*limit > 0.0 && *limit <= LONGEST_S))
        {
            return Err(SpecError::Value {
                key: "target.timeout_s".into(),
                value: limit.to_string(),
                want: "a number of seconds above 0, at most a year",
            });
        }
        self.readiness.check()
    }

    /// Every set of parameters must name parameters that exist.
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
    /// `component/operation`.
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
            if values.of(Mode::Full).is_empty() {
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
    fn the_specs_that_simprof_carries_are_valid() {
        for (text, name) in [(REFERENCE, "reference.toml"), (INIT, "init.toml")] {
            let spec = Spec::parse(text, name).unwrap_or_else(|error| panic!("{error}"));
            spec.check().unwrap_or_else(|error| panic!("{name}: {error}"));
        }
    }

    #[test]
    fn an_unknown_key_is_named_with_the_nearest() {
        let error =
            Spec::parse("[target]\ncomand = [\"x\"]\n", "simprof.toml").expect_err("unknown key");
        let text = error.to_string();
        assert!(text.contains("simprof.toml") && text.contains("line 2"), "{text}");
        assert!(text.contains("`comand`") && text.contains("did you mean `command`"), "{text}");
    }

    #[test]
    fn a_wrong_type_is_named() {
        let error =
            Spec::parse("[target]\ncommand = \"x\"\n", "simprof.toml").expect_err("wrong type");
        assert!(error.to_string().contains("expected a sequence"), "{error}");
    }

    #[test]
    fn setting_what_is_not_there_is_an_error() {
        let mut spec = Spec::parse("[parameters]\nagents = { default = 5 }\n", "s").expect("valid");
        spec.set("agents=7").expect("known");
        assert_eq!(spec.defaults()["agents"], Value::Integer(7));
        let error = spec.set("agent=7").expect_err("unknown").to_string();
        assert!(error.contains("did you mean `agents`"), "{error}");
        assert!(spec.set("agents").is_err());
    }

    #[test]
    fn a_case_must_name_parameters_that_exist() {
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
