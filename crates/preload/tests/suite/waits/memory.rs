//! The shared memory, as the profiler creates and reads it.

use std::fs::{File, OpenOptions};
use std::mem::{offset_of, size_of};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use simprof_preload::format::{Code, Header, Kind, MAGIC, Node, RECORDS, Record, feature, offset};
use simprof_testkit::TestFolder;

/// A file of shared memory in a temporary folder, with the library beside it.
pub struct Memory {
    folder: TestFolder,
    file: File,
}

/// A wait that was recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wait {
    /// CLOCK_MONOTONIC of its end, ns.
    pub time_ns: u64,
    pub tid: u32,
    /// Value of a `Cause`.
    pub cause: u32,
    pub duration_ns: u64,
    pub weight_ns: u64,
    /// Names of the Python functions on the stack, innermost first.
    pub stack: Vec<String>,
}

impl Memory {
    /// Creates memory that requests only waits.
    pub fn new(wait_period_ns: u64) -> Memory {
        Self::with_features(feature::WAITS, wait_period_ns, "")
    }

    /// Creates memory that requests all waits and runs a script.
    pub fn with_script(script: &str) -> Memory {
        Self::with_features(feature::WAITS | feature::SCRIPT, 1, script)
    }

    fn with_features(features: u64, wait_period_ns: u64, script: &str) -> Memory {
        let folder = TestFolder::new();
        folder.write("library.so", simprof_preload::LIBRARY);
        let path = folder.path("memory");
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .expect("a new file");
        file.set_len(offset::END as u64).expect("a sparse file");
        for (at, value) in [
            (offset_of!(Header, magic), MAGIC),
            (offset_of!(Header, bytes), offset::END as u64),
            (offset_of!(Header, features), features),
            (offset_of!(Header, script_bytes), script.len() as u64),
            (offset_of!(Header, wait_period_ns), wait_period_ns),
        ] {
            file.write_all_at(&value.to_ne_bytes(), at as u64).expect("the header is written");
        }
        file.write_all_at(script.as_bytes(), offset::SCRIPT as u64).expect("the script is written");
        Memory { folder, file }
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path("memory")
    }

    pub fn library(&self) -> PathBuf {
        self.folder.path("library.so")
    }

    pub fn folder(&self) -> &Path {
        self.folder.root()
    }

    /// Returns all waits in the order of their records.
    pub fn waits(&self) -> Vec<Wait> {
        let next = self.u64(offset_of!(Header, next));
        assert!(next <= RECORDS, "no record was overwritten");
        (0..next).filter_map(|position| self.wait(position)).collect()
    }

    fn wait(&self, position: u64) -> Option<Wait> {
        let at = offset::RECORDS + position as usize * size_of::<Record>();
        let field = |field: usize| self.u64(at + field);
        let stamp = field(offset_of!(Record, stamp));
        assert_eq!(stamp >> 8, position + 1, "the record is complete");
        (stamp & 0xff == Kind::Wait as u64).then(|| Wait {
            time_ns: field(offset_of!(Record, time_ns)),
            tid: field(offset_of!(Record, thread)) as u32,
            cause: field(offset_of!(Record, cause)) as u32,
            duration_ns: field(offset_of!(Record, duration_ns)),
            weight_ns: field(offset_of!(Record, weight_ns)),
            stack: self.stack(field(offset_of!(Record, stack)) as u32),
        })
    }

    fn stack(&self, mut node: u32) -> Vec<String> {
        let mut names = Vec::new();
        while node != 0 {
            let at = offset::node(node as usize).expect("the node exists");
            names.push(self.name(self.u32(at + offset_of!(Node, code))));
            node = self.u32(at + offset_of!(Node, parent));
        }
        names
    }

    fn name(&self, code: u32) -> String {
        let Some(at) = offset::code(code) else { return "?".into() };
        let length = self.u32(at + offset_of!(Code, name));
        String::from_utf8(self.bytes(at + size_of::<Code>(), length as usize)).expect("ASCII")
    }

    fn u32(&self, at: usize) -> u32 {
        u32::from_ne_bytes(self.bytes(at, 4).try_into().expect("4 bytes"))
    }

    fn u64(&self, at: usize) -> u64 {
        u64::from_ne_bytes(self.bytes(at, 8).try_into().expect("8 bytes"))
    }

    fn bytes(&self, at: usize, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, at as u64).expect("within the file");
        bytes
    }
}
