//! The shared memory, as the profiler creates and reads it.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};

use memmap2::MmapRaw;
use simprof_preload::format::{
    self, BUSY, Code, Header, MAGIC, Node, PROCESSES, Process, RECORDS, Record, Text, offset,
};

use super::lines;

/// The shared memory and its file.
pub struct Memory {
    map: MmapRaw,
    file: File,
}

/// A complete record of a sample or a wait.
#[derive(Debug, Clone)]
pub struct Sample {
    pub kind: u8,
    pub time_ns: u64,
    pub tid: u32,
    pub process: u32,
    pub node: u32,
    pub flags: u32,
}

/// Name of the frame that stands for the frames in the middle of a very deep stack.
pub const LEFT_OUT: &str = "...";

/// A decoded frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StackFrame {
    pub name: String,
    pub file: String,
    pub line: u32,
    pub first_line: u32,
    pub entry: bool,
    pub readable: bool,
}

impl Memory {
    /// Creates the memory. `notify` is the path of the pipe to which processes write their requests.
    pub fn new(features: u64, notify: &str) -> Memory {
        // SAFETY: the name is a C string.
        let fd = unsafe { libc::memfd_create(c"simprof-memory".as_ptr(), libc::MFD_CLOEXEC) };
        assert!(fd >= 0);
        // SAFETY: the descriptor is new.
        let file = File::from(unsafe { <OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(fd) });
        file.set_len(offset::END as u64).expect("a sparse file has any length");
        let map = MmapRaw::map_raw(&file).expect("it can be mapped");
        let header = map.as_mut_ptr().cast::<Header>();
        // SAFETY: the mapping begins with the header, and no other process has it yet.
        unsafe {
            (*header).magic = MAGIC;
            (*header).bytes = offset::END as u64;
            (*header).features = features;
            let status = std::fs::read("/proc/self/status").expect("this process has a status");
            *(*header).filters.get_mut() = format::filters_in(&status).into();
            (&mut (*header).notify)[..notify.len()].copy_from_slice(notify.as_bytes());
        }
        Memory { map, file }
    }

    /// Returns the path with which another process opens the memory.
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd())
    }

    pub fn header(&self) -> &Header {
        // SAFETY: the mapping begins with the header.
        unsafe { &*self.map.as_ptr().cast() }
    }

    pub fn processes(&self) -> &[Process] {
        self.part(offset::PROCESSES, PROCESSES)
    }

    fn part<T>(&self, at: usize, count: usize) -> &[T] {
        // SAFETY: the parts lie within the mapping, and consist of atomics.
        unsafe { std::slice::from_raw_parts(self.map.as_ptr().add(at).cast(), count) }
    }

    /// Returns the records from position `next` on, the position to continue from, and the number of lost records.
    pub fn records(&self, mut next: u64) -> (Vec<Sample>, u64, u64) {
        let end = self.header().next.load(Ordering::Acquire);
        let mut lost = end.saturating_sub(RECORDS).saturating_sub(next);
        next += lost;
        let mut samples = Vec::new();
        for position in next..end {
            match self.record(position) {
                Some(sample) => samples.push(sample),
                None => lost += 1,
            }
        }
        (samples, end, lost)
    }

    fn record(&self, position: u64) -> Option<Sample> {
        let record: &Record =
            &self.part(offset::RECORDS, RECORDS as usize)[(position % RECORDS) as usize];
        let stamp = record.stamp.load(Ordering::Acquire);
        if stamp == BUSY || stamp >> 8 != position + 1 {
            return None;
        }
        let thread = record.thread.load(Ordering::Relaxed);
        let stack = record.stack.load(Ordering::Relaxed);
        let sample = Sample {
            kind: stamp as u8,
            time_ns: record.time_ns.load(Ordering::Relaxed),
            tid: thread as u32,
            process: (thread >> 32) as u32,
            node: stack as u32,
            flags: (stack >> 32) as u32,
        };
        std::sync::atomic::fence(Ordering::Acquire);
        (record.stamp.load(Ordering::Relaxed) == stamp).then_some(sample)
    }

    /// Returns the frames of the stack that ends at a node, the outermost first.
    pub fn stack(&self, mut node: u32) -> Vec<StackFrame> {
        let mut frames = Vec::new();
        while node != 0 {
            let at = offset::node(node as usize).expect("the node exists");
            let at = &self.part::<Node>(at, 1)[0];
            let flags = at.flags.load(Ordering::Acquire);
            assert!(flags & format::WRITTEN != 0, "a node that a record refers to is written");
            frames.push(self.frame(at, flags & format::ENTRY != 0));
            let parent = at.parent.load(Ordering::Relaxed);
            assert!(frames.len() <= format::MAX_FRAMES, "the depth of stacks is limited");
            node = parent;
        }
        frames.reverse();
        frames
    }

    fn frame(&self, node: &Node, entry: bool) -> StackFrame {
        let number = node.code.load(Ordering::Relaxed);
        if number == 0 || number == format::LEFT_OUT {
            let name = if number == 0 { "?" } else { LEFT_OUT };
            return StackFrame {
                name: name.into(),
                file: "?".into(),
                line: 0,
                first_line: 0,
                entry,
                readable: false,
            };
        }
        let at = offset::code(number).expect("the code object exists");
        // SAFETY: codes lie within the arena.
        let code = unsafe { &*self.map.as_ptr().add(at).cast::<Code>() };
        assert_eq!(
            code.written.load(Ordering::Acquire),
            1,
            "a code that a node refers to is complete"
        );
        let texts = at + size_of::<Code>();
        let file_at = texts + padded(code.name.bytes);
        let table_at = file_at + padded(code.file.bytes);
        let table = if code.table_bytes == u32::MAX {
            &[]
        } else {
            self.part::<u8>(table_at, code.table_bytes as usize)
        };
        let instruction = node.instruction.load(Ordering::Relaxed);
        StackFrame {
            name: self.text(texts, code.name),
            file: self.text(file_at, code.file),
            line: lines::line(code.version, code.first_line, table, instruction),
            first_line: code.first_line,
            entry,
            readable: true,
        }
    }

    fn text(&self, at: usize, text: Text) -> String {
        let bytes = self.part::<u8>(at, text.bytes as usize);
        let character = |bytes: &[u8]| {
            let mut word = [0; 4];
            word[..bytes.len()].copy_from_slice(bytes);
            char::from_u32(u32::from_le_bytes(word)).unwrap_or(char::REPLACEMENT_CHARACTER)
        };
        assert!(text.width != 0, "names and files can be read");
        bytes.chunks(text.width as usize).map(character).collect()
    }

    /// Returns the number of nodes and of arena units in use.
    pub fn used(&self) -> (u64, u64) {
        let header = self.header();
        (header.nodes.load(Ordering::Relaxed), header.arena.load(Ordering::Relaxed))
    }

    /// Returns the state of the process in a slot.
    pub fn state(&self, position: usize) -> &AtomicU32 {
        &self.processes()[position].state
    }
}

fn padded(bytes: u32) -> usize {
    bytes.next_multiple_of(4) as usize
}
