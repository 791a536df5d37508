//! The destination of batches: the writer itself, or a thread that runs it.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;

use super::rows::Batch;
use super::writer::Writer;
use crate::error::Error;

/// Capacity of the queue of the writer thread, in batches. If it is full, the simulation blocks, so that memory stays bounded.
const QUEUE_CAPACITY: usize = 4;

/// Accepts full batches and returns empty ones.
#[derive(Debug)]
pub enum Sink {
    /// Writes on the calling thread.
    Direct(Box<Writer>),
    /// Writes on a separate thread.
    Thread(ThreadSink),
}

/// The simulation's side of a writer thread.
#[derive(Debug)]
pub struct ThreadSink {
    full: SyncSender<Batch>,
    empty: Receiver<Batch>,
    thread: JoinHandle<Result<Writer, Error>>,
    path: PathBuf,
}

impl Sink {
    /// Creates a sink for a writer, on a separate thread if `threaded`.
    ///
    /// # Errors
    ///
    /// Returns [`Error::File`] if the thread cannot be started.
    pub fn new(writer: Writer, threaded: bool) -> Result<Self, Error> {
        if threaded {
            ThreadSink::start(writer).map(Self::Thread)
        } else {
            Ok(Self::Direct(Box::new(writer)))
        }
    }

    /// Writes a batch and replaces it by an empty one.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Database`] if SQLite fails. With a thread it returns [`Error::WriterStopped`], and [`finish`](Self::finish)
    /// returns the reason.
    pub fn take(&mut self, batch: &mut Batch) -> Result<(), Error> {
        match self {
            Self::Direct(writer) => {
                writer.write(batch)?;
                batch.clear();
                Ok(())
            }
            Self::Thread(thread) => thread.take(batch),
        }
    }

    /// Waits until all batches are written and returns the writer.
    ///
    /// # Errors
    ///
    /// Returns the error that stopped the thread.
    pub fn finish(self) -> Result<Writer, Error> {
        match self {
            Self::Direct(writer) => Ok(*writer),
            Self::Thread(thread) => thread.finish(),
        }
    }
}

impl ThreadSink {
    fn start(writer: Writer) -> Result<Self, Error> {
        let path = writer.path().to_owned();
        let (full, batches) = sync_channel(QUEUE_CAPACITY);
        let (written, empty) = channel();
        let thread = std::thread::Builder::new()
            .name("database-writer".to_owned())
            .spawn(move || write_all(writer, &batches, &written))
            .map_err(|source| Error::File {
                path: path.clone(),
                operation: "start the thread that writes to it",
                source,
            })?;
        Ok(Self { full, empty, thread, path })
    }

    fn take(&mut self, batch: &mut Batch) -> Result<(), Error> {
        let fresh = self.empty.try_recv().unwrap_or_default();
        let sent = self.full.send(std::mem::replace(batch, fresh));
        sent.map_err(|_| Error::WriterStopped { path: self.path.clone() })
    }

    fn finish(self) -> Result<Writer, Error> {
        drop(self.full);
        self.thread.join().unwrap_or(Err(Error::WriterStopped { path: self.path }))
    }
}

/// Writes batches until the channel is closed.
fn write_all(
    mut writer: Writer,
    batches: &Receiver<Batch>,
    written: &Sender<Batch>,
) -> Result<Writer, Error> {
    for mut batch in batches {
        writer.write(&batch)?;
        batch.clear();
        // This fails once the simulation has ended, when empty batches are no longer needed.
        let _ = written.send(batch);
    }
    Ok(writer)
}
