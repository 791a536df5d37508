//! What is loaded into the target: a library that tells of Python, and the memory that it tells it through.
//!
//! The library is a file that everybody can read ([`Library`]). The memory is one that only this process's descriptors name;
//! the target opens it by `/proc/PID/fd/N`, as it does the memory for marks.

mod library;
mod memory;
mod records;
mod tree;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use simprof_preload::format::{SCRIPT_BYTES, VARIABLE, feature};

pub use library::{HEAP, Library, PRELOAD, is_mapped_from, is_ours};
pub use memory::{Memory, wake};
pub use records::{Event, Record, Records};
pub use tree::{Code, Node, Tree};

/// Variable by which the loader is told of libraries to load before all others.
const PRELOAD_VARIABLE: &str = "LD_PRELOAD";
/// Mean waiting time of a thread between two records of its waits, ns: as often as samples at 1 kHz.
const WAIT_PERIOD_NS: u64 = 1_000_000;

/// What the library that is loaded into the target is to do there. In programs that do not run Python it does nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Preload {
    /// Whether samples of processes that run Python get their Python frames. Only where stacks are sampled.
    pub frames: bool,
    /// Whether threads that run Python tell what they wait for. Only where stacks are sampled.
    pub waits: bool,
    /// Python text that every process which runs Python executes before its own program; at most
    /// [`SCRIPT_BYTES`] long.
    pub script: Option<String>,
}

impl Preload {
    /// Frames and waits, no script: what sampling wants of any target.
    pub fn python() -> Self {
        Self { frames: true, waits: true, script: None }
    }

    /// What is left of it where stacks are sampled, or not.
    pub(crate) fn with_sampling(&self, sampled: bool) -> Self {
        let script = self.script.clone();
        Self { frames: self.frames && sampled, waits: self.waits && sampled, script }
    }

    /// Whether there is anything to load the library for.
    pub(crate) fn is_wanted(&self) -> bool {
        self.frames || self.waits || self.script.is_some()
    }

    fn features(&self) -> u64 {
        let wanted = [
            (self.frames, feature::FRAMES),
            (self.waits, feature::WAITS),
            (self.script.is_some(), feature::SCRIPT),
        ];
        wanted.iter().filter(|(wanted, _)| *wanted).map(|(_, feature)| feature).sum()
    }
}

/// The library, the memory and the pipe, open for the time of one run.
#[derive(Debug)]
pub struct Loadable {
    pub memory: Memory,
    library: Library,
    asking: PipeReader,
    /// Open as long as the reader, which would otherwise be told that all writers have gone.
    _notify: PipeWriter,
    /// Working directory of the target: files that it names are relative to it.
    pub directory: PathBuf,
}

impl Loadable {
    /// Makes everything for one target.
    pub fn create(preload: &Preload, directory: Option<&Path>) -> io::Result<Self> {
        let script = preload.script.as_deref().unwrap_or_default();
        if script.len() > SCRIPT_BYTES {
            let message = format!("the script is longer than {SCRIPT_BYTES} bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let (asking, notify) = io::pipe()?;
        set_nonblocking(asking.as_raw_fd())?;
        let notify_path = path_of(notify.as_raw_fd());
        let memory = Memory::create(preload.features(), WAIT_PERIOD_NS, script, &notify_path)?;
        let directory = directory.unwrap_or(Path::new("."));
        Ok(Self {
            memory,
            library: Library::create(&PRELOAD)?,
            asking,
            _notify: notify,
            directory: std::path::absolute(directory)?,
        })
    }

    /// The variables that make a target load the library, given those that it would have without.
    pub fn environment(&self, given: &BTreeMap<String, String>) -> [(String, String); 2] {
        [loads(&self.library, given), (variable(), path_of(self.memory.fd()))]
    }

    /// Leaves the script alone to be done: nobody samples.
    pub fn ask_for_nothing_sampled(&self) {
        self.memory.restrict(feature::SCRIPT);
    }

    /// Readable when a process asks to be sampled.
    pub fn asking_fd(&self) -> RawFd {
        self.asking.as_raw_fd()
    }

    /// The positions of the processes that ask, each once; never blocks.
    pub fn take_asking(&self) -> Vec<u32> {
        let mut bytes = [0; 1024];
        let mut places = Vec::new();
        loop {
            let read = io::Read::read(&mut &self.asking, &mut bytes).unwrap_or(0);
            let words = bytes[..read].chunks_exact(4).filter_map(|word| word.try_into().ok());
            places.extend(words.map(u32::from_ne_bytes));
            if read < bytes.len() {
                return places;
            }
        }
    }
}

/// Name of the variable by which the library finds its memory.
pub fn variable() -> String {
    VARIABLE.to_string_lossy().into_owned()
}

/// The variable that makes a target load a library, given those that it would have without.
pub fn loads(library: &Library, given: &BTreeMap<String, String>) -> (String, String) {
    let before = given.get(PRELOAD_VARIABLE).map(OsString::from);
    let before = before.or_else(|| std::env::var_os(PRELOAD_VARIABLE)).unwrap_or_default();
    (PRELOAD_VARIABLE.to_owned(), joined(&library.path(), &before.to_string_lossy()))
}

/// `library` before what was to be loaded already, except the library of a profiler that profiles this one: two of them
/// would interpose each other.
fn joined(library: &str, before: &str) -> String {
    let is_descriptor = |path: &str| {
        let mut parts = path.split('/');
        parts.next() == Some("")
            && parts.next() == Some("proc")
            && parts.next().is_some_and(|pid| pid.bytes().all(|byte| byte.is_ascii_digit()))
            && parts.next() == Some("fd")
    };
    let is_profilers = |path: &str| is_descriptor(path) || library::is_ours(path);
    let kept = before.split([':', ' ']).filter(|path| !path.is_empty() && !is_profilers(path));
    std::iter::once(library).chain(kept).collect::<Vec<_>>().join(":")
}

/// Path by which another process of the same user can open a descriptor of this one.
pub fn path_of(fd: RawFd) -> String {
    format!("/proc/{}/fd/{fd}", std::process::id())
}

/// A file that exists in memory only.
pub fn memory_file(name: &std::ffi::CStr, flags: libc::c_uint) -> io::Result<OwnedFd> {
    // SAFETY: the name is a C string.
    let fd = unsafe { libc::memfd_create(name.as_ptr(), flags) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it was just opened and belongs to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn set_nonblocking(fd: RawFd) -> io::Result<()> {
    // SAFETY: no memory is involved; the descriptor is ours.
    let status = unsafe { libc::fcntl(fd, libc::F_SETFL, libc::O_NONBLOCK) };
    if status < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn what_was_to_be_loaded_already_stays() {
        let table = [
            ("", "/l"),
            ("/a.so", "/l:/a.so"),
            ("/a.so:b.so", "/l:/a.so:b.so"),
            ("/proc/12/fd/5:/a.so", "/l:/a.so"),
            ("/tmp/simprof-preload-7-0/libsimprof_preload.so:/a.so", "/l:/a.so"),
            ("/tmp/simprof-preload-7-1/libsimprof_heap.so", "/l"),
            ("/process/12/fd/5 c.so", "/l:/process/12/fd/5:c.so"),
        ];
        for (before, expected) in table {
            assert_eq!(joined("/l", before), expected, "{before:?}");
        }
    }

    #[test]
    fn the_library_can_be_read_by_its_path() {
        let loadable = Loadable::create(&Preload::python(), None).expect("memory");
        let environment = loadable.environment(&BTreeMap::new());
        let path = environment[0].1.split(':').next().expect("a path").to_owned();
        assert_eq!(std::fs::read(path).expect("readable"), simprof_preload::LIBRARY);
        assert_eq!(environment[1].0, "SIMPROF_PRELOAD");
    }

    #[test]
    fn who_asks_is_heard_once() {
        let loadable = Loadable::create(&Preload::python(), None).expect("memory");
        assert!(loadable.take_asking().is_empty());
        let mut notify = &loadable._notify;
        for place in [3_u32, 500] {
            notify.write_all(&place.to_ne_bytes()).expect("room");
        }
        assert_eq!(loadable.take_asking(), [3, 500]);
        assert!(loadable.take_asking().is_empty());
    }
}
