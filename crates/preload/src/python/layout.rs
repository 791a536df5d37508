//! Where things are in the interpreter's objects, by version.

/// Offsets, bytes.
pub struct Layout {}

/// The layout of `version`, whose `_PyRuntime` is at `runtime`, and whether it is a free-threaded build.
pub fn of(_version: u32, _runtime: *const u8) -> (Result<Layout, u32>, bool) {
    (Err(crate::format::reason::VERSION), false)
}
