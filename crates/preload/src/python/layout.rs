//! Layouts of the interpreter's objects, by version.
//!
//! Up to 3.12 they come from tables that were taken from the interpreter's headers and do not change within a
//! minor version. From 3.13 on the interpreter describes itself at the beginning of `_PyRuntime`
//! (`_Py_DebugOffsets`). What the description does not contain is in the table here. What both contain must
//! agree in a build with the GIL.

use crate::format::reason;

/// How an interpreter stores the frames of a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chain {
    /// Frame objects on the heap, from `PyThreadState.frame` on. Each is complete before it is linked (up to
    /// 3.10).
    Objects,
    /// Frames on the thread's data stack and in generators, from `PyThreadState.cframe->current_frame` on,
    /// with a flag for entry frames (3.11).
    Marked,
    /// As before, with a shim frame on the native stack before each entry (3.12).
    Shims,
    /// As before, from `PyThreadState.current_frame` on (3.13 and later).
    Direct,
}

/// Offsets in the interpreter's objects, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// How frames are stored.
    pub chain: Chain,
    /// `ob_type` of an object.
    pub object_type: usize,
    /// `ob_size` of `bytes`, and the offset of its content.
    pub bytes: (usize, usize),
    /// `next` and `threads.head` of `PyInterpreterState`. From 3.13 on only the interpreter's description has them.
    pub interpreter: (usize, usize),
    /// `PyThreadState`.
    pub thread: Thread,
    /// `_PyInterpreterFrame`, or `PyFrameObject`.
    pub frame: Frame,
    /// `PyCodeObject`.
    pub code: Code,
    /// `PyGenObject`: offsets of the frame and of the state in it (0 before 3.11).
    pub generator: (usize, usize),
    /// `PyASCIIObject` and `PyCompactUnicodeObject`.
    pub text: Text,
}

/// Offsets in `PyThreadState`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thread {
    /// `next`.
    pub next: usize,
    /// `interp`.
    pub interpreter: usize,
    /// `frame`, `cframe` or `current_frame`.
    pub frame: usize,
    /// `cframe->current_frame`, if there is a `cframe`.
    pub current: usize,
    /// `thread_id`.
    pub id: usize,
    /// `datastack_chunk`, which `datastack_top` follows.
    pub chunk: usize,
}

/// Offsets in a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// `previous`, or `f_back`.
    pub previous: usize,
    /// `f_code`, or `f_executable`.
    pub code: usize,
    /// `prev_instr`, `instr_ptr` or `f_lasti`.
    pub instruction: usize,
    /// `owner` (0: none).
    pub owner: usize,
    /// `is_entry` (3.11 only).
    pub entry: usize,
    /// Bytes before the locals, as the interpreter counts them in the size of a frame.
    pub specials: usize,
    /// Bytes that are read of a frame. All fields named here lie within.
    pub bytes: usize,
    /// `tlbc_index` (free-threaded builds from 3.14 on).
    pub bytecode: Option<usize>,
}

/// Offsets in `PyCodeObject`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Code {
    /// `co_firstlineno`.
    pub first_line: usize,
    /// `co_filename`.
    pub file: usize,
    /// `co_qualname`, before 3.11 `co_name`.
    pub name: usize,
    /// `co_linetable`, before 3.10 `co_lnotab`.
    pub table: usize,
    /// `co_nlocalsplus` and `co_stacksize` (3.11), later `co_framesize` twice.
    pub frame_size: (usize, usize),
    /// `co_code_adaptive`.
    pub instructions: usize,
    /// `co_tlbc` (free-threaded builds from 3.14 on).
    pub bytecodes: usize,
}

/// Sizes and offsets of strings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Text {
    /// `length`.
    pub length: usize,
    /// `state`.
    pub state: usize,
    /// First bit of `kind` in the state; `compact` and `ascii` follow it.
    pub kind_bit: u32,
    /// Size of `PyASCIIObject`, which ASCII characters follow.
    pub ascii: usize,
    /// Size of `PyCompactUnicodeObject`, which other characters follow.
    pub compact: usize,
}

const TEXT_OLD: Text = Text { length: 16, state: 32, kind_bit: 2, ascii: 48, compact: 72 };
const TEXT: Text = Text { ascii: 40, compact: 56, ..TEXT_OLD };

const V3_9: Layout = Layout {
    chain: Chain::Objects,
    object_type: 8,
    bytes: (16, 32),
    interpreter: (0, 8),
    thread: Thread { next: 8, interpreter: 16, frame: 24, current: 0, id: 176, chunk: 0 },
    frame: Frame {
        previous: 24,
        code: 32,
        instruction: 104,
        owner: 0,
        entry: 0,
        specials: 0,
        bytes: 112,
        bytecode: None,
    },
    code: Code {
        first_line: 40,
        file: 104,
        name: 112,
        table: 120,
        frame_size: (0, 0),
        instructions: 0,
        bytecodes: 0,
    },
    generator: (0, 0),
    text: TEXT_OLD,
};

const V3_10: Layout = Layout { frame: Frame { instruction: 96, ..V3_9.frame }, ..V3_9 };

const V3_11: Layout = Layout {
    chain: Chain::Marked,
    interpreter: (0, 16),
    thread: Thread { frame: 56, current: 8, id: 152, chunk: 296, ..V3_9.thread },
    frame: Frame {
        previous: 48,
        code: 32,
        instruction: 56,
        owner: 69,
        entry: 68,
        specials: 72,
        bytes: 72,
        bytecode: None,
    },
    code: Code {
        first_line: 72,
        file: 112,
        name: 128,
        table: 136,
        frame_size: (76, 68),
        instructions: 184,
        bytecodes: 0,
    },
    generator: (80, 75),
    ..V3_9
};

const V3_12: Layout = Layout {
    chain: Chain::Shims,
    interpreter: (0, 72),
    thread: Thread { current: 0, id: 136, chunk: 232, ..V3_11.thread },
    frame: Frame { previous: 8, code: 0, owner: 70, entry: 0, ..V3_11.frame },
    code: Code { first_line: 68, frame_size: (76, 76), instructions: 192, ..V3_11.code },
    generator: (72, 67),
    text: TEXT,
    ..V3_11
};

const V3_13: Layout = Layout {
    chain: Chain::Direct,
    interpreter: (0, 0),
    thread: Thread { frame: 72, id: 152, ..V3_12.thread },
    code: Code { instructions: 200, ..V3_12.code },
    ..V3_12
};

const V3_14: Layout =
    Layout { frame: Frame { owner: 74, specials: 80, bytes: 80, ..V3_13.frame }, ..V3_13 };

/// Returns the layout of `version`, whose `_PyRuntime` is at `runtime`, or the reason why it cannot be read; and whether
/// it is a free-threaded build.
pub fn for_interpreter(version: u32, runtime: *const u8) -> (Result<Layout, u32>, bool) {
    match table(version) {
        None => (Err(reason::VERSION), false),
        Some(table) if table.chain == Chain::Direct => described(version, table, runtime),
        Some(table) => (Ok(table), false),
    }
}

/// Returns the table of a version. `None` if the library does not know the version.
pub fn table(version: u32) -> Option<Layout> {
    match version >> 16 {
        0x0309 => Some(V3_9),
        0x030a => Some(V3_10),
        0x030b => Some(V3_11),
        0x030c => Some(V3_12),
        0x030d => Some(V3_13),
        0x030e => Some(V3_14),
        _ => None,
    }
}

/// Reads the interpreter's description of itself and checks it against the table.
fn described(version: u32, table: Layout, runtime: *const u8) -> (Result<Layout, u32>, bool) {
    if runtime.is_null() {
        return (Err(reason::LAYOUT), false);
    }
    let fields = if version >> 16 == 0x030d { FIELDS_3_13 } else { FIELDS_3_14 };
    let word = |index: usize| {
        // SAFETY: `_PyRuntime` begins with the description, which is longer than any index in the tables.
        unsafe { runtime.cast::<usize>().add(index).read_volatile() }
    };
    if &word(0).to_ne_bytes() != b"xdebugpy" || word(1) != version as usize {
        return (Err(reason::LAYOUT), false);
    }
    if word(2) != 0 {
        return (Err(reason::FREE_THREADED), true);
    }
    let mut layout = table;
    for (index, field) in fields {
        *field(&mut layout) = word(*index);
    }
    // Values that only the table has depend on these.
    let agrees = layout.frame == table.frame && layout.text == table.text;
    (if agrees { Ok(layout) } else { Err(reason::LAYOUT) }, false)
}

/// Index of a word of the description, and the field of the layout that it gives.
type Field = (usize, fn(&mut Layout) -> &mut usize);

/// Words of the description of 3.13.
const FIELDS_3_13: &[Field] = &[
    (8, |layout| &mut layout.interpreter.0),
    (9, |layout| &mut layout.interpreter.1),
    (21, |layout| &mut layout.thread.next),
    (22, |layout| &mut layout.thread.interpreter),
    (23, |layout| &mut layout.thread.frame),
    (24, |layout| &mut layout.thread.id),
    (26, |layout| &mut layout.thread.chunk),
    (29, |layout| &mut layout.frame.previous),
    (30, |layout| &mut layout.frame.code),
    (31, |layout| &mut layout.frame.instruction),
    (32, |layout| &mut layout.frame.specials),
    (33, |layout| &mut layout.frame.owner),
    (35, |layout| &mut layout.code.file),
    (37, |layout| &mut layout.code.name),
    (38, |layout| &mut layout.code.table),
    (39, |layout| &mut layout.code.first_line),
    (43, |layout| &mut layout.code.instructions),
    (45, |layout| &mut layout.object_type),
    (65, |layout| &mut layout.bytes.0),
    (66, |layout| &mut layout.bytes.1),
    (68, |layout| &mut layout.text.state),
    (69, |layout| &mut layout.text.length),
    (70, |layout| &mut layout.text.ascii),
];

/// Words of the description of 3.14.
const FIELDS_3_14: &[Field] = &[
    (8, |layout| &mut layout.interpreter.0),
    (9, |layout| &mut layout.interpreter.1),
    (24, |layout| &mut layout.thread.next),
    (25, |layout| &mut layout.thread.interpreter),
    (26, |layout| &mut layout.thread.frame),
    (27, |layout| &mut layout.thread.id),
    (29, |layout| &mut layout.thread.chunk),
    (32, |layout| &mut layout.frame.previous),
    (33, |layout| &mut layout.frame.code),
    (34, |layout| &mut layout.frame.instruction),
    (35, |layout| &mut layout.frame.specials),
    (36, |layout| &mut layout.frame.owner),
    (40, |layout| &mut layout.code.file),
    (42, |layout| &mut layout.code.name),
    (43, |layout| &mut layout.code.table),
    (44, |layout| &mut layout.code.first_line),
    (48, |layout| &mut layout.code.instructions),
    (51, |layout| &mut layout.object_type),
    (75, |layout| &mut layout.bytes.0),
    (76, |layout| &mut layout.bytes.1),
    (78, |layout| &mut layout.text.state),
    (79, |layout| &mut layout.text.length),
    (80, |layout| &mut layout.text.ascii),
    (85, |layout| &mut layout.generator.0),
    (86, |layout| &mut layout.generator.1),
];
