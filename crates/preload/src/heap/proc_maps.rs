//! The mappings of this process, as `/proc/self/maps` lists them.

use core::ops::Range;

use super::system;

/// Returns the range of the mapping that contains `address`, and the end of the mapping below; 0 for what is not known.
#[cfg(simprof_heap)]
pub fn mapping_at(address: usize) -> (usize, Range<usize>) {
    let below = core::cell::Cell::new(0);
    let mut scratch = [0; 4096];
    let is_it = |range: Range<usize>| {
        let found = range.contains(&address);
        if !found {
            below.set(range.end);
        }
        found
    };
    let line = find_line(is_it, &mut scratch);
    (below.get(), range_of(&scratch[line]))
}

/// Returns whether the memory at this address belongs to no file and is accessible.
#[cfg(simprof_heap)]
pub fn is_anonymous(address: usize) -> bool {
    let mut scratch = [0; 4096];
    let line = find_line(|range| range.contains(&address), &mut scratch);
    is_line_anonymous(&scratch[line])
}

/// Like [`is_anonymous`], for a line of `/proc/self/maps`.
fn is_line_anonymous(line: &[u8]) -> bool {
    let Some(rights) = line.split(|&byte| byte == b' ').nth(1) else { return false };
    let path = &line[path_in(line, 0..line.len())];
    // Anonymous memory that the program has named, and shared anonymous memory.
    let is_named = [&b"[anon"[..], b"/dev/zero"].into_iter().any(|name| path.starts_with(name));
    !rights.starts_with(b"---") && (path.is_empty() || is_named)
}

/// Reads into `scratch` the line of the first mapping whose address range `is_it` accepts. Returns the
/// position of the line in `scratch`; empty if there is none, or if that line or one before it does not fit.
pub fn find_line(is_it: impl Fn(Range<usize>) -> bool, scratch: &mut [u8]) -> Range<usize> {
    let Some(fd) = system::open(c"/proc/self/maps") else { return 0..0 };
    let found = find_line_in(fd, is_it, scratch);
    system::close(fd);
    found
}

fn find_line_in(
    fd: usize,
    is_it: impl Fn(Range<usize>) -> bool,
    scratch: &mut [u8],
) -> Range<usize> {
    let mut filled = 0;
    loop {
        let read = system::read(fd, &mut scratch[filled..]);
        filled += read;
        let mut begin = 0;
        while let Some(length) = scratch[begin..filled].iter().position(|&byte| byte == b'\n') {
            if is_it(range_of(&scratch[begin..begin + length])) {
                return begin..begin + length;
            }
            begin += length + 1;
        }
        if read == 0 || begin == 0 && filled == scratch.len() {
            return 0..0;
        }
        scratch.copy_within(begin..filled, 0);
        filled -= begin;
    }
}

/// Parses the range at the beginning of a line.
fn range_of(line: &[u8]) -> Range<usize> {
    let mut values = [0usize; 2];
    let mut at = 0;
    for &byte in line {
        match (byte as char).to_digit(16) {
            Some(digit) => values[at] = values[at] << 4 | digit as usize,
            None if byte == b'-' && at == 0 => at = 1,
            None => break,
        }
    }
    values[0]..values[1]
}

/// Returns the sixth field of a line: range, rights, offset, device, inode, path.
pub fn path_in(line: &[u8], range: Range<usize>) -> Range<usize> {
    let mut at = range.start;
    for _ in 0..5 {
        while at < range.end && line[at] != b' ' {
            at += 1;
        }
        while at < range.end && line[at] == b' ' {
            at += 1;
        }
    }
    at..range.end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_proc_maps_are_parsed() {
        let table: [(&[u8], &[u8], bool); 7] = [
            (b"7f00-7f10 rw-p 00000000 00:00 0 ", b"", true),
            (b"7f00-7f10 rw-p 00000000 00:00 0", b"", true),
            (b"7f00-7f10 ---p 00000000 00:00 0 ", b"", false),
            (b"7f00-7f10 rw-p 00000000 00:00 0    [anon:a name]", b"[anon:a name]", true),
            (
                b"7f00-7f10 rw-s 00000000 00:01 7    /dev/zero (deleted)",
                b"/dev/zero (deleted)",
                true,
            ),
            (b"7f00-7f10 rw-p 00000000 00:00 0    [heap]", b"[heap]", false),
            (b"7f00-7f10 r--p 00001000 08:01 9    /a b/c", b"/a b/c", false),
        ];
        for (line, path, anonymous) in table {
            let text = String::from_utf8_lossy(line);
            assert_eq!(range_of(line), 0x7f00..0x7f10);
            assert_eq!(&line[path_in(line, 0..line.len())], path, "{text}");
            assert_eq!(is_line_anonymous(line), anonymous, "{text}");
        }
        assert!(!is_line_anonymous(b""));
    }

    #[test]
    fn the_line_of_an_address_is_found() {
        let mut scratch = [0; 4096];
        let own = (lines_of_proc_maps_are_parsed as *const ()).addr();
        let line = find_line(|range| range.contains(&own), &mut scratch);
        let path = path_in(&scratch, line);
        let program = std::env::current_exe().expect("a path");
        assert_eq!(&scratch[path], program.as_os_str().as_encoded_bytes());
        assert_eq!(find_line(|_| false, &mut scratch), 0..0);
    }
}
