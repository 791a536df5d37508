//! What a file is that cannot be read as a profile, and what could be done with it.

/// Beginnings of files that people have at hand, what these are, and the mend.
const KNOWN: [(&[u8], &str); 6] = [
    (b"PERFILE2", "data of perf: `perf script` and a stack collapser make folded stacks of it"),
    (b"2ELIFREP", "data of perf: `perf script` and a stack collapser make folded stacks of it"),
    (
        b"\x1f\x8b",
        "a gzip file: where it is a profile of pprof, write it as folded stacks; else unpack it first",
    ),
    (b"\x7fELF", "a program: profile it with `simprof run -- PROGRAM`"),
    (b"{", "JSON of another kind: of JSON, only speedscope's is read"),
    (b"[", "JSON of another kind: of JSON, only speedscope's is read"),
];

/// What the bytes seem to be, in words.
pub(super) fn describe(bytes: &[u8]) -> &'static str {
    if bytes.is_empty() {
        return "empty: did the program that should write it end early?";
    }
    let known = KNOWN.iter().find(|(beginning, _)| bytes.starts_with(beginning));
    known.map_or("nothing that is known", |&(_, description)| description)
}
