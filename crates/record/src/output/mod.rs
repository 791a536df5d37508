//! Where a target's output goes: straight into log files, or through pipes that are watched for
//! the lines that mark steps.

mod log;
mod pattern;
mod watcher;

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::mpsc::{self, Receiver};

use regex::Regex;
use simprof_model::{Notice, Steps};

use crate::RecordError;
use log::Log;
pub use pattern::Match;
use watcher::Watcher;

/// How much of the end of each stream is kept for people, bytes.
const TAIL_BYTES: usize = 8192;

/// The output of one target while it runs.
pub struct Output {
    logs: [Log; 2],
    watcher: Option<Watcher>,
    matches: Option<Receiver<Match>>,
}

/// What came of it.
pub struct Written {
    /// The end of standard output and standard error.
    pub tails: [String; 2],
    /// Steps, where a pattern was looked for.
    pub steps: Option<Steps>,
    /// What a reader must know about the output.
    pub notices: Vec<Notice>,
}

impl Output {
    /// Creates the log files, which may be one, and returns what the target writes to. Only with
    /// a pattern is the output read on its way.
    pub fn open(
        paths: [&Path; 2],
        pattern: Option<&Regex>,
    ) -> Result<(Output, [OwnedFd; 2]), RecordError> {
        let logs = [Log::create(paths[0])?, Log::create(paths[1])?];
        let failed = |source| RecordError::System { what: "no pipe for the output", source };
        let Some(pattern) = pattern else {
            let fds = [logs[0].descriptor()?, logs[1].descriptor()?];
            return Ok((Output { logs, watcher: None, matches: None }, fds));
        };
        let [first, second] = [pipe().map_err(failed)?, pipe().map_err(failed)?];
        let watched = [logs[0].reopened()?, logs[1].reopened()?];
        let readers = [first.0, second.0];
        let (listener, matches) = mpsc::channel();
        let watcher =
            Watcher::start(readers, watched, pattern.clone(), listener).map_err(failed)?;
        let output = Output { logs, watcher: Some(watcher), matches: Some(matches) };
        Ok((output, [first.1, second.1]))
    }

    /// Where the lines that match the pattern can be heard of as they come; to be asked for once. None without a pattern.
    pub fn matches(&mut self) -> Option<Receiver<Match>> {
        self.matches.take()
    }

    /// Call it when all that could write has ended.
    pub fn finish(self) -> Written {
        let mut notices: Vec<Notice> = self.logs.iter().filter_map(Log::disk_notice).collect();
        notices.dedup();
        let Some(watcher) = self.watcher else {
            let tails = self.logs.each_ref().map(Log::tail);
            return Written { tails, steps: None, notices };
        };
        let seen = watcher.finish();
        notices.extend(seen.notices);
        Written { tails: seen.tails, steps: Some(seen.steps), notices }
    }
}

/// A pipe, reader first, with room for bursts where the system grants it.
fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = io::pipe()?;
    // SAFETY: no memory is involved; a refusal leaves the pipe at its size.
    unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_SETPIPE_SZ, 1 << 20) };
    Ok((reader.into(), writer.into()))
}

/// Bytes as text for people, without the rest of a character that was cut at the front.
fn text(bytes: &[u8]) -> String {
    let cut = bytes.iter().take(3).take_while(|&&byte| byte & 0xc0 == 0x80).count();
    String::from_utf8_lossy(&bytes[cut..]).into_owned()
}
