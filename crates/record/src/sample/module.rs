//! The files that code is mapped from. Each is opened once, while its process is running.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::ops::{Deref, Range};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use object::elf;
use object::read::elf::{ElfFile64, ProgramHeader};
use object::{Endianness, Object, ObjectSection};

use super::unwind_table::{SectionAt, UnwindSections};
use crate::preload;

/// Position in [`ModuleTable`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ModuleIndex(pub u32);

impl ModuleIndex {
    /// The kernel.
    pub const KERNEL: Self = Self(0);
    /// Executable memory without a file.
    pub const ANONYMOUS: Self = Self(1);
    /// Addresses without a known mapping.
    pub const UNKNOWN: Self = Self(2);
    /// Functions of generated code that a runtime has named. Instead of addresses, frames have positions in a list of names.
    pub const GENERATED: Self = Self(3);
}

/// The module of generated code with names, in profiles.
pub(super) const GENERATED_CODE: &str = "[jit]";

/// The name of the preload library in profiles.
pub(super) const PRELOAD_LIBRARY: &str = "[simprof]";

/// Start of the paths of files in memory.
const MEMORY_FILE: &str = "/memfd:";

/// A mapping of a file into a process, as the kernel reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FileMapping {
    pub pid: u32,
    pub range: Range<u64>,
    pub file_offset: u64,
    /// The path as text.
    pub path: String,
    /// The path as it is, which may not be UTF-8; empty if the file must not be opened by its path.
    pub file: PathBuf,
    pub identity: FileIdentity,
}

/// Identifies a file even if its path now names another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(super) struct FileIdentity {
    pub device: (u32, u32),
    pub inode: u64,
    pub generation: u64,
}

/// A module of the target.
#[derive(Debug)]
pub(super) struct ModuleFile {
    /// Path as the target saw it, or a name in brackets.
    pub path: String,
    pub identity: FileIdentity,
    /// Its content; `None` if it could not be opened or is not a 64-bit ELF file.
    pub image: Option<Arc<Image>>,
}

/// The modules of a recording.
#[derive(Debug)]
pub(super) struct ModuleTable {
    modules: Vec<ModuleFile>,
    known: HashMap<(String, FileIdentity), ModuleIndex>,
    started: SystemTime,
}

impl Default for ModuleTable {
    fn default() -> Self {
        Self::new()
    }
}

impl ModuleTable {
    /// Contains only the constants of [`ModuleIndex`], in that order.
    pub fn new() -> Self {
        let named = |path: &str| ModuleFile {
            path: path.to_owned(),
            identity: FileIdentity::default(),
            image: None,
        };
        Self {
            modules: ["[kernel]", "[anon]", "[unknown]", GENERATED_CODE].map(named).into(),
            known: HashMap::new(),
            started: SystemTime::now(),
        }
    }

    /// Returns the module of a mapping, and opens its file if it is new.
    pub fn open(&mut self, mapping: &FileMapping) -> ModuleIndex {
        if is_anonymous(&mapping.path) {
            return ModuleIndex::ANONYMOUS;
        }
        let key = (mapping.path.clone(), mapping.identity);
        if let Some(&index) = self.known.get(&key) {
            return index;
        }
        let path = mapping.path.trim_end_matches(" (deleted)");
        let (path, image) = if preload::is_mapped_from(path) {
            (PRELOAD_LIBRARY, preload_library())
        } else {
            (path, open_image(mapping, self.started))
        };
        // Code that a runtime generates may be in a file in memory.
        if image.is_none() && path.starts_with(MEMORY_FILE) {
            self.known.insert(key, ModuleIndex::ANONYMOUS);
            return ModuleIndex::ANONYMOUS;
        }
        let image = image.map(Arc::new);
        self.modules.push(ModuleFile { path: path.to_owned(), identity: mapping.identity, image });
        let index = ModuleIndex(
            u32::try_from(self.modules.len() - 1).expect("fewer than 2^32 files are mapped"),
        );
        self.known.insert(key, index);
        index
    }

    /// Drops the content of a module that turned out to be of another file.
    pub fn discard_image(&mut self, index: ModuleIndex) {
        self.modules[index.0 as usize].image = None;
    }

    /// Returns when the recording started.
    pub fn started(&self) -> SystemTime {
        self.started
    }

    /// Returns a module by its index.
    pub fn get(&self, index: ModuleIndex) -> &ModuleFile {
        &self.modules[index.0 as usize]
    }

    /// Iterates over all modules with their indices.
    pub fn iter(&self) -> impl Iterator<Item = (ModuleIndex, &ModuleFile)> {
        (0..).map(ModuleIndex).zip(&self.modules)
    }
}

/// Returns whether the kernel gives this name to memory without a file. Returns false for `[vdso]`, because its code can be read.
fn is_anonymous(path: &str) -> bool {
    path != "[vdso]"
        && (!path.starts_with('/')
            || path.starts_with("//")
            || path.starts_with("/anon_hugepage")
            || path.starts_with("/dev/zero"))
}

/// Shared bytes of a mapped file or in memory.
#[derive(Clone)]
pub(super) struct SharedBytes(Arc<dyn AsRef<[u8]> + Send + Sync>);

impl std::fmt::Debug for SharedBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SharedBytes({} bytes)", self.len())
    }
}

impl SharedBytes {
    /// Shares bytes in memory.
    pub fn from_vec(bytes: Vec<u8>) -> Self {
        Self(Arc::new(bytes))
    }

    /// Maps a whole file.
    ///
    /// # Errors
    ///
    /// Returns the system's error if the file cannot be mapped.
    pub fn map(file: &File) -> std::io::Result<Self> {
        // SAFETY: the mapping is private and read-only. If the file were truncated while it is
        // mapped, an access would end simprof with a bus error. The same holds for every running
        // program, as its loader maps the same files; linkers and package managers therefore
        // replace files and do not truncate them.
        let map = unsafe { memmap2::Mmap::map(file) }?;
        Ok(Self(Arc::new(map)))
    }
}

impl Deref for SharedBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        (*self.0).as_ref()
    }
}

/// A part of shared bytes.
#[derive(Debug, Clone)]
pub(super) struct SectionBytes {
    bytes: SharedBytes,
    range: Range<usize>,
}

impl Deref for SectionBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[self.range.clone()]
    }
}

/// A load segment (`PT_LOAD`) of an ELF file that contains code.
#[derive(Debug, Clone, PartialEq, Eq)]
struct CodeSegment {
    file_range: Range<u64>,
    svma: u64,
}

/// The content of an ELF file, with its unwind information.
///
/// An "svma" (stated virtual memory address) is an address as the file states it.
#[derive(Debug)]
pub(super) struct Image {
    bytes: SharedBytes,
    entry: u64,
    code: Vec<CodeSegment>,
    /// The unwind tables.
    pub unwind: UnwindSections,
}

impl Image {
    /// Parses the headers. Returns `None` if the bytes are not a 64-bit ELF file.
    pub fn parse(bytes: SharedBytes) -> Option<Self> {
        let bytes = match ElfFile64::<Endianness>::parse(&*bytes) {
            Ok(_) => bytes,
            Err(_) => without_section_headers(&bytes)?,
        };
        let file = ElfFile64::<Endianness>::parse(&*bytes).ok()?;
        let endian = file.endian();
        let loads =
            || file.elf_program_headers().iter().filter(|h| h.p_type(endian) == elf::PT_LOAD);
        let code = loads()
            .filter(|header| header.p_flags(endian).contains(elf::PF_X))
            .map(|header| CodeSegment {
                file_range: header.p_offset(endian)
                    ..header.p_offset(endian).saturating_add(header.p_filesz(endian)),
                svma: header.p_vaddr(endian),
            })
            .collect();
        let (entry, unwind) = (file.entry(), unwind_sections(&file, &bytes));
        Some(Self { entry, code, unwind, bytes })
    }

    /// Returns the address at which the program starts.
    pub fn entry(&self) -> u64 {
        self.entry
    }

    /// Returns the code from an address to the end of its segment; empty if there is none.
    pub fn code_at(&self, svma: u64) -> &[u8] {
        let found = self.code.iter().find_map(|segment| {
            let offset = segment.file_range.start.checked_add(svma.checked_sub(segment.svma)?)?;
            let range =
                usize::try_from(offset).ok()?..usize::try_from(segment.file_range.end).ok()?;
            self.bytes.get(range).filter(|code| !code.is_empty())
        });
        found.unwrap_or_default()
    }

    /// Returns the bytes of the file.
    pub fn bytes(&self) -> &SharedBytes {
        &self.bytes
    }

    /// Returns the address that the file states for the code at a mapped offset.
    ///
    /// A mapping starts at the beginning of a page, so the offset may lie before the segment that it maps, within the last
    /// page of another segment. Only segments with code are considered.
    pub fn svma_at(&self, file_offset: u64) -> Option<u64> {
        const LARGEST_PAGE: u64 = 0x1_0000;
        let distance = |segment: &&CodeSegment| segment.file_range.start.abs_diff(file_offset);
        let segment = self
            .code
            .iter()
            .filter(|segment| {
                let first = segment.file_range.start.saturating_sub(LARGEST_PAGE);
                (first..segment.file_range.end).contains(&file_offset)
            })
            .min_by_key(distance)?;
        Some(segment.svma.wrapping_add(file_offset).wrapping_sub(segment.file_range.start))
    }
}

/// Returns a copy of a file that states that it has no section headers. Tools that make programs small leave headers behind
/// that point nowhere; the loader ignores them.
fn without_section_headers(bytes: &[u8]) -> Option<SharedBytes> {
    let mut copy = bytes.to_vec();
    // The fields e_shoff, and e_shnum and e_shstrndx.
    copy.get_mut(0x28..0x30)?.fill(0);
    copy.get_mut(0x3c..0x40)?.fill(0);
    Some(SharedBytes::from_vec(copy))
}

/// Finds the sections for unwinding, by section headers or, without these, by program headers.
fn unwind_sections(file: &ElfFile64<'_>, bytes: &SharedBytes) -> UnwindSections {
    let address = |name: &str| file.section_by_name(name).map_or(0, |section| section.address());
    let section = |name: &str| {
        let bytes = section_bytes(file, bytes, name)?;
        Some(SectionAt { address: address(name), bytes })
    };
    let mut sections = UnwindSections {
        text: address(".text"),
        got: address(".got"),
        eh_frame_hdr: section(".eh_frame_hdr"),
        eh_frame: section(".eh_frame"),
        debug_frame: section(".debug_frame"),
        ..UnwindSections::default()
    };
    if sections.eh_frame.is_none() {
        add_sections_by_program_header(file, bytes, &mut sections);
    }
    sections
}

/// Returns the bytes of a section, decompressed if necessary.
fn section_bytes(file: &ElfFile64<'_>, bytes: &SharedBytes, name: &str) -> Option<SectionBytes> {
    let section = file.section_by_name(name)?;
    match section.compressed_file_range().ok()? {
        range if range.format == object::CompressionFormat::None => {
            let start = usize::try_from(range.offset).ok()?;
            let end = start.checked_add(usize::try_from(range.uncompressed_size).ok()?)?;
            bytes.get(start..end)?;
            (start != end).then(|| SectionBytes { bytes: bytes.clone(), range: start..end })
        }
        _ => {
            let data = section.uncompressed_data().ok()?.into_owned();
            let range = 0..data.len();
            Some(SectionBytes { bytes: SharedBytes::from_vec(data), range })
        }
    }
}

/// Finds `.eh_frame_hdr`, and `.eh_frame` through it, in a file without section headers.
fn add_sections_by_program_header(
    file: &ElfFile64<'_>,
    bytes: &SharedBytes,
    sections: &mut UnwindSections,
) -> Option<()> {
    // DW_EH_PE_pcrel | DW_EH_PE_sdata4: the encoding that all linkers use for the pointer to .eh_frame.
    const RELATIVE_I32: u8 = 0x1b;
    let endian = file.endian();
    let headers = file.elf_program_headers();
    let header = headers.iter().find(|h| h.p_type(endian) == elf::PT_GNU_EH_FRAME)?;
    let (svma, size) = (header.p_vaddr(endian), header.p_filesz(endian));
    let start = usize::try_from(header.p_offset(endian)).ok()?;
    let end = start.checked_add(usize::try_from(size).ok()?)?;
    let content = bytes.get(start..end)?;
    if *content.get(1)? != RELATIVE_I32 {
        return None;
    }
    let relative = i32::from_ne_bytes(content.get(4..8)?.try_into().ok()?);
    let frame_svma = svma.wrapping_add(4).wrapping_add_signed(relative.into());
    let load = headers.iter().filter(|h| h.p_type(endian) == elf::PT_LOAD).find(|h| {
        let first = h.p_vaddr(endian);
        (first..first.saturating_add(h.p_filesz(endian))).contains(&frame_svma)
    })?;
    let skipped = frame_svma - load.p_vaddr(endian);
    let frame_start = usize::try_from(load.p_offset(endian).checked_add(skipped)?).ok()?;
    let frame_end =
        usize::try_from(load.p_offset(endian).checked_add(load.p_filesz(endian))?).ok()?;
    bytes.get(frame_start..frame_end)?;
    let at =
        |address, range| SectionAt { address, bytes: SectionBytes { bytes: bytes.clone(), range } };
    sections.eh_frame_hdr = Some(at(svma, start..end));
    sections.eh_frame = Some(at(frame_svma, frame_start..frame_end));
    Some(())
}

/// Opens the file of a mapping and parses its headers.
fn open_image(mapping: &FileMapping, started: SystemTime) -> Option<Image> {
    if mapping.path == "[vdso]" {
        return Image::parse(SharedBytes::from_vec(vdso()?));
    }
    let path = without_deleted(&mapping.file);
    let exact = PathBuf::from(format!(
        "/proc/{}/map_files/{:x}-{:x}",
        mapping.pid, mapping.range.start, mapping.range.end
    ));
    let program = PathBuf::from(format!("/proc/{}/exe", mapping.pid));
    let mut in_its_root = OsString::from(format!("/proc/{}/root", mapping.pid));
    in_its_root.push(path);
    let in_its_root = PathBuf::from(in_its_root);
    let inode = mapping.identity.inode;
    // The first two are right even if the path was replaced, but the first needs privileges and the second finds only the
    // program itself.
    let file = open_regular(exact)
        .or_else(|| open_regular(program).filter(|file| has_inode(file, inode)))
        .or_else(|| open_regular(in_its_root).filter(|file| !was_replaced(file, inode, started)))
        .or_else(|| {
            open_regular(path.to_owned()).filter(|file| !was_replaced(file, inode, started))
        })?;
    Image::parse(SharedBytes::map(&file).ok()?)
}

/// Returns a path without what the kernel appends if the file is gone.
fn without_deleted(path: &Path) -> &Path {
    let bytes = path.as_os_str().as_bytes();
    Path::new(OsStr::from_bytes(bytes.strip_suffix(b" (deleted)").unwrap_or(bytes)))
}

fn open_regular(path: PathBuf) -> Option<File> {
    // Non-blocking, since the path may name a pipe by now.
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path).ok()?;
    file.metadata().ok()?.is_file().then_some(file)
}

fn has_inode(file: &File, inode: u64) -> bool {
    file.metadata().is_ok_and(|metadata| metadata.ino() == inode)
}

/// Returns whether the path now names another file than the one that was mapped.
///
/// A different inode alone is no proof, because layered file systems report different inodes for a mapping and for its path.
/// The file counts as replaced if it has another inode and has changed since sampling started.
fn was_replaced(file: &File, inode: u64, started: SystemTime) -> bool {
    let Ok(metadata) = file.metadata() else { return true };
    let started = started.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let changed = u64::try_from(metadata.ctime()).unwrap_or(0);
    metadata.ino() != inode && changed >= started
}

/// Returns the preload library, which simprof carries itself.
fn preload_library() -> Option<Image> {
    Image::parse(SharedBytes::from_vec(simprof_preload::LIBRARY.to_vec()))
}

/// Returns the code that the kernel maps into every process. It is the same in simprof as in the target.
fn vdso() -> Option<Vec<u8>> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let line = maps.lines().find(|line| line.ends_with("[vdso]"))?;
    let (start, end) = line.split_once(' ')?.0.split_once('-')?;
    let start = u64::from_str_radix(start, 16).ok()?;
    let end = u64::from_str_radix(end, 16).ok()?;
    let mut bytes = vec![0; usize::try_from(end.checked_sub(start)?).ok()?];
    read_own_memory(start, &mut bytes).ok()?;
    Some(bytes)
}

fn read_own_memory(address: u64, bytes: &mut [u8]) -> std::io::Result<()> {
    use std::io::{Seek, SeekFrom};
    let mut memory = File::open("/proc/self/mem")?;
    memory.seek(SeekFrom::Start(address))?;
    memory.read_exact(bytes)
}
