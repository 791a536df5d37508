//! The simprof command: reads a spec, makes a plan, runs it, and writes reports.

mod budget;
mod campaign;
mod cli;
mod commands;
mod configuration;
mod console;
mod earlier;
mod exit;
mod failures;
mod folder;
mod input;
mod logging;
mod phases;
mod plan;
mod processes;
mod progress;
mod python;
mod replicate;
mod runner;
mod session;
mod spec;
mod step_notices;
mod text;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command};

fn main() -> ExitCode {
    // The guardian must run before any thread starts, and does not use the command line parser.
    if std::env::args_os().nth(1).is_some_and(|argument| argument == runner::GUARDIAN_COMMAND) {
        return simprof_record::guardian::main();
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return exit::invalid_arguments(&error, std::env::args_os()),
    };
    logging::start(cli.verbose);
    simprof_record::survive_file_size_limit();
    let outcome = match cli.command {
        Command::Run(arguments) => commands::run::run(&arguments),
        Command::Status(arguments) => commands::status::run(&arguments),
        Command::Analyze(arguments) => commands::analyze::run(&arguments),
        Command::Doctor(arguments) => commands::doctor::run(&arguments),
        Command::Init(arguments) => commands::init::run(&arguments),
        Command::Simulate(arguments) => commands::simulate::run(&arguments),
        Command::Component(arguments) => commands::component::run(&arguments),
        Command::Guardian { .. } => return simprof_record::guardian::main(),
    };
    exit::status(outcome)
}
