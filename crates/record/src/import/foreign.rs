//! Descriptions of files that are not profiles, with what to do about each.

use super::text;

/// First bytes of common kinds of files, with a description and the fix.
const KNOWN: [(&[u8], &str); 6] = [
    (
        b"PERFILE2",
        "data of perf: convert it to folded stacks with `perf script` and a stack collapser",
    ),
    (
        b"2ELIFREP",
        "data of perf: convert it to folded stacks with `perf script` and a stack collapser",
    ),
    (
        b"\x1f\x8b",
        "a gzip file: if it is a pprof profile, convert it to folded stacks; otherwise unpack it first",
    ),
    (b"\x7fELF", "a program: profile it with `simprof run -- PROGRAM`"),
    (b"{", "JSON of another kind: the only JSON format that simprof can read is speedscope's"),
    (b"[", "JSON of another kind: the only JSON format that simprof can read is speedscope's"),
];

/// Describes the content of the bytes.
pub(super) fn describe(bytes: &[u8]) -> &'static str {
    if bytes.is_empty() {
        return "empty: check whether the program that writes it ended early";
    }
    if text::is_unmarked_utf16(bytes) {
        return "text in UTF-16 without a byte order mark: convert it to UTF-8";
    }
    let known = KNOWN.iter().find(|(beginning, _)| bytes.starts_with(beginning));
    known.map_or("an unknown kind of file", |&(_, description)| description)
}
