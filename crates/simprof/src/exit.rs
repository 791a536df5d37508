//! Exit statuses: 0 success, 1 something failed, 2 the command line or the spec is wrong.

use std::ffi::OsString;
use std::io;
use std::process::ExitCode;

use clap::error::ErrorKind;

use crate::configuration::ConfigurationError;
use crate::console;
use crate::folder::FolderError;
use crate::plan::PlanError;
use crate::spec::SpecError;
use crate::text::error_chain;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Completion {
    /// Everything that was requested was done.
    Success,
    /// Something failed, timed out or was skipped. It has been reported on standard error.
    WithFailures,
}

/// The command line or the spec is wrong.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);

/// Returns the exit status of a command, and reports an error on standard error.
pub fn status(outcome: anyhow::Result<Completion>) -> ExitCode {
    match outcome {
        Ok(Completion::Success) => ExitCode::SUCCESS,
        Ok(Completion::WithFailures) => ExitCode::from(1),
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            console::error(&describe_error(&error));
            ExitCode::from(if is_usage_error(&error) { 2 } else { 1 })
        }
    }
}

/// Returns the exit status for a command line that cannot be parsed, and reports the reason.
pub fn invalid_arguments(
    error: &clap::Error,
    arguments: impl Iterator<Item = OsString>,
) -> ExitCode {
    if error.kind() == ErrorKind::InvalidUtf8
        && let Some(argument) = arguments.into_iter().find(|argument| argument.to_str().is_none())
    {
        let shown = argument.display();
        let text = format!(
            "the argument {shown} is not UTF-8, but plans and results are; profile a script that passes this argument on"
        );
        return status(Err(UsageError(text).into()));
    }
    // clap also returns `--help` as an error, with exit status 0.
    let _ = error.print();
    ExitCode::from(error.exit_code() as u8)
}

/// Returns an error with its causes, and the fix if the disk is full.
pub fn describe_error(error: &anyhow::Error) -> String {
    let text = error_chain(error.as_ref());
    let full = |cause: &(dyn std::error::Error + 'static)| {
        use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
        let kind = cause.downcast_ref::<io::Error>().map(io::Error::kind);
        matches!(kind, Some(StorageFull | QuotaExceeded | FileTooLarge))
    };
    if error.chain().any(full) && !text.contains("--output-dir") {
        return format!(
            "{text}; free some space there, or choose another folder with --output-dir"
        );
    }
    text
}

/// Returns true if the command line or the spec must be changed.
fn is_usage_error(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.is::<UsageError>()
            || cause.is::<SpecError>()
            || cause.is::<PlanError>()
            || cause.is::<FolderError>()
            || cause.is::<ConfigurationError>()
    })
}

/// Returns true if the reader closed the pipe (`simprof status | head`), which is not a failure.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|cause| cause.kind() == std::io::ErrorKind::BrokenPipe)
}
