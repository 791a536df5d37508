//! Imports profiles that other programs wrote. Each format is a file of this folder and a row of [`FORMATS`].
//!
//! A format is recognised by the content of a file, never by its name. Every reader is bounded: for any input, the
//! memory that it takes is a small multiple of the input's size.

mod folded;
mod foreign;
mod marshal;
mod pstats;
mod sampled;
mod speedscope;
mod text;
mod weight;

use simprof_model::{CallProfile, Notice, Profile};

use crate::RecordError;

/// An imported profile.
#[derive(Debug, Clone, PartialEq)]
pub enum Imported {
    /// Every call of a program, counted and timed.
    Calls(CallProfile),
    /// Stacks of a program.
    Stacks(Box<ImportedStacks>),
}

/// Stacks that another program recorded.
#[derive(Debug, Clone, PartialEq)]
pub struct ImportedStacks {
    /// The stacks. If the unit is [`Unit::Samples`], the kind of their weights has no meaning.
    pub profile: Profile,
    /// The unit of the weights in the file.
    pub unit: Unit,
    /// How many units of the profile's weights are one of the file's: a power of ten, above 1 if the file has fractions.
    pub units: u64,
    /// What could not be read, or was read in one of several possible ways.
    pub notices: Vec<Notice>,
}

/// The unit of the weights of imported stacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Nanoseconds.
    Nanoseconds,
    /// Bytes.
    Bytes,
    /// Numbers of samples, or a unit that the file does not name.
    Samples,
}

/// A format that can be read.
pub struct Format {
    /// Its name.
    pub name: &'static str,
    /// A few words about what it is and which programs write it.
    pub description: &'static str,
    recognises: fn(&[u8]) -> bool,
    read: fn(&[u8]) -> Result<Imported, Malformed>,
}

/// The problem with a file of a known format, and its position.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Malformed {
    /// The file is damaged, or its end is missing.
    Damaged(String),
    /// A part of the file is not possible, or cannot be interpreted.
    Invalid(String),
}

/// All formats, in the order in which they are tried. To add one, add a file and a row.
pub const FORMATS: [Format; 3] = [
    Format {
        name: "pstats",
        description: "cProfile's calls and times, as `python -m cProfile -o FILE` writes them",
        recognises: pstats::recognises,
        read: pstats::read,
    },
    Format {
        name: "speedscope",
        description: "JSON of speedscope.app, as simprof and py-spy write it",
        recognises: speedscope::recognises,
        read: speedscope::read,
    },
    Format {
        name: "folded",
        description: "folded stacks: lines of `root;caller;leaf weight`",
        recognises: folded::recognises,
        read: folded::read,
    },
];

/// Reads a profile of any of the [`FORMATS`]. Returns the format's name and the profile.
///
/// # Errors
/// Returns [`RecordError::ProfileFormat`] if no format recognises the bytes, and [`RecordError::ProfileMalformed`] or
/// [`RecordError::ProfileInvalid`] if one does but cannot read them.
pub fn import(bytes: &[u8]) -> Result<(&'static str, Imported), RecordError> {
    const TABLE: &[Format] = &FORMATS;
    let bytes = &*text::decode(bytes);
    let Some(format) = TABLE.iter().find(|format| (format.recognises)(bytes)) else {
        return Err(RecordError::ProfileFormat { content: foreign::describe(bytes) });
    };
    let name = format.name;
    match (format.read)(bytes) {
        Ok(imported) => Ok((name, imported)),
        Err(Malformed::Damaged(reason)) => {
            Err(RecordError::ProfileMalformed { format: name, reason })
        }
        Err(Malformed::Invalid(reason)) => {
            Err(RecordError::ProfileInvalid { format: name, reason })
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn other_files_are_described_with_a_fix() {
        for (bytes, words) in [
            (&b""[..], "empty"),
            (b"PERFILE2\x68\0\0\0", "perf script"),
            (b"\x1f\x8b\x08\0\0\0", "gzip"),
            (b"\x7fELF\x02", "program"),
            (b"\xe3\0\0\0\0", "unknown kind"),
            (b"hello\nworld\n", "unknown kind"),
            (b"m\0a\0i\0n\0 \x003\0", "UTF-16"),
            (b"{\"traceEvents\": []}", "JSON"),
        ] {
            let error = import(bytes).expect_err("no profile").to_string();
            assert!(error.contains(words), "{words}: {error}");
        }
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_content() {
        let speedscope = r#"{"$schema": "https://www.speedscope.app/file-format-schema.json",
            "shared": {"frames": [{"name": "main"}]}, "profiles": [{"type": "sampled", "unit": "none",
            "samples": [[0]], "weights": [1]}]}"#;
        for text in ["main;a 3\nmain;b 1\n", speedscope] {
            let expected = import(text.as_bytes()).expect("it is read");
            let marked = format!("\u{feff}{text}");
            let utf16: Vec<u8> = marked.encode_utf16().flat_map(u16::to_le_bytes).collect();
            assert_eq!(import(marked.as_bytes()).expect("it is read"), expected);
            assert_eq!(import(&utf16).expect("it is read"), expected);
        }
    }

    proptest! {
        #[test]
        fn random_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = import(&bytes);
        }

        #[test]
        fn random_text_does_not_panic(text in "[{}\\[\\]\":,;a-z0-9. \\n]{0,200}") {
            let _ = import(text.as_bytes());
        }
    }
}
