//! What can go wrong before there is a recording, or a profile of somebody else.

use std::io;
use std::path::PathBuf;

/// Why a program could not be recorded, or a profile not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// No program is named.
    #[error("the command is empty")]
    EmptyCommand,
    /// A name without a slash is in none of the folders of PATH.
    #[error("program {program:?} is in none of the folders of PATH ({path})")]
    NotInPath {
        /// As given.
        program: String,
        /// The value of PATH that was used.
        path: String,
    },
    /// There is no such file.
    #[error("program {} does not exist", .path.display())]
    ProgramMissing {
        /// As looked up.
        path: PathBuf,
    },
    /// The program is a folder.
    #[error("program {} is a directory", .path.display())]
    ProgramIsDirectory {
        /// As looked up.
        path: PathBuf,
    },
    /// The file lacks the permission to be executed.
    #[error("program {} has no permission to be executed", .path.display())]
    NotExecutable {
        /// As looked up.
        path: PathBuf,
    },
    /// The kernel knows no way to run this file.
    #[error(
        "program {} is not an executable: neither a binary for this machine nor a script that begins with #!",
        .path.display()
    )]
    NotAProgram {
        /// As looked up.
        path: PathBuf,
    },
    /// A script's interpreter, or a binary's loader, does not exist.
    #[error("program {} needs the interpreter {interpreter}, which does not exist", .path.display())]
    InterpreterMissing {
        /// As looked up.
        path: PathBuf,
        /// What its first line, or its header, names.
        interpreter: String,
    },
    /// The kernel refused to run it for another reason.
    #[error("program {} cannot be run", .path.display())]
    Exec {
        /// As looked up.
        path: PathBuf,
        /// The kernel's reason.
        source: io::Error,
    },
    /// An argument or a variable holds a NUL byte or (a variable's name) an equals sign.
    #[error("{what} cannot be passed to a program: it holds a NUL byte or its name holds =")]
    Unpassable {
        /// The argument or variable.
        what: String,
    },
    /// The target's working directory cannot be entered.
    #[error("working directory {} cannot be entered", .path.display())]
    Directory {
        /// As given.
        path: PathBuf,
        /// The kernel's reason.
        source: io::Error,
    },
    /// A file for the target's output cannot be written.
    #[error("log file {} cannot be written", .path.display())]
    Log {
        /// As given.
        path: PathBuf,
        /// The kernel's reason.
        source: io::Error,
    },
    /// The shared memory for step marks cannot be had.
    #[error("no shared memory for step marks")]
    Marks(#[source] io::Error),
    /// The shared memory for allocations, or the thread that reads it, cannot be had.
    #[error("allocations cannot be recorded")]
    Heap(#[source] io::Error),
    /// The target's allocations cannot be recorded.
    #[error("the allocations of {} cannot be recorded: {}; {}", .path.display(), .refusal.reason(), .refusal.mend())]
    HeapRefused {
        /// The program, or the interpreter of a script.
        path: PathBuf,
        /// Why.
        refusal: crate::heap::HeapRefusal,
    },
    /// Stacks and allocations were to be recorded in one run.
    #[error(
        "stacks and allocations cannot be recorded in one run: each would be in the figures of the other"
    )]
    HeapAndStacks,
    /// The guardian cannot be started.
    #[error("the guardian {} cannot be started", .exe.display())]
    Guardian {
        /// Its executable.
        exe: PathBuf,
        /// The kernel's reason.
        source: io::Error,
    },
    /// What was started as a guardian is none.
    #[error("{} does not act as a guardian", .exe.display())]
    NotAGuardian {
        /// Its executable.
        exe: PathBuf,
    },
    /// A process that was killed does not end.
    #[error("process {pid} was killed but does not end: it hangs in the kernel")]
    Unkillable {
        /// Its process id.
        pid: u32,
    },
    /// The guardian ended, or was killed, before the target had.
    #[error("the guardian of process {pid} ended before its target did")]
    GuardianLost {
        /// Process id of the target.
        pid: u32,
    },
    /// Somebody killed the target's process before it became the program.
    #[error("process {pid} was killed before it could run the program")]
    KilledBeforeExec {
        /// Its process id.
        pid: u32,
    },
    /// The guardian does not answer.
    #[error("the guardian does not answer")]
    GuardianSilent,
    /// A file is of no format of profiles that can be read.
    #[error(
        "this is no profile that can be read, but {found}; read are {}",
        crate::import::FORMATS.map(|format| format.name).join(", ")
    )]
    ProfileFormat {
        /// What it seems to be, with the mend where there is one.
        found: &'static str,
    },
    /// A file begins as a profile of some format and does not go on as one.
    #[error("the {format} profile is damaged or cut off: {reason}")]
    ProfileMalformed {
        /// The format's name.
        format: &'static str,
        /// What is wrong, and where.
        reason: String,
    },
    /// Something that always works did not: a pipe, a thread, memory.
    #[error("{what}")]
    System {
        /// What was tried.
        what: &'static str,
        /// The kernel's reason.
        source: io::Error,
    },
}
