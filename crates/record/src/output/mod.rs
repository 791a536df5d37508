//! The target's output. It goes directly into log files or, if a step pattern or a terminal is
//! requested, through pipes or a pseudo-terminal. With a pattern, each line is compared with it.

mod log;
mod pattern;
mod terminal;
mod watcher;

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::mpsc::{self, Receiver};

use regex::Regex;
use simprof_model::{Notice, Steps};

use crate::RecordError;
use log::Log;
use pattern::Marker;
pub use pattern::Match;
use watcher::Watcher;

/// How much of the end of each stream is kept for messages, bytes.
const TAIL_BYTES: usize = 8192;

/// The output of one target while it runs.
pub struct Output {
    logs: [Log; 2],
    watcher: Option<Watcher>,
    matches: Option<Receiver<Match>>,
}

/// What is known about the output at the end.
pub struct Written {
    /// The end of standard output and standard error.
    pub tails: [String; 2],
    /// Steps by the pattern; `None` if there is no pattern.
    pub steps: Option<Steps>,
    /// Notices about the output.
    pub notices: Vec<Notice>,
}

impl Output {
    /// Creates the log files and returns the descriptors for the target's standard output and
    /// standard error. Both paths may be the same file. With a pattern, the descriptors are pipes.
    /// With `terminal`, standard output is a pseudo-terminal. Each log keeps `keep` bytes.
    pub fn open(
        paths: [&Path; 2],
        keep: u64,
        pattern: Option<&Regex>,
        terminal: bool,
    ) -> Result<(Output, [OwnedFd; 2]), RecordError> {
        let logs = [Log::create(paths[0], keep)?, Log::create(paths[1], keep)?];
        if pattern.is_none() && !terminal {
            let fds = [logs[0].descriptor()?, logs[1].descriptor()?];
            return Ok((Output { logs, watcher: None, matches: None }, fds));
        }
        let failed =
            |source| RecordError::System { what: "the pipe for the output failed", source };
        let no_terminal = |source| RecordError::System {
            what: "the pseudo-terminal for the output could not be opened",
            source,
        };
        let first = if terminal {
            terminal::open().map_err(no_terminal)?
        } else {
            pipe().map_err(failed)?
        };
        let second = pipe().map_err(failed)?;
        let watched = [logs[0].reopened()?, logs[1].reopened()?];
        let (listener, matches) = mpsc::channel();
        let marker = pattern.map(|pattern| Marker::new(pattern.clone(), listener, terminal));
        let watcher = Watcher::start([first.0, second.0], watched, marker).map_err(failed)?;
        let matches = pattern.is_some().then_some(matches);
        Ok((Output { logs, watcher: Some(watcher), matches }, [first.1, second.1]))
    }

    /// Returns the receiver of the matching lines, on the first call only. `None` without a pattern.
    pub fn matches(&mut self) -> Option<Receiver<Match>> {
        self.matches.take()
    }

    /// Frees the disk space of output beyond the limit. Call it often while the target runs.
    pub fn bound(&mut self) {
        if self.watcher.is_none() {
            self.logs.iter_mut().for_each(Log::bound);
        }
    }

    /// Finishes the logs. Call it when all processes that could write have ended.
    pub fn finish(mut self) -> Written {
        let mut notices: Vec<Notice> = self.logs.iter().filter_map(Log::disk_notice).collect();
        notices.dedup();
        let Some(watcher) = self.watcher else {
            let tails = self.logs.each_ref().map(Log::tail);
            notices.extend(self.logs.iter_mut().filter_map(Log::cut));
            return Written { tails, steps: None, notices };
        };
        let seen = watcher.finish();
        notices.extend(seen.notices);
        Written { tails: seen.tails, steps: seen.steps, notices }
    }
}

/// Creates a pipe: reader, writer. Enlarges its buffer for bursts if the system allows it. Each write of the target is read
/// by itself, at most 4096 bytes at a time, so that lines of separate writes do not come together if simprof reads late.
fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = io::pipe()?;
    // SAFETY: the calls take no pointers. If one fails, the pipe stays as it is.
    unsafe {
        libc::fcntl(writer.as_raw_fd(), libc::F_SETPIPE_SZ, 1 << 20);
        libc::fcntl(writer.as_raw_fd(), libc::F_SETFL, libc::O_DIRECT);
    }
    Ok((reader.into(), writer.into()))
}

/// Decodes bytes as UTF-8 and removes a partial character at the start.
fn text(bytes: &[u8]) -> String {
    let cut = bytes.iter().take(3).take_while(|&&byte| byte & 0xc0 == 0x80).count();
    String::from_utf8_lossy(&bytes[cut..]).into_owned()
}
