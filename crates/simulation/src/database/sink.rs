//! Where batches go: straight to the writer, or to a thread that writes.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;

use super::rows::Batch;
use super::writer::Writer;
use crate::error::Error;

/// Batches that may wait for the thread; one more blocks the simulation, so that memory stays bounded.
const WAITING: usize = 4;

/// Takes full batches and gives empty ones back.
#[derive(Debug)]
pub enum Sink {
    /// Writes at once.
    Direct(Box<Writer>),
    /// Writes on a thread.
    Thread(ThreadSink),
}

/// The near end of a writer thread.
#[derive(Debug)]
pub struct ThreadSink {
    full: SyncSender<Batch>,
    empty: Receiver<Batch>,
    thread: JoinHandle<Result<Writer, Error>>,
    path: PathBuf,
}

impl Sink {
    /// A sink over a writer, on a thread of its own or not.
    ///
    /// # Errors
    ///
    /// [`Error::File`] if the thread cannot be started.
    pub fn new(writer: Writer, threaded: bool) -> Result<Self, Error> {
        if threaded {
            ThreadSink::start(writer).map(Self::Thread)
        } else {
            Ok(Self::Direct(Box::new(writer)))
        }
    }

    /// Writes a batch and leaves an empty one in its place.
    ///
    /// # Errors
    ///
    /// [`Error::Database`] if SQLite refuses; with a thread, [`Error::WriterStopped`], and the reason comes from
    /// [`finish`](Self::finish).
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

    /// Waits until everything is written and gives the writer back.
    ///
    /// # Errors
    ///
    /// What made the thread stop, if it did.
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
        let (full, batches) = sync_channel(WAITING);
        let (back, empty) = channel();
        let thread = std::thread::Builder::new()
            .name("database-writer".to_owned())
            .spawn(move || write_all(writer, &batches, &back))
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

/// Writes batches until there are no more.
fn write_all(
    mut writer: Writer,
    batches: &Receiver<Batch>,
    back: &Sender<Batch>,
) -> Result<Writer, Error> {
    for mut batch in batches {
        writer.write(&batch)?;
        batch.clear();
        // Nobody takes it back once the simulation has ended.
        let _ = back.send(batch);
    }
    Ok(writer)
}
