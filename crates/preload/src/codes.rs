//! Interns code objects in the shared memory. A code object is copied the first time it is seen, while a
//! frame certainly keeps it alive. Later sightings find the copy by the object's identity.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::format::{Code, TABLE_BYTES, TEXT_BYTES, Text, locate, size};
use crate::python::layout::{self, Layout};
use crate::shared_memory::SharedMemory;
use crate::sys;
use crate::table::{intern, mix};

/// Identity of a code object, read at each sighting. It distinguishes two objects that used the same address
/// at different times.
#[derive(Debug, Clone, Copy, Eq)]
pub struct CodeIdentity {
    /// Address of the object.
    pub address: usize,
    /// Addresses of its name, file and line table.
    pub identity: [usize; 3],
    /// Its first line.
    pub first_line: u32,
}

impl PartialEq for CodeIdentity {
    /// Compares word by word. Comparing the arrays would use wide loads, which stall until the preceding
    /// narrow stores have completed.
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        let ([name, file, table], [others_name, others_file, others_table]) =
            (self.identity, other.identity);
        self.address == other.address
            && self.first_line == other.first_line
            && name == others_name
            && file == others_file
            && table == others_table
    }
}

/// The process and interpreter that code objects belong to.
#[derive(Debug, Clone, Copy)]
pub struct Owner<'a> {
    /// Index of the process in the shared memory.
    pub process: u32,
    /// `PY_VERSION_HEX`.
    pub version: u32,
    /// Layout of the interpreter's objects.
    pub layout: &'a Layout,
}

/// Returns the number of a code object. Copies the object if it is new. `None` if the tables are full.
#[inline]
pub fn number(memory: SharedMemory, owner: Owner<'_>, head: &CodeIdentity) -> Option<u32> {
    let low = u64::from(owner.process) << 32 | u64::from(head.first_line);
    let hash = mix(mix(low, head.address as u64), head.identity[0] as u64);
    let is_it = |number: u32| {
        let Some(code) = memory.code(number) else { return false };
        // SAFETY: a slot only ever holds the number of a complete code object.
        let code = unsafe { &*code };
        code.address == head.address as u64
            && code.process == owner.process
            && code.first_line == head.first_line
            && code.identity == head.identity.map(|address| address as u64)
    };
    intern(|generation| memory.code_slots(generation), hash, is_it, || copy(memory, owner, head))
}

/// A text or a table to copy.
#[derive(Debug, Clone, Copy, Default)]
struct Source {
    address: usize,
    bytes: usize,
    width: u32,
}

/// Copies a code object to the arena and returns its number. Parts that cannot be read stay empty.
#[cold]
fn copy(memory: SharedMemory, owner: Owner<'_>, head: &CodeIdentity) -> Option<u32> {
    let [name, file] = [0, 1].map(|at| text(&owner.layout.text, head.identity[at]));
    let table = bytes(owner.layout.bytes, head.identity[2]);
    let padded = |source: Source| source.bytes.next_multiple_of(4);
    let length = size_of::<Code>() + padded(name) + padded(file) + table.map_or(0, padded);
    let (number, code) = take(memory, length.div_ceil(8))?;
    // SAFETY: `take` reserved this part of the arena, which is long enough, for this call alone.
    let texts = unsafe { code.add(1).cast::<u8>() };
    let fill = |offset: usize, source: Source| {
        // SAFETY: as above; any bytes are valid in the arena.
        let target = unsafe { core::slice::from_raw_parts_mut(texts.add(offset), source.bytes) };
        sys::copy_checked(source.address, target)
    };
    let header = |source: Source, read: bool| Text {
        bytes: source.bytes as u32,
        width: if read { source.width } else { 0 },
    };
    let name = header(name, fill(0, name));
    let file_at = name.bytes.next_multiple_of(4) as usize;
    let file = header(file, fill(file_at, file));
    let table_at = file_at + file.bytes.next_multiple_of(4) as usize;
    let table = table.filter(|table| fill(table_at, *table));
    let content = Code {
        process: owner.process,
        version: owner.version,
        address: head.address as u64,
        first_line: head.first_line,
        qualified: u32::from(owner.version >= 0x030b_0000),
        name,
        file,
        table_bytes: table.map_or(u32::MAX, |table| table.bytes as u32),
        written: 0.into(),
        identity: head.identity.map(|address| address as u64),
    };
    // SAFETY: as above; the arena is aligned to 8.
    unsafe {
        code.write(content);
        (*code).written.store(1, Ordering::Release);
    }
    Some(number)
}

/// Reserves `units` of 8 bytes in an arena that this process can map. Returns the number of the first one, and its address.
fn take(memory: SharedMemory, units: usize) -> Option<(u32, *mut Code)> {
    let used: &AtomicU64 = &memory.header().arena;
    let mut before = used.load(Ordering::Relaxed);
    loop {
        let begin = begin_in_one_arena(usize::try_from(before).ok()?, units)?;
        let number = u32::try_from(begin + 1).ok()?;
        let code = memory.code(number)?;
        let end = (begin + units) as u64;
        match used.compare_exchange_weak(before, end, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => return Some((number, code)),
            Err(now) => before = now,
        }
    }
}

/// Returns the first position from `begin` on that has `units` before the end of its arena.
fn begin_in_one_arena(begin: usize, units: usize) -> Option<usize> {
    let (generation, position) = locate(size::ARENA_BYTES, begin * 8)?;
    let free_bytes = size::ARENA_BYTES[generation] - position;
    if units * 8 <= free_bytes {
        return Some(begin);
    }
    begin_in_one_arena(begin + free_bytes / 8, units)
}

/// Locates the characters of a `str`. Returns an empty source unless the object is compact, as names and file
/// names are.
fn text(layout: &layout::Text, address: usize) -> Source {
    let mut object = [0_u8; 64];
    if layout.state + 4 > object.len()
        || !sys::copy_checked(address, &mut object[..layout.state + 4])
    {
        return Source::default();
    }
    let length = word(&object, layout.length);
    let state = u32::from_ne_bytes(
        object[layout.state..][..4].try_into().expect("the slice has this length"),
    ) >> layout.kind_bit;
    let (width, compact, ascii) = (state & 7, state & 8 != 0, state & 16 != 0);
    if !compact || !matches!(width, 1 | 2 | 4) {
        return Source::default();
    }
    let begin = address + if ascii { layout.ascii } else { layout.compact };
    let bytes = length.saturating_mul(width as usize).min(TEXT_BYTES);
    Source { address: begin, bytes, width }
}

/// Locates the contents of a `bytes` object. `None` if they cannot be read or are too long.
fn bytes((size, begin): (usize, usize), address: usize) -> Option<Source> {
    let mut object = [0_u8; 8];
    let read = sys::copy_checked(address + size, &mut object);
    let bytes = word(&object, 0);
    (read && bytes <= TABLE_BYTES).then_some(Source { address: address + begin, bytes, width: 1 })
}

/// Reads the word at `offset`.
fn word(bytes: &[u8], offset: usize) -> usize {
    usize::from_ne_bytes(bytes[offset..][..8].try_into().expect("the slice has this length"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::ARENA_BYTES;
    use crate::shared_memory;

    /// A `str` of ASCII characters in the layout of 3.11.
    #[repr(C)]
    struct Characters {
        head: [u64; 2],
        length: u64,
        hash: u64,
        state: u64,
        wide: u64,
        text: [u8; 16],
    }

    fn characters(text: &str) -> Box<Characters> {
        let mut bytes = [0; 16];
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        let state = 1 << 2 | 1 << 5 | 1 << 6;
        Box::new(Characters {
            head: [1, 0],
            length: text.len() as u64,
            hash: 0,
            state,
            wide: 0,
            text: bytes,
        })
    }

    /// A `bytes` object.
    #[repr(C)]
    struct Bytes {
        head: [u64; 2],
        size: u64,
        hash: u64,
        bytes: [u8; 8],
    }

    fn address<T>(of: &T) -> usize {
        core::ptr::from_ref(of).expose_provenance()
    }

    #[test]
    fn codes_are_copied_once_and_distinguished_by_identity() {
        let memory = shared_memory::for_tests();
        let layout = layout::table(0x030b_0000).expect("the version is known");
        let owner = Owner { process: 3, version: 0x030b_07f0, layout: &layout };
        let (name, file) = (characters("Model.step"), characters("sim/model.py"));
        let table = Bytes { head: [1, 0], size: 5, hash: 0, bytes: *b"\x80\x01\x02\x03\x04\0\0\0" };
        let identity = [address(&*name), address(&*file), address(&table)];
        let head = CodeIdentity { address: 0x1000, identity, first_line: 12 };
        let first = number(memory, owner, &head).expect("the table is not full");
        assert_eq!(number(memory, owner, &head), Some(first));
        // SAFETY: it was written above.
        let code = unsafe { &*memory.code(first).expect("it exists") };
        assert_eq!(
            (code.name, code.file),
            (Text { bytes: 10, width: 1 }, Text { bytes: 12, width: 1 })
        );
        assert_eq!((code.table_bytes, code.first_line, code.qualified), (5, 12, 1));
        // SAFETY: the texts follow.
        let texts = unsafe {
            core::slice::from_raw_parts(core::ptr::from_ref(code).add(1).cast::<u8>(), 29)
        };
        assert_eq!(&texts[..10], b"Model.step");
        assert_eq!(&texts[12..24], b"sim/model.py");
        assert_eq!(&texts[24..], b"\x80\x01\x02\x03\x04");
        // A different name, line or process makes another code object at the same address.
        let other = CodeIdentity { identity: [identity[1], identity[1], identity[2]], ..head };
        assert_ne!(number(memory, owner, &other), Some(first));
        assert_ne!(number(memory, owner, &CodeIdentity { first_line: 13, ..head }), Some(first));
        assert_ne!(number(memory, Owner { process: 4, ..owner }, &head), Some(first));
    }

    #[test]
    fn unreadable_parts_stay_empty() {
        let memory = shared_memory::for_tests();
        let layout = layout::table(0x030b_0000).expect("the version is known");
        let owner = Owner { process: 0, version: 0x030b_07f0, layout: &layout };
        let head = CodeIdentity { address: 8, identity: [16, usize::MAX - 3, 4096], first_line: 1 };
        let found = number(memory, owner, &head).expect("the table is not full");
        // SAFETY: it was written above.
        let code = unsafe { &*memory.code(found).expect("it exists") };
        assert_eq!((code.name.width, code.file.width, code.table_bytes), (0, 0, u32::MAX));
    }

    #[test]
    fn no_code_object_extends_into_the_next_arena() {
        let units = size::ARENA_BYTES.map(|bytes| bytes / 8);
        let table = [
            (0, 5, Some(0)),
            (units[0] - 5, 5, Some(units[0] - 5)),
            (units[0] - 4, 5, Some(units[0])),
            (units[0], 5, Some(units[0])),
            (units[0] + units[1] - 1, 2, Some(units[0] + units[1])),
            (ARENA_BYTES / 8 - 1, 1, Some(ARENA_BYTES / 8 - 1)),
            (ARENA_BYTES / 8 - 1, 2, None),
            (ARENA_BYTES / 8, 1, None),
        ];
        for (begin, units, expected) in table {
            assert_eq!(begin_in_one_arena(begin, units), expected, "{begin} {units}");
        }
    }

    #[test]
    fn a_full_arena_returns_none() {
        let memory = shared_memory::for_tests();
        let layout = layout::table(0x030b_0000).expect("the version is known");
        let owner = Owner { process: 0, version: 0x030b_07f0, layout: &layout };
        memory.header().arena.store((ARENA_BYTES / 8) as u64 - 1, Ordering::Relaxed);
        let head = CodeIdentity { address: 8, identity: [16, 16, 16], first_line: 1 };
        assert_eq!(number(memory, owner, &head), None);
        assert_eq!(number(memory, owner, &head), None);
        assert!(memory.header().arena.load(Ordering::Relaxed) <= (ARENA_BYTES / 8) as u64);
    }
}
