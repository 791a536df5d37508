//! Exit statuses: 0 all is well, 1 something failed, 2 the command or the spec is wrong.

use std::ffi::OsString;
use std::io;
use std::process::ExitCode;

use clap::error::ErrorKind;

use crate::configuration::ConfigurationError;
use crate::console::say;
use crate::folder::FolderError;
use crate::plan::PlanError;
use crate::spec::SpecError;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Everything that was asked for was done.
    Well,
    /// Something failed, timed out or was skipped; it has been said on standard error.
    WithFailures,
}

/// What is wrong with what a person asked for.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Wrong(pub String);

/// The exit status of a command; an error is said on standard error first.
pub fn code(outcome: anyhow::Result<Ended>) -> ExitCode {
    match outcome {
        Ok(Ended::Well) => ExitCode::SUCCESS,
        Ok(Ended::WithFailures) => ExitCode::from(1),
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("simprof: {}", describe(&error)));
            ExitCode::from(if is_wrong(&error) { 2 } else { 1 })
        }
    }
}

/// The exit status of a command line that cannot be read; why is said first.
pub fn refused(error: &clap::Error, arguments: impl Iterator<Item = OsString>) -> ExitCode {
    if error.kind() == ErrorKind::InvalidUtf8
        && let Some(argument) = arguments.into_iter().find(|argument| argument.to_str().is_none())
    {
        let shown = argument.display();
        let text = format!(
            "the argument {shown} is not UTF-8, as plans and results are: have a script of yours pass it on"
        );
        return code(Err(Wrong(text).into()));
    }
    // Its help, too, is such an error: that is no failure.
    let _ = error.print();
    ExitCode::from(error.exit_code() as u8)
}

/// An error with its causes, and the mend where the disk is full.
pub fn describe(error: &anyhow::Error) -> String {
    let text = crate::replicate::describe(error.as_ref());
    let full = |cause: &(dyn std::error::Error + 'static)| {
        use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
        let kind = cause.downcast_ref::<io::Error>().map(io::Error::kind);
        matches!(kind, Some(StorageFull | QuotaExceeded | FileTooLarge))
    };
    if error.chain().any(full) && !text.contains("--output-dir") {
        return format!("{text}; make room there, or choose another folder with --output-dir");
    }
    text
}

/// Whether the mend lies in the command or the spec.
fn is_wrong(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.is::<Wrong>()
            || cause.is::<SpecError>()
            || cause.is::<PlanError>()
            || cause.is::<FolderError>()
            || cause.is::<ConfigurationError>()
    })
}

/// A reader that has seen enough (`simprof status | head`) is no failure.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|cause| cause.kind() == std::io::ErrorKind::BrokenPipe)
}
