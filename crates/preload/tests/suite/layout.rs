//! The tables of offsets match the offsets that a C compiler computes from the headers of each interpreter.

use std::path::Path;
use std::process::Command;

use simprof_testkit::{TestFolder, pythons, run};

#[path = "../../src/python/layout.rs"]
#[allow(dead_code, reason = "the tests use a part")]
mod tables;

use tables::{Chain, Layout};

const PROGRAM: &str = r#"
#define Py_BUILD_CORE 1
#include <Python.h>
#include <stddef.h>
#include <stdio.h>
#include <frameobject.h>
#if PY_VERSION_HEX >= 0x030b0000
#include <internal/pycore_frame.h>
#endif
#if PY_VERSION_HEX >= 0x030e0000
#include <internal/pycore_interpframe.h>
#endif
#include <internal/pycore_runtime.h>
#include <internal/pycore_interp.h>
#define PRINT(name, value) printf(name " %zu\n", (size_t)(value))
int main(void) {
    PRINT("object_type", offsetof(PyObject, ob_type));
    PRINT("bytes.0", offsetof(PyVarObject, ob_size));
    PRINT("bytes.1", offsetof(PyBytesObject, ob_sval));
    PRINT("thread.next", offsetof(PyThreadState, next));
    PRINT("thread.interpreter", offsetof(PyThreadState, interp));
#if PY_VERSION_HEX < 0x030b0000
    PRINT("interpreter.0", offsetof(PyInterpreterState, next));
    PRINT("interpreter.1", offsetof(PyInterpreterState, tstate_head));
#elif PY_VERSION_HEX < 0x030d0000
    PRINT("interpreter.0", offsetof(PyInterpreterState, next));
    PRINT("interpreter.1", offsetof(PyInterpreterState, threads.head));
#endif
    PRINT("thread.id", offsetof(PyThreadState, thread_id));
    PRINT("code.first_line", offsetof(PyCodeObject, co_firstlineno));
    PRINT("code.file", offsetof(PyCodeObject, co_filename));
    PRINT("text.length", offsetof(PyASCIIObject, length));
    PRINT("text.state", offsetof(PyASCIIObject, state));
    PRINT("text.ascii", sizeof(PyASCIIObject));
    PRINT("text.compact", sizeof(PyCompactUnicodeObject));
    PyASCIIObject text = {0};
    text.state.kind = 1;
    PRINT("text.kind", *(unsigned *)&text.state);
    text.state.kind = 0, text.state.compact = 1;
    PRINT("text.is_compact", *(unsigned *)&text.state);
    text.state.compact = 0, text.state.ascii = 1;
    PRINT("text.is_ascii", *(unsigned *)&text.state);
#if PY_VERSION_HEX < 0x030b0000
    PRINT("thread.frame", offsetof(PyThreadState, frame));
    PRINT("frame.previous", offsetof(PyFrameObject, f_back));
    PRINT("frame.code", offsetof(PyFrameObject, f_code));
    PRINT("frame.instruction", offsetof(PyFrameObject, f_lasti));
    PRINT("code.name", offsetof(PyCodeObject, co_name));
#if PY_VERSION_HEX < 0x030a0000
    PRINT("code.table", offsetof(PyCodeObject, co_lnotab));
#else
    PRINT("code.table", offsetof(PyCodeObject, co_linetable));
#endif
#else
#if PY_VERSION_HEX < 0x030d0000
    PRINT("thread.frame", offsetof(PyThreadState, cframe));
    PRINT("thread.current", offsetof(_PyCFrame, current_frame));
    PRINT("frame.code", offsetof(_PyInterpreterFrame, f_code));
    PRINT("frame.instruction", offsetof(_PyInterpreterFrame, prev_instr));
#else
    PRINT("thread.frame", offsetof(PyThreadState, current_frame));
    PRINT("frame.code", offsetof(_PyInterpreterFrame, f_executable));
    PRINT("frame.instruction", offsetof(_PyInterpreterFrame, instr_ptr));
#endif
#if PY_VERSION_HEX < 0x030c0000
    PRINT("frame.entry", offsetof(_PyInterpreterFrame, is_entry));
    PRINT("code.frame_size.0", offsetof(PyCodeObject, co_nlocalsplus));
    PRINT("code.frame_size.1", offsetof(PyCodeObject, co_stacksize));
#else
    PRINT("code.frame_size.0", offsetof(PyCodeObject, co_framesize));
#endif
    PRINT("thread.chunk", offsetof(PyThreadState, datastack_chunk));
    PRINT("thread.top", offsetof(PyThreadState, datastack_top));
    PRINT("chunk.previous", offsetof(_PyStackChunk, previous));
    PRINT("chunk.size", offsetof(_PyStackChunk, size));
    PRINT("chunk.top", offsetof(_PyStackChunk, top));
    PRINT("chunk.data", offsetof(_PyStackChunk, data));
    PRINT("frame.previous", offsetof(_PyInterpreterFrame, previous));
    PRINT("frame.owner", offsetof(_PyInterpreterFrame, owner));
    PRINT("frame.specials", offsetof(_PyInterpreterFrame, localsplus));
    PRINT("frame.specials", FRAME_SPECIALS_SIZE * sizeof(PyObject *));
    PRINT("owner.generator", FRAME_OWNED_BY_GENERATOR);
#if PY_VERSION_HEX >= 0x030e0000
    PRINT("owner.native", FRAME_OWNED_BY_INTERPRETER);
#elif PY_VERSION_HEX >= 0x030c0000
    PRINT("owner.native", FRAME_OWNED_BY_CSTACK);
#endif
    PRINT("state.executing", FRAME_EXECUTING);
    PRINT("code.name", offsetof(PyCodeObject, co_qualname));
    PRINT("code.table", offsetof(PyCodeObject, co_linetable));
    PRINT("code.instructions", offsetof(PyCodeObject, co_code_adaptive));
    PRINT("generator.0", offsetof(PyGenObject, gi_iframe));
    PRINT("generator.1", offsetof(PyGenObject, gi_frame_state));
#endif
    return 0;
}
"#;

#[test]
fn layout_tables_match_the_headers() {
    let mut checked = 0;
    for python in pythons() {
        let Some(offsets) = headers_of(&python.path) else { continue };
        let (major, minor) = python.version;
        let version = (major << 24) | (minor << 16);
        // From 3.13 on the library reads the offsets from the interpreter. The table must still agree with the headers.
        let layout = tables::table(version).expect("the version is read");
        for line in offsets.lines() {
            let (name, value) = line.split_once(' ').expect("a name and a value");
            let value: usize = value.parse().expect("a number");
            assert_eq!(value, offset_in_table(&layout, name), "{name} of {python:?}");
        }
        assert!(offsets.lines().count() >= 18, "offsets are missing: {offsets}");
        checked += 1;
    }
    println!("{checked} interpreters have headers and a compiler");
}

fn offset_in_table(layout: &Layout, name: &str) -> usize {
    match name {
        "object_type" => layout.object_type,
        "bytes.0" => layout.bytes.0,
        "bytes.1" => layout.bytes.1,
        "interpreter.0" => layout.interpreter.0,
        "interpreter.1" => layout.interpreter.1,
        "thread.next" => layout.thread.next,
        "thread.interpreter" => layout.thread.interpreter,
        "thread.id" => layout.thread.id,
        "thread.frame" => layout.thread.frame,
        "thread.current" => layout.thread.current,
        "thread.chunk" => layout.thread.chunk,
        "thread.top" => layout.thread.chunk + 8,
        "chunk.previous" => 0,
        "chunk.size" => 8,
        "chunk.top" => 16,
        "chunk.data" => 24,
        "frame.previous" => layout.frame.previous,
        "frame.code" => layout.frame.code,
        "frame.instruction" => layout.frame.instruction,
        "frame.owner" => layout.frame.owner,
        "frame.entry" => layout.frame.entry,
        "frame.specials" => layout.frame.specials,
        "owner.generator" => 1,
        "owner.native" => 3,
        "state.executing" => 0,
        "code.first_line" => layout.code.first_line,
        "code.file" => layout.code.file,
        "code.name" => layout.code.name,
        "code.table" => layout.code.table,
        "code.frame_size.0" => layout.code.frame_size.0,
        "code.frame_size.1" => layout.code.frame_size.1,
        "code.instructions" => layout.code.instructions,
        "generator.0" => layout.generator.0,
        "generator.1" => layout.generator.1,
        "text.length" => layout.text.length,
        "text.state" => layout.text.state,
        "text.ascii" => layout.text.ascii,
        "text.compact" => layout.text.compact,
        "text.kind" => 1 << layout.text.kind_bit,
        "text.is_compact" => 8 << layout.text.kind_bit,
        "text.is_ascii" => 16 << layout.text.kind_bit,
        _ => panic!("no table has {name}"),
    }
}

/// Compiles the program with an interpreter's headers and returns the offsets that it prints. `None` if the interpreter has no
/// headers.
fn headers_of(python: &Path) -> Option<String> {
    let code = "import sysconfig; print(sysconfig.get_path('include'))";
    let output = Command::new(python).args(["-I", "-c", code]).output().ok()?;
    let include = String::from_utf8(output.stdout).ok()?;
    let include = Path::new(include.trim());
    if !include.join("internal").is_dir() {
        return None;
    }
    let folder = TestFolder::new();
    let include = include.to_str().expect("the path is UTF-8");
    let options = ["-w", "-I", include, "-I", &format!("{include}/internal")];
    let program = folder.compile_c("offsets", PROGRAM, &options);
    let output = run(&mut Command::new(program));
    Some(String::from_utf8(output.stdout).expect("it is text"))
}

#[test]
fn each_version_has_its_kind_of_frame_chain() {
    let chain = |version| tables::table(version).map(|layout| layout.chain);
    assert_eq!(chain(0x030a_0000), Some(Chain::Objects));
    assert_eq!(chain(0x030b_0000), Some(Chain::Marked));
    assert_eq!(chain(0x030c_0000), Some(Chain::Shims));
    assert_eq!(chain(0x030d_0000), Some(Chain::Direct));
    assert_eq!(chain(0x030e_0000), Some(Chain::Direct));
    assert_eq!(chain(0x0308_0000), None);
    assert_eq!(chain(0x030f_0000), None);
}
