//! What a person is told: a reader who has gone away is no reason to stop measuring.

use std::io::{self, Write};

use simprof_report::format::shorten;

/// Writes a line to standard error, as well as that can be done.
pub fn say(line: &str) {
    // There is nobody left to tell that this failed.
    let _ = writeln!(io::stderr().lock(), "{}", plain(&shorten(line)));
}

/// Text as a terminal may show it: names and words of a target can hold control characters, which would
/// command the terminal; they are replaced. Line ends and tabs stay.
fn plain(text: &str) -> String {
    let shown = |c: char| if c.is_control() && c != '\n' && c != '\t' { '\u{FFFD}' } else { c };
    text.chars().map(shown).collect()
}

/// Writes text to standard output.
///
/// # Errors
/// Where it cannot be written; a closed pipe among the reasons.
pub fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(plain(text).as_bytes())?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_cannot_command_the_terminal() {
        assert_eq!(plain("a\u{1b}[2Jb\n\tc\u{9b}d"), "a\u{FFFD}[2Jb\n\tc\u{FFFD}d");
    }
}
