//! Files of /proc that are read repeatedly.

use std::cell::Cell;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::rc::Rc;
use std::str::FromStr;

/// Maximum number of files that are kept open, so that a target with thousands of threads does not use
/// up this process's descriptors. Other files are opened for each read.
const MAX_OPEN: usize = 256;

/// A read of fewer bytes than this has reached the end of the file: entries of /proc files are
/// shorter than the rest of the page.
const SHORT_READ_BYTES: usize = 2048;

/// How many more files may be kept open. Its clones share the number.
#[derive(Debug, Clone)]
pub struct OpenFileLimit(Rc<Cell<usize>>);

impl OpenFileLimit {
    pub fn new() -> Self {
        Self(Rc::new(Cell::new(MAX_OPEN)))
    }
}

/// A file that is kept open if the limit allows it. An open file stays that of the process that it
/// was opened for, even after another process got the same id.
#[derive(Debug)]
pub struct ProcFile {
    path: String,
    open: Option<File>,
    limit: OpenFileLimit,
}

impl ProcFile {
    pub fn new(path: String, limit: &OpenFileLimit) -> Self {
        Self { path, open: None, limit: limit.clone() }
    }

    /// Reads the whole file into `buffer`, replacing its content. Returns the text.
    pub fn read<'a>(&mut self, buffer: &'a mut Vec<u8>) -> io::Result<&'a [u8]> {
        if let Some(file) = &self.open {
            return read_all(file, buffer);
        }
        let file = File::open(&self.path)?;
        let text = read_all(&file, buffer);
        if self.limit.0.get() > 0 {
            self.limit.0.set(self.limit.0.get() - 1);
            self.open = Some(file);
        }
        text
    }
}

impl Drop for ProcFile {
    fn drop(&mut self) {
        if self.open.is_some() {
            self.limit.0.set(self.limit.0.get() + 1);
        }
    }
}

/// Reads from offset 0, at which the kernel generates the content again.
fn read_all<'a>(file: &File, buffer: &'a mut Vec<u8>) -> io::Result<&'a [u8]> {
    if buffer.len() < 4096 {
        buffer.resize(4096, 0);
    }
    let mut length = 0;
    loop {
        let count = file.read_at(&mut buffer[length..], length as u64)?;
        length += count;
        // A long file comes in pieces of up to a page, each of which ends before the first entry
        // that does not fit. A short piece is therefore the whole file; this saves one call.
        if count == 0 || length < SHORT_READ_BYTES {
            return Ok(&buffer[..length]);
        }
        if length == buffer.len() {
            buffer.resize(length * 2, 0);
        }
    }
}

/// Returns the number after `label` at the beginning of a line.
pub fn field(text: &[u8], label: &str) -> Option<u64> {
    let line =
        text.split(|&byte| byte == b'\n').find_map(|line| line.strip_prefix(label.as_bytes()))?;
    std::str::from_utf8(line).ok()?.split_whitespace().next()?.parse().ok()
}

/// Parses all numbers that blanks separate.
pub fn numbers<T: FromStr>(text: &[u8]) -> Vec<T> {
    let text = std::str::from_utf8(text).unwrap_or_default();
    text.split_ascii_whitespace().filter_map(|number| number.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_by_its_full_label() {
        let text = b"nonvoluntary_ctxt_switches:\t7\nvoluntary_ctxt_switches:\t12\nPss:   34 kB\n";
        assert_eq!(field(text, "voluntary_ctxt_switches:"), Some(12));
        assert_eq!(field(text, "Pss:"), Some(34));
        assert_eq!(field(text, "Rss:"), None);
    }

    #[test]
    fn files_are_kept_open_within_the_limit() {
        let limit = OpenFileLimit::new();
        let mut file = ProcFile::new("/proc/self/task".to_owned(), &limit);
        assert!(file.read(&mut Vec::new()).is_err());
        drop(file);
        let mut file = ProcFile::new("/proc/self/stat".to_owned(), &limit);
        let mut buffer = Vec::new();
        let text = file.read(&mut buffer).expect("a file of this process").to_vec();
        assert!(text.ends_with(b"\n"));
        assert_eq!(limit.0.get(), MAX_OPEN - 1);
        drop(file);
        assert_eq!(limit.0.get(), MAX_OPEN);
    }

    #[test]
    fn a_long_file_is_read_completely() {
        let mut file = ProcFile::new("/proc/self/smaps".to_owned(), &OpenFileLimit::new());
        let mut buffer = Vec::new();
        let length = file.read(&mut buffer).expect("a file of this process").len();
        assert!(length > 4096, "{length}");
    }
}
