//! Files of /proc that are read again and again.

use std::cell::Cell;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::rc::Rc;

/// Descriptors that may be kept open at the same time, so that a target of thousands of threads
/// does not use up this process's; files beyond are opened for each read.
const KEPT_OPEN: usize = 256;

/// Less than this from one read is all there is, bytes: entries of /proc's files are shorter than
/// the rest of the page.
const SHORT: usize = 2048;

/// How many descriptors may still be kept.
#[derive(Debug, Clone)]
pub struct Room(Rc<Cell<usize>>);

impl Room {
    pub fn new() -> Self {
        Self(Rc::new(Cell::new(KEPT_OPEN)))
    }
}

/// A file that is kept open where there is room. One that is kept tells of the process that it was
/// opened for even where its id has been given to another.
#[derive(Debug)]
pub struct ProcFile {
    path: String,
    kept: Option<File>,
    room: Room,
}

impl ProcFile {
    pub fn new(path: String, room: &Room) -> Self {
        Self { path, kept: None, room: room.clone() }
    }

    /// Reads it whole into `buffer`, replacing what was there.
    pub fn read<'a>(&mut self, buffer: &'a mut Vec<u8>) -> io::Result<&'a [u8]> {
        if let Some(file) = &self.kept {
            return read_whole(file, buffer);
        }
        let file = File::open(&self.path)?;
        let text = read_whole(&file, buffer);
        if self.room.0.get() > 0 {
            self.room.0.set(self.room.0.get() - 1);
            self.kept = Some(file);
        }
        text
    }
}

impl Drop for ProcFile {
    fn drop(&mut self) {
        if self.kept.is_some() {
            self.room.0.set(self.room.0.get() + 1);
        }
    }
}

/// Reads from the start; a file of /proc is made anew by each read at offset 0.
fn read_whole<'a>(file: &File, buffer: &'a mut Vec<u8>) -> io::Result<&'a [u8]> {
    if buffer.len() < 4096 {
        buffer.resize(4096, 0);
    }
    let mut length = 0;
    loop {
        let count = file.read_at(&mut buffer[length..], length as u64)?;
        length += count;
        // A longer file comes in pieces of up to a page, which end where the next entry has no
        // room; what is short is whole, and one call is saved for it.
        if count == 0 || length < SHORT {
            return Ok(&buffer[..length]);
        }
        if length == buffer.len() {
            buffer.resize(length * 2, 0);
        }
    }
}

/// The number after `label` at the begin of a line.
pub fn field(text: &[u8], label: &str) -> Option<u64> {
    let line =
        text.split(|&byte| byte == b'\n').find_map(|line| line.strip_prefix(label.as_bytes()))?;
    std::str::from_utf8(line).ok()?.split_whitespace().next()?.parse().ok()
}

/// All numbers of a text of numbers.
pub fn numbers(text: &[u8]) -> Vec<u32> {
    let text = std::str::from_utf8(text).unwrap_or_default();
    text.split_ascii_whitespace().filter_map(|number| number.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_by_its_whole_label() {
        let text = b"nonvoluntary_ctxt_switches:\t7\nvoluntary_ctxt_switches:\t12\nPss:   34 kB\n";
        assert_eq!(field(text, "voluntary_ctxt_switches:"), Some(12));
        assert_eq!(field(text, "Pss:"), Some(34));
        assert_eq!(field(text, "Rss:"), None);
    }

    #[test]
    fn a_file_changes_between_reads_and_its_room_comes_back() {
        let room = Room::new();
        let mut file = ProcFile::new("/proc/self/task".to_owned(), &room);
        assert!(file.read(&mut Vec::new()).is_err());
        drop(file);
        let mut file = ProcFile::new("/proc/self/stat".to_owned(), &room);
        let mut buffer = Vec::new();
        let first = file.read(&mut buffer).expect("our own").to_vec();
        assert!(first.ends_with(b"\n"));
        assert_eq!(room.0.get(), KEPT_OPEN - 1);
        drop(file);
        assert_eq!(room.0.get(), KEPT_OPEN);
    }

    #[test]
    fn a_long_file_is_read_whole() {
        let mut file = ProcFile::new("/proc/self/smaps".to_owned(), &Room::new());
        let mut buffer = Vec::new();
        let length = file.read(&mut buffer).expect("our own").len();
        assert!(length > 4096, "{length}");
    }
}
