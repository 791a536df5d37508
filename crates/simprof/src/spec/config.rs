//! The key `config`: configuration files of the target. Each process gets edited copies of them.

use std::fmt;
use std::path::PathBuf;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use toml::Table;

/// A configuration file and the edits of its copies.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Path relative to the target's working folder. The file is never written.
    pub file: PathBuf,
    /// Name of the placeholder for the path of the copy.
    #[serde(default = "default_placeholder", skip_serializing_if = "is_default_placeholder")]
    pub placeholder: String,
    /// New values of existing keys, by path. Texts may contain placeholders.
    #[serde(default, skip_serializing_if = "Table::is_empty")]
    pub set: Table,
    /// Keys to add, by path, with their values.
    #[serde(default, skip_serializing_if = "Table::is_empty")]
    pub add: Table,
}

fn default_placeholder() -> String {
    "config".to_owned()
}

fn is_default_placeholder(name: &str) -> bool {
    name == default_placeholder()
}

impl Config {
    /// Returns true if the path of the copy is passed to the program: in `texts` (its arguments and
    /// environment), or in another file of `all` whose path is passed.
    pub fn is_reached<'t>(&'t self, all: &'t [Config], texts: &[&'t String]) -> bool {
        let told_by = |config: &Config, texts: &[&String]| {
            let placeholder = format!("{{{}}}", config.placeholder);
            texts.iter().any(|text| text.contains(&placeholder))
        };
        let (mut texts, mut rest) = (texts.to_vec(), all.iter().collect::<Vec<_>>());
        loop {
            if told_by(self, &texts) {
                return true;
            }
            let (reached, others): (Vec<_>, Vec<_>) =
                rest.into_iter().partition(|config| told_by(config, &texts));
            if reached.is_empty() {
                return false;
            }
            texts.extend(reached.into_iter().flat_map(Config::texts));
            rest = others;
        }
    }

    /// Returns all texts in its values.
    pub fn texts(&self) -> Vec<&String> {
        let mut list = Vec::new();
        self.set.values().chain(self.add.values()).for_each(|value| texts(value, &mut list));
        list
    }
}

fn texts<'v>(value: &'v toml::Value, found: &mut Vec<&'v String>) {
    match value {
        toml::Value::String(text) => found.push(text),
        toml::Value::Array(items) => items.iter().for_each(|item| texts(item, found)),
        toml::Value::Table(table) => table.values().for_each(|value| texts(value, found)),
        _ => {}
    }
}

/// Deserialises one table or a list of tables.
pub fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Config>, D::Error> {
    struct OneOrMany;
    impl<'de> Visitor<'de> for OneOrMany {
        type Value = Vec<Config>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a table with `file` and `set`, or a list of such tables")
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
            Ok(vec![Config::deserialize(MapAccessDeserializer::new(map))?])
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            let mut configs = Vec::new();
            while let Some(config) = list.next_element()? {
                configs.push(config);
            }
            Ok(configs)
        }
    }
    deserializer.deserialize_any(OneOrMany)
}
