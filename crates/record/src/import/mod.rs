//! Profiles that other programs wrote: a table of formats, each a file of this folder.
//!
//! A format is told by what a file holds, never by its name. Every reader is bounded: whatever the bytes, the
//! memory that it takes is a small multiple of their number.

mod folded;
mod foreign;
mod marshal;
mod pstats;
mod sampled;
mod speedscope;

use simprof_model::{CallProfile, Profile};

use crate::RecordError;

/// A profile that was read.
#[derive(Debug, Clone, PartialEq)]
pub enum Imported {
    /// Every call of a program, counted and timed.
    Calls(CallProfile),
    /// Stacks of a program. The kind of their weights is nominal where the unit is [`Unit::Samples`].
    Stacks(Box<Profile>, Unit),
}

/// What the weights of imported stacks are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Nanoseconds.
    Nanoseconds,
    /// Bytes.
    Bytes,
    /// Numbers of samples, or what the file does not tell.
    Samples,
}

/// One format that can be read.
pub struct Format {
    /// Its name.
    pub name: &'static str,
    /// What it is and who writes it, in a few words.
    pub description: &'static str,
    recognises: fn(&[u8]) -> bool,
    read: fn(&[u8]) -> Result<Imported, Malformed>,
}

/// What is wrong with a file of a known format: where, in words, and what.
type Malformed = String;

/// All formats, tried in this order. A new one is a file and a row here.
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

/// Reads a profile of any format of [`FORMATS`]. Returns the format's name with it.
///
/// # Errors
/// [`RecordError::ProfileFormat`] where no format has such a beginning, [`RecordError::ProfileMalformed`] where
/// one has and the rest does not follow it.
pub fn import(bytes: &[u8]) -> Result<(&'static str, Imported), RecordError> {
    const TABLE: &[Format] = &FORMATS;
    let Some(format) = TABLE.iter().find(|format| (format.recognises)(bytes)) else {
        return Err(RecordError::ProfileFormat { found: foreign::describe(bytes) });
    };
    let read = (format.read)(bytes);
    let malformed = |reason| RecordError::ProfileMalformed { format: format.name, reason };
    Ok((format.name, read.map_err(malformed)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_no_profile_is_named_with_its_mend() {
        for (bytes, words) in [
            (&b""[..], "empty"),
            (b"PERFILE2\x68\0\0\0", "perf script"),
            (b"\x1f\x8b\x08\0\0\0", "gzip"),
            (b"\x7fELF\x02", "program"),
            (b"\xe3\0\0\0\0", "nothing that is known"),
            (b"hello\nworld\n", "nothing that is known"),
            (b"{\"traceEvents\": []}", "JSON"),
        ] {
            let error = import(bytes).expect_err("no profile").to_string();
            assert!(error.contains(words), "{words}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = import(&bytes);
        }

        #[test]
        fn no_text_makes_it_panic(text in "[{}\\[\\]\":,;a-z0-9. \\n]{0,200}") {
            let _ = import(text.as_bytes());
        }
    }
}
