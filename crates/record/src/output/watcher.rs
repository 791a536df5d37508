//! A thread that copies a target's output to its logs and records when lines match the step pattern.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use simprof_model::{Notice, NoticeId, Steps};

use super::log::Log;
use super::pattern::{Lines, Marker};
use super::{TAIL_BYTES, text};
use crate::clock;
use crate::guardian::protocol::poll_readable;

/// A handle of the running thread.
pub struct Watcher {
    thread: JoinHandle<Watched>,
    /// Closing it ends the thread, even if some process still has the pipes open.
    stop: OwnedFd,
}

/// The result of the thread.
#[derive(Default)]
pub struct Watched {
    pub tails: [String; 2],
    /// Steps by the pattern; `None` if there is no pattern.
    pub steps: Option<Steps>,
    pub notices: Vec<Notice>,
}

/// Standard output or standard error.
struct Stream {
    /// A pipe or a terminal; `None` after the end of the stream.
    pipe: Option<File>,
    log: Log,
    lines: Lines,
    tail: Vec<u8>,
}

impl Watcher {
    /// Starts the thread. It passes each line to `marker`.
    pub fn start(
        pipes: [OwnedFd; 2],
        logs: [Log; 2],
        marker: Option<Marker>,
    ) -> io::Result<Watcher> {
        let (stopped, stop) = io::pipe()?;
        let [first, second] = pipes;
        let [first_log, second_log] = logs;
        let streams = [Stream::new(first, first_log), Stream::new(second, second_log)];
        let thread = thread::Builder::new()
            .name("output".to_owned())
            .spawn(move || watch(streams, marker, &stopped.into()))?;
        Ok(Watcher { thread, stop: stop.into() })
    }

    /// Waits until all output has been copied.
    pub fn finish(self) -> Watched {
        drop(self.stop);
        self.thread.join().unwrap_or_else(|_| Watched {
            notices: vec![Notice::new(
                NoticeId::OutputReaderFailed,
                "The thread that reads the target's output failed.",
            )],
            ..Watched::default()
        })
    }
}

fn watch(mut streams: [Stream; 2], mut marker: Option<Marker>, stop: &OwnedFd) -> Watched {
    let mut chunk = vec![0; 1 << 16];
    let mut stopping = false;
    while streams.iter().any(|stream| stream.pipe.is_some()) {
        let stop_fd = if stopping { -1 } else { stop.as_raw_fd() };
        let timeout = stopping.then_some(Duration::ZERO);
        let fds = [streams[0].fd(), streams[1].fd(), stop_fd];
        let Ok(ready) = poll_readable(&fds, timeout) else { break };
        for (stream, _) in streams.iter_mut().zip(ready).filter(|(_, ready)| *ready) {
            stream.read(&mut chunk, marker.as_mut());
        }
        if stopping && !ready[0] && !ready[1] {
            break;
        }
        stopping |= ready[2];
    }
    finish(streams, marker)
}

fn finish(mut streams: [Stream; 2], mut marker: Option<Marker>) -> Watched {
    let now_ns = clock::now_ns();
    if let Some(marker) = &mut marker {
        for stream in &mut streams {
            stream.lines.end(|line| marker.line(line, now_ns));
        }
    }
    let mut notices: Vec<Notice> =
        streams.iter().filter_map(|stream| stream.log.loss_notice()).collect();
    notices.extend(streams.iter_mut().filter_map(|stream| stream.log.cut()));
    notices.extend(marker.as_ref().and_then(Marker::notice));
    let steps = marker.as_ref().map(Marker::steps);
    Watched { tails: streams.map(|stream| text(stream.recent())), steps, notices }
}

impl Stream {
    fn new(pipe: OwnedFd, log: Log) -> Self {
        Self { pipe: Some(pipe.into()), log, lines: Lines::default(), tail: Vec::new() }
    }

    fn fd(&self) -> RawFd {
        self.pipe.as_ref().map_or(-1, AsRawFd::as_raw_fd)
    }

    /// Reads once. All lines that end in this read get its time.
    fn read(&mut self, chunk: &mut [u8], marker: Option<&mut Marker>) {
        let Some(pipe) = &mut self.pipe else { return };
        let bytes = match pipe.read(chunk) {
            Ok(0) => {
                self.pipe = None;
                return;
            }
            Ok(count) => &chunk[..count],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return,
            // A terminal fails in this way after its last writer has closed it.
            Err(_) => {
                self.pipe = None;
                return;
            }
        };
        if let Some(marker) = marker {
            let now_ns = clock::now_ns();
            self.lines.feed(bytes, |line| marker.line(line, now_ns));
        }
        self.log.write(bytes);
        self.tail.extend_from_slice(bytes);
        if self.tail.len() > 16 * TAIL_BYTES {
            let excess = self.tail.len() - TAIL_BYTES;
            self.tail.drain(..excess);
        }
    }

    fn recent(&self) -> &[u8] {
        &self.tail[self.tail.len().saturating_sub(TAIL_BYTES)..]
    }
}
