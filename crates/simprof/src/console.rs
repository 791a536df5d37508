//! Output of the command: messages to standard error, results to standard output.
//!
//! A closed pipe does not stop a measurement.

use std::io::{self, Write};

use simprof_report::format::shorten;

use crate::text::without_controls;

/// Writes a line to standard error. A failure to write is ignored: no other channel could report it.
pub fn message(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{}", without_controls(&shorten(line)));
}

/// Writes text to standard output.
///
/// # Errors
/// Returns an error if it cannot be written, also if the reader has closed the pipe.
pub fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(without_controls(text).as_bytes())?;
    out.flush()
}
