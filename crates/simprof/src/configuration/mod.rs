//! Configuration files of the target: read, never written; edited copies are made for its processes.
//!
//! A copy is the text of the file with only the values replaced that are set: comments, order, and the way in
//! which other values are written stay, so that no reader of the format can see another difference. After each
//! replacement the copy is read again and compared with what was meant.

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

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// YAML 1.2, and 1.1 as far as values that are set go.
    Yaml,
    /// TOML 1.0.
    Toml,
    /// JSON.
    Json,
}

impl Format {
    /// The format that the ending of a file's name tells.
    ///
    /// # Errors
    /// Where it is none of the three.
    pub fn of(path: &Path) -> Result<Format, ConfigurationError> {
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

    fn parse(self, text: &str) -> Result<Node, Unreadable> {
        match self {
            Format::Yaml => yaml::parse(text),
            Format::Toml => toml_::parse(text),
            Format::Json => json::parse(text),
        }
    }

    /// A value as it is written on one line of a file; none where the format cannot hold it.
    fn literal(self, value: &toml::Value) -> Option<String> {
        match self {
            Format::Yaml => Some(yaml::literal(value)),
            Format::Toml => Some(toml_::literal(value)),
            Format::Json => json::literal(value),
        }
    }
}

/// Why a text is not of its format.
#[derive(Debug)]
struct Unreadable {
    /// Counted from 1.
    line: usize,
    message: String,
}

/// A file as it was read, from which copies are made.
#[derive(Debug, Clone)]
pub struct Original {
    /// As the spec names it.
    name: PathBuf,
    format: Format,
    text: String,
}

impl Original {
    /// Reads the file that the spec calls `name`, relative to the target's working folder.
    ///
    /// # Errors
    /// Where it cannot be read, its ending tells no format, or it is not of that.
    pub fn load(name: &Path, directory: Option<&Path>) -> Result<Self, ConfigurationError> {
        let format = Format::of(name)?;
        let path = directory.map_or_else(|| name.to_owned(), |directory| directory.join(name));
        let text = std::fs::read_to_string(&path)
            .map_err(|source| ConfigurationError::Unreadable { path, source })?;
        let original = Self { name: name.to_owned(), format, text };
        original.format.parse(&original.text).map_err(|error| original.unreadable(error))?;
        Ok(original)
    }

    /// As the spec names it.
    pub fn name(&self) -> &Path {
        &self.name
    }

    /// What it held when it was read.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The text with `edits` made, one after the other.
    ///
    /// # Errors
    /// Where a key is not there (or is, and is to be added), holds what cannot be replaced by the value, or is
    /// written in a way that cannot be edited.
    pub fn edited(&self, edits: &[Edit]) -> Result<String, ConfigurationError> {
        edits.iter().try_fold(self.text.clone(), |text, edit| {
            let tree = self.format.parse(&text).map_err(|error| self.unreadable(error))?;
            edit.apply(self.format, &text, &tree)
                .map_err(|error| ConfigurationError::Edit { path: self.name.clone(), error })
        })
    }

    fn unreadable(&self, error: Unreadable) -> ConfigurationError {
        ConfigurationError::Malformed {
            path: self.name.clone(),
            format: self.format.name(),
            line: error.line,
            message: error.message,
        }
    }
}
