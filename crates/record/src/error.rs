//! Errors of recording a program and of importing a profile.

use std::io;
use std::path::PathBuf;

/// Why a program could not be recorded, or a profile not imported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// The command names no program.
    #[error("the command is empty")]
    EmptyCommand,
    /// The command is a name without a slash that is in no folder of PATH.
    #[error("program {program:?} is in no folder of PATH ({path})")]
    NotInPath {
        /// As given.
        program: String,
        /// The value of PATH that was used.
        path: String,
    },
    /// The program does not exist.
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
    /// The file has no permission to be executed.
    #[error("program {} has no permission to be executed", .path.display())]
    NotExecutable {
        /// As looked up.
        path: PathBuf,
    },
    /// The kernel cannot run this kind of file.
    #[error(
        "program {} is not an executable: it is neither a binary for this machine nor a script that begins with #!",
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
        /// The interpreter that its first line, or its header, names.
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
    /// An argument or a variable contains a NUL byte, or a variable's name contains `=`.
    #[error("{what} cannot be passed to a program: it contains a NUL byte, or its name contains =")]
    Unpassable {
        /// The argument or variable.
        what: String,
    },
    /// The file for standard input cannot be opened.
    #[error("the input file {} cannot be read", .path.display())]
    Input {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
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
    /// The shared memory for step marks cannot be created.
    #[error("the shared memory for step marks cannot be created")]
    Marks(#[source] io::Error),
    /// The shared memory for allocations, or the thread that reads it, cannot be created.
    #[error("allocations cannot be recorded")]
    Heap(#[source] io::Error),
    /// The allocations of this target cannot be recorded.
    #[error("the allocations of {} cannot be recorded: {}; {}", .path.display(), .refusal.reason(), .refusal.fix())]
    HeapRefused {
        /// The program, or the interpreter of a script.
        path: PathBuf,
        /// The reason.
        refusal: crate::heap::HeapRefusal,
    },
    /// Stacks and allocations were requested in one run.
    #[error(
        "stacks and allocations cannot be recorded in one run: each would distort the other's figures"
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
    /// The process that was started as a guardian does not answer as one.
    #[error("{} does not act as a guardian", .exe.display())]
    NotAGuardian {
        /// Its executable.
        exe: PathBuf,
    },
    /// A killed process does not end.
    #[error("process {pid} was killed but does not end: it is blocked in the kernel")]
    Unkillable {
        /// Its process id.
        pid: u32,
    },
    /// The guardian ended, or was killed, before the target ended.
    #[error("the guardian of process {pid} ended before the process did")]
    GuardianLost {
        /// Process id of the target.
        pid: u32,
    },
    /// The target's process was killed before its exec.
    #[error("process {pid} was killed before it could run the program")]
    KilledBeforeExec {
        /// Its process id.
        pid: u32,
    },
    /// The guardian does not answer.
    #[error("the guardian does not answer")]
    GuardianSilent,
    /// The file has no known profile format.
    #[error(
        "this is not a profile that simprof can read, but {content}; it can read {}",
        crate::import::FORMATS.map(|format| format.name).join(", ")
    )]
    ProfileFormat {
        /// What the file seems to contain, with the fix if there is one.
        content: &'static str,
    },
    /// The file begins like a profile of a known format, but the rest of it is not valid.
    #[error("the {format} profile is damaged or cut off: {reason}")]
    ProfileMalformed {
        /// The format's name.
        format: &'static str,
        /// The problem and its position.
        reason: String,
    },
    /// The file has a known format, but a part of it is not possible or cannot be interpreted.
    #[error("the {format} profile cannot be read: {reason}")]
    ProfileInvalid {
        /// The format's name.
        format: &'static str,
        /// The problem and its position.
        reason: String,
    },
    /// A system call failed that normally never fails, such as creating a pipe or a thread.
    #[error("{what}")]
    System {
        /// The sentence that says what failed.
        what: &'static str,
        /// The kernel's reason.
        source: io::Error,
    },
}
