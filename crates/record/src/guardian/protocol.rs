//! The messages between the recorder and its guardian: JSON, one message per line, over a socket.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// A message from the recorder.
#[derive(Debug, Serialize, Deserialize)]
pub enum Order {
    /// Fork the target, which waits before its exec.
    Prepare(Target),
    /// Let the target exec.
    Go,
    /// Kill the target and all its descendants.
    Kill,
    /// The recorder has read the last figures of the main process: reap it.
    Release,
}

/// The program to run.
#[derive(Debug, Serialize, Deserialize)]
pub struct Target {
    /// The executable file's path, as bytes.
    pub program: Vec<u8>,
    /// The arguments, the first being the name.
    pub argv: Vec<String>,
    /// Working directory as bytes; `None` for the recorder's own.
    pub directory: Option<Vec<u8>>,
    /// Variables of the recorder's environment that the target does not get.
    pub without: Vec<String>,
    /// Variables that the target gets; they replace those of the recorder's environment.
    pub environment: BTreeMap<String, String>,
    /// Path, as bytes, of the file that is its standard input; `None` for an empty one.
    pub input: Option<Vec<u8>>,
    /// The target's soft limit of open files; `None` for the recorder's own.
    pub open_files: Option<u64>,
}

/// A message from the guardian.
#[derive(Debug, Serialize, Deserialize)]
pub enum Event {
    /// The target waits before its exec.
    Ready {
        /// Its process id.
        pid: u32,
    },
    /// The target could not be created or run. No process of it is left.
    Refused {
        /// The step that failed.
        stage: Stage,
        /// The error number.
        errno: i32,
    },
    /// The target runs.
    Started {
        /// CLOCK_MONOTONIC just before its exec, ns.
        time_ns: u64,
    },
    /// The target's main process has ended. It stays a zombie until [`Order::Release`].
    Ended {
        /// CLOCK_MONOTONIC, ns.
        time_ns: u64,
    },
    /// No process is left. The guardian exits.
    Done(FinalReport),
}

/// The steps of starting the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// Creating the process.
    Fork,
    /// Opening the file for standard input.
    Input,
    /// Entering the working directory.
    Directory,
    /// Executing the program.
    Exec,
}

/// How a target ended and what its processes used.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct FinalReport {
    /// The main process's status, as `wait` returns it.
    pub wait_status: i32,
    /// User time of all reaped processes, ns.
    pub user_ns: u64,
    /// System time of all reaped processes, ns.
    pub system_ns: u64,
    /// Largest resident set of any one process, bytes.
    pub peak_rss_bytes: u64,
    /// Processes that outlived the main one and were killed: id and name.
    pub leftovers: Vec<(u32, String)>,
    /// Processes that could not be killed: id and name.
    pub stuck: Vec<(u32, String)>,
}

/// One end of the socket.
#[derive(Debug)]
pub struct Channel {
    stream: UnixStream,
    received: Vec<u8>,
}

impl Channel {
    /// Creates a channel over `stream`.
    pub fn new(stream: UnixStream) -> Self {
        Self { stream, received: Vec::new() }
    }

    /// Returns the descriptor to poll for reading.
    pub fn fd(&self) -> RawFd {
        self.stream.as_raw_fd()
    }

    /// Sends a message. All messages except the first are far smaller than the socket's buffer.
    pub fn send(&mut self, message: &impl Serialize) -> io::Result<()> {
        let mut line = serde_json::to_vec(message)?;
        line.push(b'\n');
        self.stream.write_all(&line)
    }

    /// Waits at most `timeout` for a message. Returns `None` if none came.
    ///
    /// # Errors
    /// Returns an error of the kind `UnexpectedEof` if the other side has gone.
    pub fn receive<T: DeserializeOwned>(&mut self, timeout: Duration) -> io::Result<Option<T>> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(message) = self.take()? {
                return Ok(Some(message));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if !poll_readable(&[self.fd()], Some(left))?[0] {
                return Ok(None);
            }
            self.fill()?;
        }
    }

    /// Reads the available bytes. Call it when the socket is readable.
    pub fn fill(&mut self) -> io::Result<()> {
        let mut chunk = [0; 16384];
        match self.stream.read(&mut chunk) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                self.received.extend_from_slice(&chunk[..count]);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            // A peer that exits with unread messages resets the connection.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                Err(io::ErrorKind::UnexpectedEof.into())
            }
            Err(error) => Err(error),
        }
    }

    /// Returns the next complete message, or `None` if there is none.
    pub fn take<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        let Some(end) = self.received.iter().position(|&byte| byte == b'\n') else {
            return Ok(None);
        };
        let message = serde_json::from_slice(&self.received[..end])?;
        self.received.drain(..=end);
        Ok(Some(message))
    }
}

/// Waits at most `timeout` until one of `fds` is readable, or closed by its other side. Returns
/// which ones are. A signal ends the wait early. Negative descriptors are ignored.
pub fn poll_readable<const N: usize>(
    fds: &[RawFd; N],
    timeout: Option<Duration>,
) -> io::Result<[bool; N]> {
    let mut polled = fds.map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 });
    // Rounded up, so that a wait for less than a millisecond does not become a busy loop.
    let timeout_ms = timeout.map_or(-1, |timeout| {
        timeout.as_micros().div_ceil(1000).try_into().unwrap_or(libc::c_int::MAX)
    });
    // SAFETY: `polled` is an array of N entries.
    let status = unsafe { libc::poll(polled.as_mut_ptr(), N as libc::nfds_t, timeout_ms) };
    if status < 0 {
        let error = io::Error::last_os_error();
        let interrupted = error.kind() == io::ErrorKind::Interrupted;
        return if interrupted { Ok([false; N]) } else { Err(error) };
    }
    Ok(polled.map(|entry| entry.revents != 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_arrive_complete_and_in_order() {
        let (near, far) = UnixStream::pair().expect("sockets");
        let (mut near, mut far) = (Channel::new(near), Channel::new(far));
        near.send(&Event::Ready { pid: 7 }).expect("sent");
        near.send(&Event::Started { time_ns: 9 }).expect("sent");
        let wait = Duration::from_secs(10);
        let first = far.receive::<Event>(wait).expect("received");
        assert!(matches!(first, Some(Event::Ready { pid: 7 })));
        let second = far.receive::<Event>(wait).expect("received");
        assert!(matches!(second, Some(Event::Started { time_ns: 9 })));
        assert!(far.receive::<Event>(Duration::ZERO).expect("nothing").is_none());
        drop(near);
        let end = far.receive::<Event>(wait).expect_err("closed");
        assert_eq!(end.kind(), io::ErrorKind::UnexpectedEof);
    }
}
