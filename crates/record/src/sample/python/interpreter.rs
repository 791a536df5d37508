//! Names of Python interpreters.

use super::PythonProcess;

/// Returns name and version of a process's interpreter.
pub fn interpreter(process: &PythonProcess) -> String {
    interpreter_name(process.version, process.free_threaded)
}

/// Returns name and version of an interpreter, such as `CPython 3.11.7`, from its `PY_VERSION_HEX`. A version of 0 is unknown.
pub fn interpreter_name(version: u32, free_threaded: bool) -> String {
    let [major, minor, micro, level] = version.to_be_bytes();
    if version == 0 {
        return "CPython".to_owned();
    }
    let serial = level & 15;
    let stage = match level >> 4 {
        0xa => format!("a{serial}"),
        0xb => format!("b{serial}"),
        0xc => format!("rc{serial}"),
        _ => String::new(),
    };
    let build = if free_threaded { " (free-threaded)" } else { "" };
    format!("CPython {major}.{minor}.{micro}{stage}{build}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_named_like_releases() {
        assert_eq!(interpreter_name(0x030d_00f0, false), "CPython 3.13.0");
        assert_eq!(interpreter_name(0x030e_00c2, true), "CPython 3.14.0rc2 (free-threaded)");
        assert_eq!(interpreter_name(0, false), "CPython");
    }
}
