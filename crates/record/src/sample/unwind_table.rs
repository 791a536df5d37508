//! The unwind tables of a module (DWARF call frame information): which function covers an address, and how to find its caller.

use std::sync::OnceLock;

use gimli::{
    BaseAddresses, CieOrFde, DebugFrame, EhFrame, EhFrameHdr, FrameDescriptionEntry, NativeEndian,
    UnwindContext, UnwindSection, UnwindTableRow,
};

use super::debug_storage::Reader;

/// The sections of a file that are used for unwinding, with their addresses as the file states them.
#[derive(Debug, Default)]
pub(super) struct UnwindSections {
    pub text: u64,
    pub got: u64,
    pub eh_frame_hdr: Option<SectionAt>,
    pub eh_frame: Option<SectionAt>,
    pub debug_frame: Option<SectionAt>,
    /// Entries of [`Self::eh_frame`], if it has no search table, and of [`Self::debug_frame`].
    pub indices: [OnceLock<Vec<IndexEntry>>; 2],
}

/// A section and its address.
#[derive(Debug)]
pub(super) struct SectionAt {
    pub address: u64,
    pub bytes: super::module::SectionBytes,
}

/// Start of a function and offset of its entry.
type IndexEntry = (u64, usize);

/// A function, as an unwind table describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TableFunction {
    pub start: u64,
    pub end: u64,
}

/// The entry of a function.
pub(super) struct Entry<'a> {
    fde: FrameDescriptionEntry<Reader<'a>>,
    section: Section<'a>,
    bases: BaseAddresses,
}

#[derive(Clone, Copy)]
enum Section<'a> {
    Eh(EhFrame<Reader<'a>>),
    Debug(DebugFrame<Reader<'a>>),
}

impl UnwindSections {
    /// Returns the function that covers an address.
    pub fn function_at(&self, address: u64) -> Option<TableFunction> {
        let entry = self.entry_at(address)?;
        Some(TableFunction { start: entry.fde.initial_address(), end: entry.fde.end_address() })
    }

    /// Returns the entry that covers an address.
    pub fn entry_at(&self, address: u64) -> Option<Entry<'_>> {
        self.in_eh_frame(address).or_else(|| self.in_debug_frame(address))
    }

    fn bases(&self) -> BaseAddresses {
        let address = |section: &Option<SectionAt>| section.as_ref().map_or(0, |at| at.address);
        BaseAddresses::default()
            .set_text(self.text)
            .set_got(self.got)
            .set_eh_frame_hdr(address(&self.eh_frame_hdr))
            .set_eh_frame(address(&self.eh_frame))
    }

    fn in_eh_frame(&self, address: u64) -> Option<Entry<'_>> {
        let bases = self.bases();
        let frame = EhFrame::new(&self.eh_frame.as_ref()?.bytes, NativeEndian);
        let fde = match &self.eh_frame_hdr {
            Some(header) => {
                let header = EhFrameHdr::new(&header.bytes, NativeEndian).parse(&bases, 8).ok()?;
                let get_cie = EhFrame::cie_from_offset;
                header.table()?.fde_for_address(&frame, &bases, address, get_cie).ok()?
            }
            None => {
                let index = self.indices[0].get_or_init(|| index(&frame, &bases));
                let offset = entry_before(index, address)?.into();
                frame.fde_from_offset(&bases, offset, EhFrame::cie_from_offset).ok()?
            }
        };
        fde.contains(address).then_some(Entry { fde, section: Section::Eh(frame), bases })
    }

    fn in_debug_frame(&self, address: u64) -> Option<Entry<'_>> {
        let bases = self.bases();
        let frame = DebugFrame::new(&self.debug_frame.as_ref()?.bytes, NativeEndian);
        let index = self.indices[1].get_or_init(|| index(&frame, &bases));
        let offset = entry_before(index, address)?.into();
        let fde = frame.fde_from_offset(&bases, offset, DebugFrame::cie_from_offset).ok()?;
        fde.contains(address).then_some(Entry { fde, section: Section::Debug(frame), bases })
    }
}

/// Returns all entries of a section, in order of their functions.
fn index<'a, S: UnwindSection<Reader<'a>>>(section: &S, bases: &BaseAddresses) -> Vec<IndexEntry> {
    let mut found = Vec::new();
    let mut entries = section.entries(bases);
    while let Ok(Some(entry)) = entries.next() {
        let CieOrFde::Fde(partial) = entry else { continue };
        if let Ok(fde) = partial.parse(S::cie_from_offset) {
            found.push((fde.initial_address(), fde.offset()));
        }
    }
    found.sort_unstable();
    found
}

fn entry_before(index: &[IndexEntry], address: u64) -> Option<usize> {
    let after = index.partition_point(|&(start, _)| start <= address);
    Some(index[after.checked_sub(1)?].1)
}

impl<'a> Entry<'a> {
    /// Returns whether the kernel makes the frames of this function, when it delivers a signal.
    pub fn is_signal(&self) -> bool {
        self.fde.is_signal_trampoline()
    }

    /// Calls `read` with the row of an address; `None` if it cannot be read.
    pub fn row<T>(
        &self,
        address: u64,
        context: &mut UnwindContext<usize>,
        read: impl FnOnce(&UnwindTableRow<usize>) -> T,
    ) -> Option<T> {
        let Self { fde, bases, .. } = self;
        let row = match &self.section {
            Section::Eh(frame) => fde.unwind_info_for_address(frame, bases, context, address),
            Section::Debug(frame) => fde.unwind_info_for_address(frame, bases, context, address),
        };
        row.ok().map(read)
    }

    /// Returns an expression of a row.
    pub fn expression(
        &self,
        expression: &gimli::UnwindExpression<usize>,
    ) -> Option<gimli::Expression<Reader<'a>>> {
        match &self.section {
            Section::Eh(frame) => expression.get(frame),
            Section::Debug(frame) => expression.get(frame),
        }
        .ok()
    }

    /// Returns the encoding of expressions.
    pub fn encoding(&self) -> gimli::Encoding {
        self.fde.cie().encoding()
    }
}
