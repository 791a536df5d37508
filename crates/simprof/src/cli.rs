//! The command line: what can be asked for.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Profiles simulations: what is slow, why, where, and what changing it does.
#[derive(Debug, Parser)]
#[command(name = "simprof", version, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Profile a program through the four phases (the reference simulation where none is given)
    Run(RunArgs),
    /// Show what runs now, how far it is, what is done and which files exist
    Status(StatusArgs),
    /// Tell what a profile says that another program recorded: calls, bottlenecks, components, advice
    Analyze(AnalyzeArgs),
    /// List what this machine and this target allow, each lack with its consequence and its mend
    Doctor(DoctorArgs),
    /// Write a commented simprof.toml for this project
    Init(InitArgs),
    /// Run the reference simulation by itself
    Simulate(Box<super::commands::simulate::SimulateArgs>),
    /// Measure one operation of one component of the reference simulation (the runner that phase 2 uses)
    Component(Box<super::commands::component::ComponentArgs>),
    /// Start a target and end what it leaves behind (used by simprof itself)
    #[command(hide = true, name = super::runner::GUARDIAN_COMMAND)]
    Guardian {
        /// Handed on as they are.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<std::ffi::OsString>,
    },
}

/// Largest mean distance of two recorded bytes.
const MEMORY_INTERVAL_MOST: u64 = 1 << 30;

/// Options of `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// A spread subset of every grid: ends within a minute on the reference simulation
    #[arg(long)]
    pub quick: bool,
    /// Run only this phase (1 to 4); may be given more than once
    #[arg(long = "phase", value_name = "N", value_parser = clap::value_parser!(u8).range(1..=4))]
    pub phases: Vec<u8>,
    /// Phase 2: measure only this component; may be given more than once
    #[arg(long = "component", value_name = "NAME")]
    pub components: Vec<String>,
    /// Phase 3: look at the functions whose name this is, ends in, or matches as a glob
    #[arg(long = "function", value_name = "NAME")]
    pub functions: Vec<String>,
    /// Phase 3: record allocations too, in a run of their own (a run of all phases does by itself)
    #[arg(long)]
    pub memory: bool,
    /// Mean distance of two recorded bytes of allocations, such as 64K or 1MiB; 1 records every allocation. Implies
    /// --memory [default: 512K, and where a short run has too few of them a second run with less]
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true, value_parser = memory_interval)]
    pub memory_interval: Option<u64>,
    /// Folder for results
    #[arg(long, value_name = "DIR", default_value = "profiling_results")]
    pub output_dir: PathBuf,
    /// Time limit of each process of the target
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true, value_parser = positive)]
    pub timeout: Option<f64>,
    /// Samples per second of CPU time
    #[arg(long, value_name = "HZ", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=50_000))]
    pub rate: u32,
    /// Seed of the order of measurements and of the target where it takes one
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Fresh processes for each point of phases 2 and 4
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub repeats: Option<u32>,
    /// How to sample: auto, cycles (hardware counter) or cpu-clock (timer)
    #[arg(long, value_name = "NAME", default_value = "auto")]
    pub recorder: String,
    /// Print what would run and how long it may take, and end
    #[arg(long)]
    pub plan: bool,
    /// The spec to use instead of ./simprof.toml
    #[arg(long, value_name = "FILE")]
    pub spec: Option<PathBuf>,
    /// Set the default of a parameter; may be given more than once
    #[arg(long = "set", value_name = "NAME=VALUE")]
    pub set: Vec<String>,
    /// The program to profile and its arguments
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// Options of `status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// A run's folder, or a folder of results whose latest run is meant
    #[arg(value_name = "DIR", default_value = "profiling_results")]
    pub folder: PathBuf,
    /// Print again whenever something changed, until the run has ended
    #[arg(long)]
    pub follow: bool,
    /// Print the run's manifest as JSON instead
    #[arg(long)]
    pub json: bool,
}

/// Options of `analyze`.
#[derive(Debug, Args)]
pub struct AnalyzeArgs {
    /// Profile to read: of cProfile, folded stacks, or of speedscope; its content tells which
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Print JSON, with every function, instead of tables
    #[arg(long)]
    pub json: bool,
    /// Rows of each table
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub top: u32,
}

/// Options of `doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Print JSON instead of a table
    #[arg(long)]
    pub json: bool,
    /// The program to look at (the reference simulation where none is given)
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// Options of `init`.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// File to write
    #[arg(long, value_name = "FILE", default_value = super::spec::FILE_NAME)]
    pub output: PathBuf,
    /// Replace a file that exists
    #[arg(long)]
    pub force: bool,
    /// The command to put in it
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value > 0.0 && value <= crate::spec::LONGEST_S => Ok(value),
        _ => Err("it must be a number of seconds above 0, at most a year".to_owned()),
    }
}

/// Bytes from `4096`, `512K`, `512KiB`, `1M` or `1MiB`.
fn memory_interval(text: &str) -> Result<u64, String> {
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
    bytes.filter(|bytes| (1..=MEMORY_INTERVAL_MOST).contains(bytes)).ok_or_else(|| {
        "it must be a number of bytes from 1 to 1 GiB, such as 4096, 512K or 1MiB".to_owned()
    })
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
    fn intervals_of_memory_are_bytes_or_sizes() {
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
    fn everything_after_two_dashes_is_the_target() {
        let cli = Cli::try_parse_from([
            "simprof", "run", "--quick", "--", "./prog", "--quick", "-n", "3",
        ]);
        let Command::Run(args) = cli.expect("valid").command else { panic!("run") };
        assert_eq!(args.command, ["./prog", "--quick", "-n", "3"]);
    }
}
