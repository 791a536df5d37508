//! The command line: commands, options and their help.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, Parser, Subcommand};

/// Profiles simulations: what is slow, why, where, and how it scales.
#[derive(Debug, Parser)]
#[command(name = "simprof", version, max_term_width = 100, after_help = ENVIRONMENT)]
pub struct Cli {
    /// The command.
    #[command(subcommand)]
    pub command: Command,
    /// Log to standard error what simprof does: processes that it starts, the sampling event, files that it writes.
    /// -vv logs more detail
    #[arg(short, long, global = true, action = ArgAction::Count, help_heading = "Logging")]
    pub verbose: u8,
}

const ENVIRONMENT: &str = "\
Environment:
  SIMPROF_LOG  What to log without -v: off, info (as -v) or debug (as -vv). For one
               part of simprof: simprof_record=debug [default: off]";

/// A command.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Profile a program in four phases (default: the built-in reference simulation)
    Run(Box<RunArgs>),
    /// Show the progress of a run, its failed measurements and its files
    Status(StatusArgs),
    /// Analyse a profile that another tool recorded: calls, bottlenecks, components, advice
    Analyze(AnalyzeArgs),
    /// Check what can be measured here and how to fix what cannot
    Doctor(DoctorArgs),
    /// Write a commented simprof.toml for this project
    Init(InitArgs),
    /// Run the built-in reference simulation without profiling it
    Simulate(Box<super::commands::simulate::SimulateArgs>),
    /// Measure one operation of a component of the reference simulation (phase 2 runs this)
    Component(Box<super::commands::component::ComponentArgs>),
    /// Start a target and end the processes that it leaves behind (internal)
    #[command(hide = true, name = super::runner::GUARDIAN_COMMAND)]
    Guardian {
        /// Passed on unchanged.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<std::ffi::OsString>,
    },
}

/// Largest mean distance between two sampled bytes.
const MAX_MEMORY_INTERVAL: u64 = 1 << 30;

/// Options of `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Measure fewer points and record for less time, with a budget of 60 s
    #[arg(long)]
    pub quick: bool,
    /// Time that all phases together may take, such as 90s, 5m or 1h. If it does not suffice, there are fewer
    /// repetitions, and the largest sizes are skipped. A process that has started is not ended, and each phase runs
    /// at least one [default: 60s with --quick, otherwise unlimited]
    #[arg(long, value_name = "TIME", allow_negative_numbers = true, value_parser = duration)]
    pub budget: Option<Duration>,
    /// Run only this phase: 1 (functions), 2 (components), 3 (source lines), 4 (scaling). Can be repeated
    /// [default: all]
    #[arg(long = "phase", value_name = "N", value_parser = clap::value_parser!(u8).range(1..=4))]
    pub phases: Vec<u8>,
    /// Phase 2: measure only this component. Can be repeated [default: all]
    #[arg(long = "component", value_name = "NAME")]
    pub components: Vec<String>,
    /// Phase 3: annotate only functions with this name. NAME is a whole name, the end of a path, or a glob. Can be
    /// repeated [default: those that phases 1 and 2 found]
    #[arg(long = "function", value_name = "NAME")]
    pub functions: Vec<String>,
    /// Phase 3: record allocations too, in a separate run [default: only in a full run of all phases]
    #[arg(long)]
    pub memory: bool,
    /// Mean distance between two sampled bytes of allocations, such as 64K or 1MiB; 1 records every allocation. Implies
    /// --memory [default: 512K; a short run with too few samples is repeated with a smaller distance]
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true, value_parser = memory_interval)]
    pub memory_interval: Option<u64>,
    /// How much is kept of what each process writes to standard output, and to standard error, such as 4K or 1GiB. The
    /// rest is counted
    #[arg(long, value_name = "BYTES", default_value = "64MiB", value_parser = bytes)]
    pub keep_output: u64,
    /// Folder for results. Each run gets a new folder in it
    #[arg(long, value_name = "DIR", default_value = "profiling_results")]
    pub output_dir: PathBuf,
    /// Add phases to an earlier run: its folder, or `latest`. It keeps the earlier phases, and one cross-reference joins
    /// all. The default command and spec are those of the run; the default phases are those that it does not have
    #[arg(long, value_name = "RUN")]
    pub into: Option<PathBuf>,
    /// Time limit of each process of the target, in seconds [default: timeout_s of the spec, or 600]
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true, value_parser = positive)]
    pub timeout: Option<f64>,
    /// Run the target on a pseudo-terminal, so that it writes its output line by line. Needed for printed steps if the
    /// program does not flush [default: terminal of the spec, or a file]
    #[arg(long)]
    pub terminal: bool,
    /// Sampling rate: samples per second of CPU time
    #[arg(long, value_name = "HZ", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=50_000))]
    pub rate: u32,
    /// Seed for the order of processes, and for the target if it uses {seed}
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Fresh processes for each point of phases 2 and 4 [default: 10, or 6 with --quick]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub repeats: Option<u32>,
    /// Event that triggers samples: cycles (hardware counter), cpu-clock (timer), or auto (the best one available)
    #[arg(long, value_name = "NAME", default_value = "auto")]
    pub recorder: String,
    /// Print what would run and how long it may take, without running it
    #[arg(long)]
    pub plan: bool,
    /// Spec to use [default: simprof.toml in the current folder, if it exists]
    #[arg(long, value_name = "FILE")]
    pub spec: Option<PathBuf>,
    /// Set the default value of a parameter of the spec. Can be repeated
    #[arg(long = "set", value_name = "NAME=VALUE")]
    pub set: Vec<String>,
    /// The program to profile and its arguments [default: the command of the spec]
    #[arg(trailing_var_arg = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// Options of `status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Folder of a run, or a folder of results, of which the latest run is shown
    #[arg(value_name = "DIR", default_value = "profiling_results")]
    pub folder: PathBuf,
    /// Print a line at every change until the run has ended
    #[arg(long)]
    pub follow: bool,
    /// Print the manifest of the run (run.json) as JSON
    #[arg(long)]
    pub json: bool,
}

/// Options of `analyze`.
#[derive(Debug, Args)]
pub struct AnalyzeArgs {
    /// Profile to read: cProfile, folded stacks or speedscope. The format is recognised by its content
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Print JSON with all functions instead of tables
    #[arg(long)]
    pub json: bool,
    /// Rows in each table
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub top: u32,
    /// Spec whose components to use [default: simprof.toml in the current folder, if it exists]
    #[arg(long, value_name = "FILE")]
    pub spec: Option<PathBuf>,
}

/// Options of `doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Print JSON instead of text
    #[arg(long)]
    pub json: bool,
    /// The program to check [default: the reference simulation]
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// Options of `init`.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// File to write
    #[arg(long, value_name = "FILE", default_value = super::spec::FILE_NAME)]
    pub output: PathBuf,
    /// Replace the file if it exists
    #[arg(long)]
    pub force: bool,
    /// The command to write into it [default: an example]
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value > 0.0 && value <= crate::spec::MAX_TIMEOUT_S => Ok(value),
        _ => Err("it must be a number of seconds above 0 and at most a year".to_owned()),
    }
}

/// Parses a time: `90`, `90s`, `1.5m` or `1h`.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit_s = match &text[digits.len()..] {
        "" | "s" => Some(1.0),
        "m" | "min" => Some(60.0),
        "h" => Some(3600.0),
        _ => None,
    };
    let seconds = digits.parse::<f64>().ok().zip(unit_s).map(|(number, unit_s)| number * unit_s);
    let is_valid = |seconds: &f64| *seconds > 0.0 && *seconds <= crate::spec::MAX_TIMEOUT_S;
    seconds
        .filter(is_valid)
        .map(Duration::from_secs_f64)
        .ok_or_else(|| "it must be a time above 0 and at most a year, such as 90s, 5m or 1h".into())
}

/// Parses the mean distance between two sampled bytes.
fn memory_interval(text: &str) -> Result<u64, String> {
    bytes(text).ok().filter(|bytes| (1..=MAX_MEMORY_INTERVAL).contains(bytes)).ok_or_else(|| {
        "it must be a number of bytes from 1 to 1 GiB, such as 4096, 512K or 1MiB".to_owned()
    })
}

/// Parses a number of bytes: `4096`, `512K`, `512KiB`, `1M` or `1MiB`.
fn bytes(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => Some(0),
        "k" | "kib" => Some(10),
        "m" | "mib" => Some(20),
        "g" | "gib" => Some(30),
        _ => None,
    };
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let number: Option<u64> = digits.parse().ok().filter(|_| is_number);
    let bytes = number.zip(shift).and_then(|(number, shift)| number.checked_mul(1 << shift));
    bytes.ok_or_else(|| "it must be a number of bytes, such as 4096, 512K or 1MiB".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn memory_intervals_are_bytes_or_sizes() {
        for (text, bytes) in [
            ("1", 1),
            ("4096", 4096),
            ("512K", 512 << 10),
            ("512KiB", 512 << 10),
            ("512kib", 512 << 10),
            ("1M", 1 << 20),
            ("1GiB", 1 << 30),
            ("64b", 64),
        ] {
            assert_eq!(memory_interval(text), Ok(bytes), "{text}");
        }
        for text in
            ["", "0", "K", "-1", "-1K", "+1", "1.5M", "lots", "2G", "99999999999G", "1 K", "é"]
        {
            let error = memory_interval(text).expect_err(text);
            assert!(error.contains("512K"), "{text}: {error}");
        }
    }

    #[test]
    fn budgets_are_seconds_or_have_a_unit() {
        for (text, seconds) in
            [("90", 90.0), ("90s", 90.0), ("1.5m", 90.0), ("5min", 300.0), ("1h", 3600.0)]
        {
            assert_eq!(duration(text), Ok(Duration::from_secs_f64(seconds)), "{text}");
        }
        for text in ["", "m", "0", "-5", "-5m", "5 m", "5d", "inf", "nan", "1e99", "5M"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn everything_after_two_dashes_is_the_target() {
        let cli = Cli::try_parse_from([
            "simprof", "run", "--quick", "--", "./prog", "--quick", "-n", "3", "-v",
        ])
        .expect("valid");
        assert_eq!(cli.verbose, 0);
        let Command::Run(args) = cli.command else { panic!("run") };
        assert_eq!(args.command, ["./prog", "--quick", "-n", "3", "-v"]);
    }

    #[test]
    fn the_target_begins_at_the_first_word_that_is_no_option() {
        let line = ["simprof", "run", "--rate", "99", "./prog", "--quick", "-n", "3", "--", "x"];
        let Command::Run(args) = Cli::try_parse_from(line).expect("valid").command else {
            panic!("run")
        };
        assert_eq!(args.command, ["./prog", "--quick", "-n", "3", "--", "x"]);
        assert_eq!((args.rate, args.quick), (99, false));
        assert!(Cli::try_parse_from(["simprof", "run", "--qick", "./prog"]).is_err());
    }

    #[test]
    fn verbosity_is_accepted_before_and_after_the_command() {
        for line in [["simprof", "-vv", "doctor"], ["simprof", "doctor", "-vv"]] {
            assert_eq!(Cli::try_parse_from(line).expect("valid").verbose, 2);
        }
    }
}
