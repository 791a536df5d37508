//! The preload library for Python and the shared memory that it writes to.
//!
//! The library is a file that every user can read ([`Library`]). The memory has no file name: the target opens it by
//! the descriptor of this process, as `/proc/PID/fd/N`. The memory for step marks is opened in the same way.

mod library;
mod python_memory;
mod python_stacks;
mod records;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use simprof_preload::format::{SCRIPT_BYTES, VARIABLE, feature, filters_in};

pub use library::{HEAP, Library, PRELOAD, is_mapped_from, is_simprofs};
pub use python_memory::{PythonMemory, wake};
pub use python_stacks::{Code, Node, Tree};
pub use records::{Event, Record, Records};

/// The environment variable that names libraries to load before all others.
const PRELOAD_VARIABLE: &str = "LD_PRELOAD";
/// Mean waiting time of a thread between two records of its waits, ns. It equals a sampling rate of 1 kHz.
const WAIT_PERIOD_NS: u64 = 1_000_000;

/// The features of the preload library in processes that run Python. In other processes the library does nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Preload {
    /// Whether samples get Python frames. Ignored if stacks are not sampled.
    pub frames: bool,
    /// Whether the waits of threads that run Python are recorded. Ignored if stacks are not sampled.
    pub waits: bool,
    /// Python text that every process that runs Python executes before its own program; at most
    /// [`SCRIPT_BYTES`] long.
    pub script: Option<String>,
}

impl Preload {
    /// Returns frames and waits without a script: the features for sampling any target.
    pub fn python() -> Self {
        Self { frames: true, waits: true, script: None }
    }

    /// Returns the features that apply, depending on whether stacks are sampled.
    pub(crate) fn with_sampling(&self, sampled: bool) -> Self {
        let script = self.script.clone();
        Self { frames: self.frames && sampled, waits: self.waits && sampled, script }
    }

    /// Returns whether any feature is enabled, so that the library must be loaded.
    pub(crate) fn is_any_enabled(&self) -> bool {
        self.frames || self.waits || self.script.is_some()
    }

    fn features(&self) -> u64 {
        let features = [
            (self.frames, feature::FRAMES),
            (self.waits, feature::WAITS),
            (self.script.is_some(), feature::SCRIPT),
        ];
        features.iter().filter(|(enabled, _)| *enabled).map(|(_, feature)| feature).sum()
    }
}

/// The library, the shared memory and the pipe for requests, for one run of a target.
#[derive(Debug)]
pub struct Injection {
    pub memory: PythonMemory,
    library: Library,
    /// Processes write their slots here to request sampling.
    requests: PipeReader,
    /// Kept open so that the reader never sees the end of the pipe.
    _request_writer: PipeWriter,
    /// Working directory of the target. File names in Python frames are relative to it.
    pub directory: PathBuf,
}

impl Injection {
    /// Creates the memory, the library file and the pipe.
    ///
    /// # Errors
    /// Returns an error if the script is too long or if a system call fails.
    pub fn create(preload: &Preload, directory: Option<&Path>) -> io::Result<Self> {
        let script = preload.script.as_deref().unwrap_or_default();
        if script.len() > SCRIPT_BYTES {
            let message = format!("the script is longer than {SCRIPT_BYTES} bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let (requests, request_writer) = io::pipe()?;
        set_nonblocking(requests.as_raw_fd())?;
        let notify_path = path_of(request_writer.as_raw_fd());
        let memory =
            PythonMemory::create(preload.features(), WAIT_PERIOD_NS, script, &notify_path)?;
        let directory = directory.unwrap_or(Path::new("."));
        Ok(Self {
            memory,
            library: Library::create(&PRELOAD)?,
            requests,
            _request_writer: request_writer,
            directory: std::path::absolute(directory)?,
        })
    }

    /// Returns the environment variables that make a target load the library. `given` are the target's other variables.
    pub fn environment(&self, given: &BTreeMap<String, String>) -> [(String, String); 2] {
        [preload_variable(&self.library, given), (variable(), path_of(self.memory.fd()))]
    }

    /// Disables all features except the script, because stacks are not sampled.
    pub fn disable_sampling(&self) {
        self.memory.restrict(feature::SCRIPT);
    }

    /// Returns a descriptor that is readable when a process requests to be sampled.
    pub fn request_fd(&self) -> RawFd {
        self.requests.as_raw_fd()
    }

    /// Returns the slots of the processes that requested sampling since the last call. Never blocks.
    pub fn take_requests(&self) -> Vec<u32> {
        let mut bytes = [0; 1024];
        let mut slots = Vec::new();
        loop {
            let read = io::Read::read(&mut &self.requests, &mut bytes).unwrap_or(0);
            let words = bytes[..read].chunks_exact(4).filter_map(|word| word.try_into().ok());
            slots.extend(words.map(u32::from_ne_bytes));
            if read < bytes.len() {
                return slots;
            }
        }
    }
}

/// Returns the name of the variable by which the library finds its memory.
pub fn variable() -> String {
    VARIABLE.to_string_lossy().into_owned()
}

/// Returns the variable that makes a target load a library. Libraries that `given`, or this process's environment, names
/// are kept.
pub fn preload_variable(library: &Library, given: &BTreeMap<String, String>) -> (String, String) {
    let others = given.get(PRELOAD_VARIABLE).map(OsString::from);
    let others = others.or_else(|| std::env::var_os(PRELOAD_VARIABLE)).unwrap_or_default();
    (PRELOAD_VARIABLE.to_owned(), joined(&library.path(), &others.to_string_lossy()))
}

/// Puts `library` before the other libraries to load. Removes the libraries of a simprof that profiles this one: two of
/// them would interpose each other.
fn joined(library: &str, others: &str) -> String {
    let is_descriptor = |path: &str| {
        let mut parts = path.split('/');
        parts.next() == Some("")
            && parts.next() == Some("proc")
            && parts.next().is_some_and(|pid| pid.bytes().all(|byte| byte.is_ascii_digit()))
            && parts.next() == Some("fd")
    };
    let is_simprofs = |path: &str| is_descriptor(path) || library::is_simprofs(path);
    let kept = others.split([':', ' ']).filter(|path| !path.is_empty() && !is_simprofs(path));
    std::iter::once(library).chain(kept).collect::<Vec<_>>().join(":")
}

/// Returns the path by which another process of the same user can open a descriptor of this process.
pub fn path_of(fd: RawFd) -> String {
    format!("/proc/{}/fd/{fd}", std::process::id())
}

/// Returns the number of seccomp filters of this process, which the target inherits.
pub fn own_filters() -> u32 {
    std::fs::read("/proc/self/status").map_or(0, |status| filters_in(&status))
}

/// Creates a file that exists only in memory.
pub fn memory_file(name: &std::ffi::CStr, flags: libc::c_uint) -> io::Result<OwnedFd> {
    // SAFETY: the name is a valid C string.
    let fd = unsafe { libc::memfd_create(name.as_ptr(), flags) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just opened, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn set_nonblocking(fd: RawFd) -> io::Result<()> {
    // SAFETY: the call takes no pointers, and the caller owns the descriptor.
    let status = unsafe { libc::fcntl(fd, libc::F_SETFL, libc::O_NONBLOCK) };
    if status < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn other_preloaded_libraries_are_kept() {
        let table = [
            ("", "/l"),
            ("/a.so", "/l:/a.so"),
            ("/a.so:b.so", "/l:/a.so:b.so"),
            ("/proc/12/fd/5:/a.so", "/l:/a.so"),
            ("/tmp/simprof-preload-7-0/libsimprof_preload.so:/a.so", "/l:/a.so"),
            ("/tmp/simprof-preload-7-1/libsimprof_heap.so", "/l"),
            ("/process/12/fd/5 c.so", "/l:/process/12/fd/5:c.so"),
        ];
        for (others, expected) in table {
            assert_eq!(joined("/l", others), expected, "{others:?}");
        }
    }

    #[test]
    fn the_library_can_be_read_by_its_path() {
        let injection = Injection::create(&Preload::python(), None).expect("memory");
        let environment = injection.environment(&BTreeMap::new());
        let path = environment[0].1.split(':').next().expect("a path").to_owned();
        assert_eq!(std::fs::read(path).expect("readable"), simprof_preload::LIBRARY);
        assert_eq!(environment[1].0, "SIMPROF_PRELOAD");
    }

    #[test]
    fn each_request_is_taken_once() {
        let injection = Injection::create(&Preload::python(), None).expect("memory");
        assert!(injection.take_requests().is_empty());
        let mut writer = &injection._request_writer;
        for slot in [3_u32, 500] {
            writer.write_all(&slot.to_ne_bytes()).expect("the pipe has space");
        }
        assert_eq!(injection.take_requests(), [3, 500]);
        assert!(injection.take_requests().is_empty());
    }
}
