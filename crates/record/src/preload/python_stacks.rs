//! The tree of Python stacks and its code objects, copied out of the shared memory.

use std::collections::HashMap;
use std::mem::offset_of;
use std::sync::atomic::Ordering;

use simprof_preload::format::{self, ENTRY, TABLE_BYTES, TEXT_BYTES, Text, WRITTEN, offset};

use super::PythonMemory;

/// A node of the tree: a Python frame and its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Node {
    /// Number of the caller's node, always smaller than the node's own; 0 for none.
    pub parent: u32,
    /// Number of the code object; 0 if the frame could not be read.
    pub code: u32,
    /// Offset of the current instruction, bytes; `None` if the code has not started.
    pub instruction: Option<u32>,
    /// Whether the interpreter's evaluation function was called for it.
    pub entry: bool,
}

impl Node {
    /// Stands for a frame that could not be read.
    const UNREADABLE: Node = Node { parent: 0, code: 0, instruction: None, entry: false };
}

/// A Python code object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Code {
    /// Its name, qualified or not.
    pub name: String,
    /// Whether the name is qualified.
    pub qualified: bool,
    /// Its file, as the interpreter names it; empty if it could not be read.
    pub file: String,
    /// Line of its first statement or decorator.
    pub first_line: u32,
    /// `PY_VERSION_HEX` of its interpreter.
    pub version: u32,
    /// Its line table; `None` if it was too long or could not be read.
    pub table: Option<Vec<u8>>,
}

/// The tree of all Python stacks.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    /// By number; node 0 is the empty stack.
    pub nodes: Vec<Node>,
    /// By number. Code objects that could not be read are missing.
    pub codes: HashMap<u32, Code>,
}

impl Tree {
    /// Copies the tree. Invalid nodes become [`Node::UNREADABLE`].
    pub fn read(memory: &PythonMemory) -> Self {
        let nodes: Vec<Node> =
            (0..memory.node_count()).map(|number| node(memory, number)).collect();
        let mut codes = HashMap::new();
        for node in nodes.iter().filter(|node| node.code != 0) {
            if !codes.contains_key(&node.code)
                && let Some(code) = code(memory, node.code)
            {
                codes.insert(node.code, code);
            }
        }
        Self { nodes, codes }
    }

    /// Returns the nodes of a stack from the leaf to the root.
    pub fn stack(&self, node: u32) -> impl Iterator<Item = (u32, Node)> {
        let at = |number: u32| {
            let node = *self.nodes.get(number as usize).filter(|_| number != 0)?;
            Some((number, node))
        };
        std::iter::successors(at(node), move |(_, node)| at(node.parent))
    }
}

fn node(memory: &PythonMemory, number: usize) -> Node {
    let Some(node) = memory.node(number) else { return Node::UNREADABLE };
    let flags = node.flags.load(Ordering::Acquire);
    let parent = node.parent.load(Ordering::Relaxed);
    // Callers must have smaller numbers: otherwise following them might never end.
    if flags & WRITTEN == 0 || parent as usize >= number {
        return Node::UNREADABLE;
    }
    let instruction = node.instruction.load(Ordering::Relaxed);
    Node {
        parent,
        code: node.code.load(Ordering::Relaxed),
        instruction: (instruction != u32::MAX).then_some(instruction),
        entry: flags & ENTRY != 0,
    }
}

fn code(memory: &PythonMemory, number: u32) -> Option<Code> {
    let start = offset::code(number)?;
    let field = |field: usize| memory.read_u32(start + field);
    if field(offset_of!(format::Code, written))? == 0 {
        return None;
    }
    let text = |field: usize| {
        let bytes = memory.read_u32(start + field + offset_of!(Text, bytes))?;
        Some(Text { bytes, width: memory.read_u32(start + field + offset_of!(Text, width))? })
    };
    let (name, file) =
        (text(offset_of!(format::Code, name))?, text(offset_of!(format::Code, file))?);
    let table_bytes = field(offset_of!(format::Code, table_bytes))?;
    let name_at = start + size_of::<format::Code>();
    let file_at = name_at + padded(name.bytes, TEXT_BYTES)?;
    let table_at = file_at + padded(file.bytes, TEXT_BYTES)?;
    let table =
        (table_bytes != u32::MAX).then(|| bytes(memory, table_at, table_bytes, TABLE_BYTES));
    Some(Code {
        name: decode(&bytes(memory, name_at, name.bytes, TEXT_BYTES)?, name.width),
        qualified: field(offset_of!(format::Code, qualified))? != 0,
        file: decode(&bytes(memory, file_at, file.bytes, TEXT_BYTES)?, file.width),
        first_line: field(offset_of!(format::Code, first_line))?,
        version: field(offset_of!(format::Code, version))?,
        table: table.flatten(),
    })
}

fn padded(bytes: u32, limit: usize) -> Option<usize> {
    let bytes = usize::try_from(bytes).ok()?;
    (bytes <= limit).then(|| bytes.next_multiple_of(4))
}

fn bytes(memory: &PythonMemory, start: usize, count: u32, limit: usize) -> Option<Vec<u8>> {
    let count = usize::try_from(count).ok().filter(|&count| count <= limit)?;
    let mut bytes = Vec::with_capacity(count + 4);
    while bytes.len() < count {
        bytes.extend(memory.read_u32(start + bytes.len())?.to_ne_bytes());
    }
    bytes.truncate(count);
    Some(bytes)
}

/// Decodes a text of the interpreter. Invalid characters become replacement characters.
fn decode(bytes: &[u8], width: u32) -> String {
    let character = |code: u32| char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
    match width {
        1 => bytes.iter().map(|&byte| char::from(byte)).collect(),
        2 => {
            let unit = |pair: &[u8]| u16::from_ne_bytes([pair[0], pair[1]]);
            bytes.chunks_exact(2).map(|pair| character(unit(pair).into())).collect()
        }
        4 => {
            let unit = |part: &[u8]| u32::from_ne_bytes([part[0], part[1], part[2], part[3]]);
            bytes.chunks_exact(4).map(|part| character(unit(part))).collect()
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_all_widths_are_decoded() {
        let wide: Vec<u8> = "añ\u{4e2d}".encode_utf16().flat_map(u16::to_ne_bytes).collect();
        let widest: Vec<u8> =
            "a\u{1f980}".chars().flat_map(|c| u32::from(c).to_ne_bytes()).collect();
        let table: [(&[u8], u32, &str); 6] = [
            (b"abc", 1, "abc"),
            (b"\xe9", 1, "é"),
            (&wide, 2, "añ\u{4e2d}"),
            (&widest, 4, "a\u{1f980}"),
            (&[0xff, 0xff, 0xff, 0xff], 4, "\u{fffd}"),
            (b"abc", 0, ""),
        ];
        for (bytes, width, expected) in table {
            assert_eq!(decode(bytes, width), expected);
        }
    }

    #[test]
    fn callers_with_larger_numbers_are_ignored() {
        let memory = PythonMemory::create(0, 0, "", "").expect("memory");
        for (number, parent) in [(1, 0), (2, 1), (3, 3), (4, 7), (5, 2)] {
            let node = memory.node(number).expect("the node exists");
            node.parent.store(parent, Ordering::Relaxed);
            node.code.store(1, Ordering::Relaxed);
            node.instruction.store(u32::MAX, Ordering::Relaxed);
            node.flags.store(WRITTEN | ENTRY, Ordering::Relaxed);
        }
        let tree = Tree { nodes: (0..6).map(|at| node(&memory, at)).collect(), ..Tree::default() };
        let stack = |leaf| tree.stack(leaf).map(|(number, _)| number).collect::<Vec<_>>();
        assert_eq!(stack(5), [5, 2, 1]);
        assert_eq!((stack(3), stack(4)), (vec![3], vec![4]));
        assert_eq!((stack(0), stack(99)), (vec![], vec![]));
        assert_eq!(tree.nodes[3], Node::UNREADABLE);
        assert!(tree.nodes[5].entry && tree.nodes[5].instruction.is_none());
    }

    #[test]
    fn incomplete_code_objects_are_not_read() {
        let memory = PythonMemory::create(0, 0, "", "").expect("memory");
        assert_eq!(code(&memory, 0), None);
        assert_eq!(code(&memory, 1), None);
        assert_eq!(code(&memory, u32::MAX), None);
    }
}
