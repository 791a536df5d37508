//! Configuration files of the target. They are read but never written: processes get edited copies.
//!
//! A copy is the text of the file with only the edited values replaced. Comments, order, and the
//! notation of other values stay, so that no parser of the format sees another difference. After
//! each edit the copy is parsed again and compared with the expected content.

mod edit;
mod error;
mod json;
mod path;
#[cfg(test)]
mod tests;
mod toml_;
mod tree;
mod yaml;

use std::path::{Path, PathBuf};

pub use edit::{Edit, Mode};
pub use error::{ConfigurationError, EditError};
pub use path::KeyPath;

use self::tree::Node;

/// The format of a configuration file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// YAML 1.2. Values are written so that parsers of YAML 1.1 read the same.
    Yaml,
    /// TOML 1.0.
    Toml,
    /// JSON.
    Json,
}

impl Format {
    /// Returns the format for the extension of a file name.
    ///
    /// # Errors
    /// Returns an error if the extension is unknown.
    pub fn from_path(path: &Path) -> Result<Format, ConfigurationError> {
        let ending = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
        match ending.as_str() {
            "yaml" | "yml" => Ok(Format::Yaml),
            "toml" => Ok(Format::Toml),
            "json" => Ok(Format::Json),
            _ => Err(ConfigurationError::Format { path: path.to_owned() }),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Format::Yaml => "YAML",
            Format::Toml => "TOML",
            Format::Json => "JSON",
        }
    }

    fn parse(self, text: &str) -> Result<Node, ParseError> {
        match self {
            Format::Yaml => yaml::parse(text),
            Format::Toml => toml_::parse(text),
            Format::Json => json::parse(text),
        }
    }

    /// Formats a value on one line. Returns `None` if the format cannot represent it.
    fn literal(self, value: &toml::Value) -> Option<String> {
        match self {
            Format::Yaml => Some(yaml::literal(value)),
            Format::Toml => Some(toml_::literal(value)),
            Format::Json => json::literal(value),
        }
    }
}

/// Why a text cannot be parsed.
#[derive(Debug)]
struct ParseError {
    /// Line number, counted from 1.
    line: usize,
    message: String,
}

/// A configuration file as it was read, from which copies are made.
#[derive(Debug, Clone)]
pub struct Original {
    /// Path of the file in the spec.
    name: PathBuf,
    format: Format,
    text: String,
}

impl Original {
    /// Reads a file. `name` is its path relative to the target's working folder.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read, its extension is unknown, or it cannot be
    /// parsed.
    pub fn load(name: &Path, directory: Option<&Path>) -> Result<Self, ConfigurationError> {
        let format = Format::from_path(name)?;
        let path = directory.map_or_else(|| name.to_owned(), |directory| directory.join(name));
        log::info!("reading the configuration file {}", path.display());
        let text = std::fs::read_to_string(&path)
            .map_err(|source| ConfigurationError::Unreadable { path, source })?;
        let original = Self { name: name.to_owned(), format, text };
        original.format.parse(&original.text).map_err(|error| original.unreadable(error))?;
        Ok(original)
    }

    /// Returns the path of the file in the spec.
    pub fn name(&self) -> &Path {
        &self.name
    }

    /// Returns the text that was read.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Returns the text with `edits` applied in order.
    ///
    /// # Errors
    /// Returns an error if a key to set does not exist, a key to add exists, a value would replace
    /// a table or a list, or the key is written in a way that cannot be edited.
    pub fn edited(&self, edits: &[Edit]) -> Result<String, ConfigurationError> {
        edits.iter().try_fold(self.text.clone(), |text, edit| {
            let tree = self.format.parse(&text).map_err(|error| self.unreadable(error))?;
            edit.apply(self.format, &text, &tree)
                .map_err(|error| ConfigurationError::Edit { path: self.name.clone(), error })
        })
    }

    fn unreadable(&self, error: ParseError) -> ConfigurationError {
        ConfigurationError::Malformed {
            path: self.name.clone(),
            format: self.format.name(),
            line: error.line,
            message: error.message,
        }
    }
}
