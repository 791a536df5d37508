//! The recorder's side of a guardian.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::protocol::{Channel, Event, Order, Stage, Target};
use crate::{Guardian, RecordError, program, tree};

/// How long a guardian may take to end the target and its descendants.
const END_TIMEOUT: Duration = Duration::from_secs(20);

/// A running guardian. Dropping the handle ends the target and waits for the guardian.
#[derive(Debug)]
pub struct Handle {
    process: Child,
    exe: PathBuf,
    channel: Option<Channel>,
    /// The target's process id; 0 until the target was forked.
    pid: u32,
    /// `NAME=value` in the environment of the target and of everything that it starts.
    mark: String,
}

impl Handle {
    /// Starts a guardian and orders it to fork the target, whose output goes to `stdout` and
    /// `stderr`.
    ///
    /// `mark` is a variable of the target's environment, as `NAME=value`, that no other target
    /// has.
    pub fn start(
        guardian: &Guardian,
        [stdout, stderr]: [OwnedFd; 2],
        target: Target,
        mark: String,
    ) -> Result<Handle, RecordError> {
        let failed = |source| RecordError::Guardian { exe: guardian.exe.clone(), source };
        let (near, far) = UnixStream::pair().map_err(failed)?;
        let process = Command::new(&guardian.exe)
            .args(&guardian.arguments)
            .stdin(OwnedFd::from(far))
            .stdout(Stdio::from(stdout))
            .stderr(Stdio::from(stderr))
            .spawn()
            .map_err(failed)?;
        let mut handle = Handle {
            process,
            exe: guardian.exe.clone(),
            channel: Some(Channel::new(near)),
            pid: 0,
            mark,
        };
        handle.order(&Order::Prepare(target)).map_err(failed)?;
        Ok(handle)
    }

    /// Returns the guardian's process id.
    pub fn guardian_pid(&self) -> u32 {
        self.process.id()
    }

    /// Returns the target's process id; 0 until the target was forked.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends an order. If the guardian has gone, this succeeds: reading its messages then fails.
    pub fn order(&mut self, order: &Order) -> io::Result<()> {
        let channel = self.channel.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        match channel.send(order) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            result => result,
        }
    }

    /// Waits at most `timeout` for a message. Returns `None` if none came.
    pub fn receive(&mut self, timeout: Duration) -> Result<Option<Event>, RecordError> {
        let lost = match self.pid {
            0 => RecordError::NotAGuardian { exe: self.exe.clone() },
            pid => RecordError::GuardianLost { pid },
        };
        let Some(channel) = self.channel.as_mut() else { return Err(lost) };
        let event = channel.receive(timeout).map_err(|_| lost)?;
        if let Some(Event::Ready { pid }) = event {
            self.pid = pid;
        }
        Ok(event)
    }

    /// Waits for the guardian's end. Returns `None` if a process that cannot be killed delays it;
    /// the guardian then goes on waiting for that process.
    fn wait(&mut self) -> Option<ExitStatus> {
        let deadline = Instant::now() + END_TIMEOUT;
        loop {
            if let Ok(Some(status)) = self.process.try_wait() {
                return Some(status);
            }
            if Instant::now() > deadline {
                return None;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Kills the processes that are left of the target after its guardian was killed.
    pub fn end_orphans(&self) {
        let deadline = Instant::now() + Duration::from_secs(2);
        loop {
            let left = tree::with_variable(&self.mark);
            if left.is_empty() || Instant::now() > deadline {
                return;
            }
            for pid in left {
                // SAFETY: the call takes no pointers.
                unsafe { libc::kill(pid as libc::pid_t, libc::SIGKILL) };
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // When the socket closes, the guardian ends the target and exits.
        self.channel = None;
        if self.pid == 0 {
            // The process never answered as a guardian. If it is one, its child dies with it.
            let _ = self.process.kill();
        }
        if !self.wait().is_some_and(|status| status.success()) {
            self.end_orphans();
        }
    }
}

/// Turns a failed start, as the guardian reports it, into an error.
pub fn start_error(
    stage: Stage,
    errno: i32,
    program: &Path,
    [directory, input]: [Option<&Path>; 2],
) -> RecordError {
    let source = io::Error::from_raw_os_error(errno);
    match stage {
        Stage::Fork => {
            RecordError::System { what: "the target's process cannot be created", source }
        }
        Stage::Input => {
            RecordError::Input { path: input.unwrap_or(Path::new("")).to_owned(), source }
        }
        Stage::Directory => {
            RecordError::Directory { path: directory.unwrap_or(Path::new(".")).to_owned(), source }
        }
        Stage::Exec => program::explain(program, errno),
    }
}
