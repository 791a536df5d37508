//! Logging of what simprof itself does, to standard error. It is off by default.
//!
//! `-v` logs at the level info: processes that are started and how they end, the event that stacks are sampled by, files
//! that are read and written. `-vv` adds details at the level debug. The variable [`VARIABLE`] selects levels for each
//! module, and is used if there is no `-v`.

use std::io::Write;

use log::LevelFilter;

use crate::text::without_controls;

/// The environment variable that sets log levels, such as `debug` or `simprof_record=debug`.
pub const VARIABLE: &str = "SIMPROF_LOG";

/// Prefix of the log targets of all crates of simprof.
const OWN_CRATES: &str = "simprof";

/// Starts logging. `verbose` is the number of `-v` flags.
pub fn start(verbose: u8) {
    let mut builder = env_logger::Builder::new();
    match (level(verbose), std::env::var(VARIABLE)) {
        (LevelFilter::Off, Ok(filters)) => builder.parse_filters(&filters),
        (level, _) => builder.filter_module(OWN_CRATES, level),
    };
    builder.format(|out, record| {
        let (level, target) = (record.level().as_str().to_ascii_lowercase(), record.target());
        let text = without_controls(&record.args().to_string());
        writeln!(out, "[{level} {target}] {text}")
    });
    builder.init();
}

/// Returns true if anything is logged. Progress bars, which log lines would tear, are not shown then.
pub fn is_on() -> bool {
    log::max_level() != LevelFilter::Off
}

fn level(verbose: u8) -> LevelFilter {
    match verbose {
        0 => LevelFilter::Off,
        1 => LevelFilter::Info,
        _ => LevelFilter::Debug,
    }
}

/// Returns an argument vector as one line. Arguments that contain spaces or quotes are quoted as in a shell.
pub fn command_line(argv: &[String]) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./=:,+@%{}[]".contains(c);
    let quoted = |argument: &String| {
        if !argument.is_empty() && argument.chars().all(plain) {
            argument.clone()
        } else {
            format!("'{}'", argument.replace('\'', r"'\''"))
        }
    };
    argv.iter().map(quoted).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_flag_raises_the_level() {
        assert_eq!(
            [0, 1, 2, 3].map(level),
            [LevelFilter::Off, LevelFilter::Info, LevelFilter::Debug, LevelFilter::Debug]
        );
    }

    #[test]
    fn command_lines_are_quoted_where_necessary() {
        let argv = ["./sim", "--n=3", "a b", "", "it's"].map(str::to_owned);
        assert_eq!(command_line(&argv), r"./sim --n=3 'a b' '' 'it'\''s'");
    }
}
