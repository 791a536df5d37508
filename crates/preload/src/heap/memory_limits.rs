//! How much memory this process may still map, according to its own limits and those of the system. The
//! library uses a fraction of it.

use core::ffi::CStr;

use super::system;

const RLIMIT_DATA: usize = 2;
const RLIMIT_AS: usize = 9;

/// Returns how many bytes may still be mapped; `usize::MAX` if there is no limit.
pub fn mappable_bytes() -> usize {
    bytes_below_rlimits().min(committable_bytes())
}

/// Like [`mappable_bytes`], but considers only the limits of the process (`ulimit -v` and `-d`).
pub fn bytes_below_rlimits() -> usize {
    let pages = read_numbers::<6>(c"/proc/self/statm");
    let used = |at: usize| pages[at].saturating_mul(system::PAGE);
    let below = |resource, used| match system::limit(resource) {
        usize::MAX => usize::MAX,
        limit => limit.saturating_sub(used),
    };
    // The limit on the address space, and that on private writable memory.
    below(RLIMIT_AS, used(0)).min(below(RLIMIT_DATA, used(5)))
}

/// Like [`mappable_bytes`], but considers only the system's commit limit. `usize::MAX` unless
/// `vm.overcommit_memory` is 2, which enforces the limit.
fn committable_bytes() -> usize {
    const STRICT: usize = 2;
    if read_numbers::<1>(c"/proc/sys/vm/overcommit_memory") != [STRICT] {
        return usize::MAX;
    }
    let mut text = [0; 4096];
    let text = read(c"/proc/meminfo", &mut text);
    match [&b"CommitLimit:"[..], b"Committed_AS:"].map(|name| value(text, name)) {
        [Some(limit), Some(used)] => limit.saturating_sub(used).saturating_mul(1024),
        _ => usize::MAX,
    }
}

/// Parses the number after a name at the beginning of a line.
fn value(text: &[u8], name: &[u8]) -> Option<usize> {
    let mut lines = text.split(|&byte| byte == b'\n');
    let rest = lines.find_map(|line| line.strip_prefix(name))?;
    Some(numbers::<1>(rest)[0])
}

fn read_numbers<const N: usize>(path: &CStr) -> [usize; N] {
    let mut text = [0; 256];
    numbers(read(path, &mut text))
}

/// Parses the first numbers of a text; 0 for those that are missing.
fn numbers<const N: usize>(text: &[u8]) -> [usize; N] {
    let mut words = text.split(|byte| !byte.is_ascii_digit()).filter(|word| !word.is_empty());
    core::array::from_fn(|_| {
        let digits = words.next().unwrap_or_default().iter();
        digits.fold(0usize, |sum, digit| {
            sum.saturating_mul(10).saturating_add(usize::from(digit - b'0'))
        })
    })
}

fn read<'a>(path: &CStr, to: &'a mut [u8]) -> &'a [u8] {
    let Some(fd) = system::open(path) else { return &[] };
    let length = system::read(fd, to);
    system::close(fd);
    &to[..length]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_proc_files_are_parsed() {
        let meminfo = b"MemFree:  12 kB\nCommitLimit:    4096 kB\nCommitted_AS:   1000 kB\n";
        assert_eq!(value(meminfo, b"CommitLimit:"), Some(4096));
        assert_eq!(value(meminfo, b"Committed_AS:"), Some(1000));
        assert_eq!(value(meminfo, b"Swap:"), None);
        assert_eq!(numbers(b"12 3 0 99999999999999999999999 5\n"), [12, 3, 0, usize::MAX, 5, 0]);
        let pages = read_numbers::<6>(c"/proc/self/statm");
        assert!(pages[0] > 100 && pages[5] > 0, "{pages:?}");
        assert_eq!(read_numbers::<1>(c"/no/such/file"), [0]);
    }
}
