//! Edits of a configuration file, with placeholders in their values.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use simprof_model::Value;

use super::command_template::TemplateError;
use super::config::Config;
use super::placeholder::{Strictness, TextTemplate};
use crate::configuration::{Edit, Format, KeyPath, Mode};

/// A configuration file and the edits of its copies.
#[derive(Debug, Clone, PartialEq)]
pub struct ConfigTemplate {
    /// Path of the file in the spec.
    pub file: PathBuf,
    /// Name of the placeholder for the path of the copy.
    pub placeholder: String,
    edits: Vec<EditTemplate>,
}

#[derive(Debug, Clone, PartialEq)]
struct EditTemplate {
    path: KeyPath,
    mode: Mode,
    value: ValueTemplate,
}

#[derive(Debug, Clone, PartialEq)]
enum ValueTemplate {
    Text(TextTemplate),
    Fixed(toml::Value),
    List(Vec<ValueTemplate>),
    Table(BTreeMap<String, ValueTemplate>),
}

impl ConfigTemplate {
    /// Parses the edits of a file. The file is not read.
    ///
    /// # Errors
    /// Returns an error if the extension of the file is unknown, no key or one key twice is set,
    /// the path of a key is malformed, or a placeholder is wrong.
    pub fn parse(config: &Config, known: &[&str]) -> Result<Self, TemplateError> {
        Format::from_path(&config.file)
            .map_err(|error| TemplateError::Format(error.to_string()))?;
        let mut edits = Vec::new();
        for (mode, table) in [(Mode::Set, &config.set), (Mode::Add, &config.add)] {
            collect(&KeyPath::default(), table, mode, known, &mut edits)?;
        }
        if edits.is_empty() {
            return Err(TemplateError::NothingSet);
        }
        let is_duplicate = |at: usize| edits[..at].iter().any(|edit| edit.path == edits[at].path);
        if let Some(at) = (0..edits.len()).find(|at| is_duplicate(*at)) {
            return Err(TemplateError::SetTwice { path: edits[at].path.to_string() });
        }
        Ok(Self { file: config.file.clone(), placeholder: config.placeholder.clone(), edits })
    }

    /// Returns the names of all placeholders in its values.
    pub fn placeholders(&self) -> Vec<&str> {
        let mut names = Vec::new();
        self.edits.iter().for_each(|edit| edit.value.placeholders(&mut names));
        names
    }

    /// Returns the edits with the placeholders filled in.
    pub fn edits(&self, values: &BTreeMap<String, Value>) -> Vec<Edit> {
        let edit = |edit: &EditTemplate| Edit {
            path: edit.path.clone(),
            mode: edit.mode,
            value: edit.value.fill(values),
        };
        self.edits.iter().map(edit).collect()
    }

    /// Returns the path of the copy in the folder of copies.
    pub fn copy(&self, folder: &Path) -> PathBuf {
        folder.join(&self.placeholder).join(self.file.file_name().unwrap_or_default())
    }
}

/// Collects the edits of a table. Nested tables are paths: `{ a = { b = 1 } }` sets `a.b`.
fn collect(
    parent: &KeyPath,
    table: &toml::Table,
    mode: Mode,
    known: &[&str],
    edits: &mut Vec<EditTemplate>,
) -> Result<(), TemplateError> {
    for (key, value) in table {
        let path = parent.join(&KeyPath::parse(key)?);
        match value {
            toml::Value::Table(inner) => collect(&path, inner, mode, known, edits)?,
            value => {
                let value = ValueTemplate::parse(value, known)?;
                edits.push(EditTemplate { path, mode, value });
            }
        }
    }
    Ok(())
}

impl ValueTemplate {
    fn parse(value: &toml::Value, known: &[&str]) -> Result<Self, TemplateError> {
        Ok(match value {
            toml::Value::String(text) => {
                Self::Text(TextTemplate::parse(text, known, Strictness::Strict)?)
            }
            toml::Value::Array(items) => {
                let item = |item| Self::parse(item, known);
                Self::List(items.iter().map(item).collect::<Result<_, _>>()?)
            }
            toml::Value::Table(table) => {
                let entry =
                    |(key, value): (&String, _)| Ok((key.clone(), Self::parse(value, known)?));
                Self::Table(table.iter().map(entry).collect::<Result<_, TemplateError>>()?)
            }
            fixed => Self::Fixed(fixed.clone()),
        })
    }

    fn placeholders<'t>(&'t self, names: &mut Vec<&'t str>) {
        match self {
            Self::Text(text) => names.extend(text.placeholders()),
            Self::Fixed(_) => {}
            Self::List(items) => items.iter().for_each(|item| item.placeholders(names)),
            Self::Table(table) => table.values().for_each(|value| value.placeholders(names)),
        }
    }

    /// Returns the value. A text that is only a placeholder gets the type of its parameter; every
    /// other text stays a text.
    fn fill(&self, values: &BTreeMap<String, Value>) -> toml::Value {
        match self {
            Self::Text(text) => match text.sole_placeholder().and_then(|name| values.get(name)) {
                Some(Value::Integer(number)) => toml::Value::Integer(*number),
                Some(Value::Float(number)) => toml::Value::Float(*number),
                Some(Value::Text(text)) => toml::Value::String(text.clone()),
                None => toml::Value::String(text.fill(values)),
            },
            Self::Fixed(value) => value.clone(),
            Self::List(items) => {
                toml::Value::Array(items.iter().map(|item| item.fill(values)).collect())
            }
            Self::Table(table) => toml::Value::Table(
                table.iter().map(|(key, value)| (key.clone(), value.fill(values))).collect(),
            ),
        }
    }
}
