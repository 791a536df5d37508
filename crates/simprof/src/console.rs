//! What a person is told: a reader who has gone away is no reason to stop measuring.

use std::io::{self, Write};

/// Writes a line to standard error, as well as that can be done.
pub fn say(line: &str) {
    // There is nobody left to tell that this failed.
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Writes text to standard output.
///
/// # Errors
/// Where it cannot be written; a closed pipe among the reasons.
pub fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}
