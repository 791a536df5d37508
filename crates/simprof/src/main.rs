//! The simprof command: from a spec to a plan, from a plan to a run, from a run to its reports.

mod campaign;
mod cli;
mod commands;
mod configuration;
mod console;
mod exit;
mod failures;
mod folder;
mod memory;
mod phases;
mod plan;
mod progress;
mod python;
mod replicate;
mod runner;
mod session;
mod spec;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command};

fn main() -> ExitCode {
    // The guardian must run before anything starts a thread, and knows nothing of the rest.
    if std::env::args_os().nth(1).is_some_and(|argument| argument == runner::GUARDIAN_COMMAND) {
        return simprof_record::guardian::main();
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return exit::refused(&error, std::env::args_os()),
    };
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
    exit::code(outcome)
}
