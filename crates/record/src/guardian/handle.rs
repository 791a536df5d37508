//! The recorder's side of a guardian.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::protocol::{Channel, News, Order, Stage, Target};
use crate::{Guardian, RecordError, program, tree};

/// How long a guardian may take to end all that it guards.
const PATIENCE: Duration = Duration::from_secs(20);

/// A guardian that was started. Dropping it ends the target and waits for the guardian.
#[derive(Debug)]
pub struct Handle {
    process: Child,
    exe: PathBuf,
    channel: Option<Channel>,
    /// Target's process id, once there is one.
    pid: u32,
    /// `NAME=value` in the environment of all that the target starts.
    mark: String,
}

impl Handle {
    /// Starts a guardian that writes the target's output to `stdout` and `stderr`, and lets it
    /// fork the target. `mark` is a variable of the target's environment, as `NAME=value`, that
    /// no other target has.
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

    /// Its own process id.
    pub fn guardian_pid(&self) -> u32 {
        self.process.id()
    }

    /// The target's process id; 0 before there is one.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends an order; that the guardian has gone shows when news are read.
    pub fn order(&mut self, order: &Order) -> io::Result<()> {
        let channel = self.channel.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        match channel.send(order) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            result => result,
        }
    }

    /// Waits at most `timeout` for news.
    pub fn news(&mut self, timeout: Duration) -> Result<Option<News>, RecordError> {
        let lost = match self.pid {
            0 => RecordError::NotAGuardian { exe: self.exe.clone() },
            pid => RecordError::GuardianLost { pid },
        };
        let Some(channel) = self.channel.as_mut() else { return Err(lost) };
        let news = channel.receive(timeout).map_err(|_| lost)?;
        if let Some(News::Ready { pid }) = news {
            self.pid = pid;
        }
        Ok(news)
    }

    /// Waits for its end; none where a process that cannot be killed holds it up, which it then
    /// goes on waiting for by itself.
    fn wait(&mut self) -> Option<ExitStatus> {
        let deadline = Instant::now() + PATIENCE;
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

    /// Ends what a guardian that was itself killed could not end.
    pub fn end_orphans(&self) {
        let deadline = Instant::now() + Duration::from_secs(2);
        loop {
            let left = tree::with_variable(&self.mark);
            if left.is_empty() || Instant::now() > deadline {
                return;
            }
            for pid in left {
                // SAFETY: no memory is involved.
                unsafe { libc::kill(pid as libc::pid_t, libc::SIGKILL) };
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // The guardian ends everything when the socket closes, and then itself.
        self.channel = None;
        if self.pid == 0 {
            // It never said that it is a guardian; if it is, its child dies with it.
            let _ = self.process.kill();
        }
        if !self.wait().is_some_and(|status| status.success()) {
            self.end_orphans();
        }
    }
}

/// The error that a refusal stands for.
pub fn refusal(stage: Stage, errno: i32, program: &Path, directory: Option<&Path>) -> RecordError {
    let source = io::Error::from_raw_os_error(errno);
    match stage {
        Stage::Fork => RecordError::System { what: "no process for the target", source },
        Stage::Directory => {
            RecordError::Directory { path: directory.unwrap_or(Path::new(".")).to_owned(), source }
        }
        Stage::Exec => program::explain(program, errno),
    }
}
