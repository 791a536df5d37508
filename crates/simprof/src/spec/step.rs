//! How steps are recognised if the program does not mark them.

use serde::{Deserialize, Serialize};

use super::SpecError;

/// The key `step` of the spec.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(
    untagged,
    deny_unknown_fields,
    expecting = "`step` must be \"module:function\", { begin = \"module:function\" }, { end = \"module:function\" } \
                 or { output = \"a regular expression\" }"
)]
pub enum StepSource {
    /// By the lines of the program's output.
    Output {
        /// A regular expression. Its first group is the number of the step.
        output: String,
    },
    /// By the beginnings of the calls of a Python function.
    Begin {
        /// `module:Class.function`.
        begin: String,
    },
    /// By the ends of the calls of a Python function.
    End {
        /// `module:Class.function`.
        end: String,
    },
    /// By the calls of a Python function: `module:Class.function`.
    Function(String),
}

/// A parsed rule that recognises steps.
#[derive(Debug, Clone)]
pub enum StepRule {
    /// A matching line of the output begins a step.
    Pattern(regex::Regex),
    /// The calls of the function delimit steps.
    Function(StepFunction),
}

/// A Python function whose calls delimit steps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepFunction {
    /// Module with its packages; `__main__` for the program itself.
    pub module: String,
    /// Name in the module, with its class.
    pub name: String,
    /// How its calls delimit steps.
    pub span: StepSpan,
}

/// How the calls of a function delimit steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepSpan {
    /// Each call is a step.
    Call,
    /// A step lasts from the beginning of a call to the beginning of the next.
    Begins,
    /// A step lasts from the end of a call to the end of the next.
    Ends,
}

impl StepSource {
    /// Parses the rule.
    ///
    /// # Errors
    /// Returns an error if the pattern is not a regular expression, or the name is not that of a
    /// function.
    pub fn rule(&self) -> Result<StepRule, SpecError> {
        match self {
            StepSource::Output { output } => {
                regex::Regex::new(output).map(StepRule::Pattern).map_err(|source| {
                    SpecError::Pattern { pattern: output.clone(), source: Box::new(source) }
                })
            }
            StepSource::Begin { begin } => function_rule(begin, StepSpan::Begins),
            StepSource::End { end } => function_rule(end, StepSpan::Ends),
            StepSource::Function(name) => function_rule(name, StepSpan::Call),
        }
    }
}

fn function_rule(name: &str, span: StepSpan) -> Result<StepRule, SpecError> {
    match StepFunction::parse(name, span) {
        Some(function) => Ok(StepRule::Function(function)),
        None => Err(SpecError::StepFunction { name: name.to_owned() }),
    }
}

impl StepRule {
    /// Returns the pattern, if the rule is one.
    pub fn pattern(&self) -> Option<&regex::Regex> {
        match self {
            StepRule::Pattern(pattern) => Some(pattern),
            StepRule::Function(_) => None,
        }
    }

    /// Returns the function, if the rule is one.
    pub fn function(&self) -> Option<&StepFunction> {
        match self {
            StepRule::Pattern(_) => None,
            StepRule::Function(function) => Some(function),
        }
    }
}

impl StepFunction {
    /// Parses `package.module:Class.function`.
    fn parse(text: &str, span: StepSpan) -> Option<Self> {
        let (module, name) = text.split_once(':')?;
        let dotted = |text: &str| text.split('.').all(is_identifier);
        (dotted(module) && dotted(name)).then(|| Self {
            module: module.to_owned(),
            name: name.to_owned(),
            span,
        })
    }
}

impl std::fmt::Display for StepFunction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.module, self.name)
    }
}

fn is_identifier(text: &str) -> bool {
    let letter = |c: char| c == '_' || c.is_alphabetic();
    text.starts_with(letter) && text.chars().all(|c| c == '_' || c.is_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(text: &str) -> Result<StepRule, SpecError> {
        StepSource::Function(text.to_owned()).rule()
    }

    #[test]
    fn python_functions_have_a_module_and_a_name() {
        for text in ["sim.model:Model.step", "__main__:step", "größe:_1.é"] {
            let rule = rule(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(rule.function().expect("a function").to_string(), text);
            assert!(rule.pattern().is_none());
        }
    }

    #[test]
    fn calls_delimit_steps_as_the_key_says() {
        #[derive(Deserialize)]
        struct Keys {
            step: StepSource,
        }
        for (text, span) in [
            ("\"sim:f\"", StepSpan::Call),
            ("{ begin = \"sim:f\" }", StepSpan::Begins),
            ("{ end = \"sim:f\" }", StepSpan::Ends),
        ] {
            let keys: Keys = toml::from_str(&format!("step = {text}")).expect(text);
            let rule = keys.step.rule().expect(text);
            assert_eq!(rule.function().map(|function| function.span), Some(span), "{text}");
        }
        for text in ["{ begin = \"sim:f\", end = \"sim:g\" }", "{ start = \"sim:f\" }", "3"] {
            let error = toml::from_str::<Keys>(&format!("step = {text}")).err().expect(text);
            assert!(error.to_string().contains("{ begin = "), "{error}");
        }
        assert!(matches!(
            StepSource::Begin { begin: "f".into() }.rule(),
            Err(SpecError::StepFunction { .. })
        ));
    }

    #[test]
    fn other_names_are_errors_with_a_fix() {
        for text in [
            "crate::Model::step",
            "sim.model.Model.step",
            "sim:Model.step()",
            "sim:",
            ":step",
            "a b:c",
            "1a:b",
            "sim/model.py:step",
        ] {
            let error = rule(text).expect_err(text).to_string();
            assert!(error.contains(text) && error.contains("package.module:Class.step"), "{error}");
        }
        let pattern = StepSource::Output { output: "(".into() };
        assert!(matches!(pattern.rule(), Err(SpecError::Pattern { .. })));
    }
}
