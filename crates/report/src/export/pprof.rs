//! Heap profiles in pprof's format: a gzipped protocol buffer (github.com/google/pprof, `proto/profile.proto`).
//!
//! The messages have few fields and are encoded directly. A protocol buffer library would need a schema compiler, or more
//! code than this.

use std::collections::HashMap;
use std::io::{self, Write};

use flate2::Compression;
use flate2::write::GzEncoder;
use simprof_model::{FrameId, HeapProfile, HeapSite, StackId};

use crate::ReportError;

/// Types and units of a sample's values, in their order.
const TYPES: [(&str, &str); 6] = [
    ("alloc_objects", "count"),
    ("alloc_space", "bytes"),
    ("inuse_objects", "count"),
    ("inuse_space", "bytes"),
    ("peak_objects", "count"),
    ("peak_space", "bytes"),
];
/// The value that `pprof` shows by default.
const DEFAULT_TYPE: &str = "alloc_space";

/// Writes a heap profile for `pprof`: memory allocated, in use at the end, and in use at the peak.
///
/// # Errors
/// Returns [`ReportError::NoSamples`] if nothing was allocated, and [`ReportError::Write`] if `out` cannot be written.
pub fn heap_pprof(profile: &HeapProfile, out: &mut dyn Write) -> Result<(), ReportError> {
    if profile.sites.is_empty() {
        return Err(ReportError::NoSamples);
    }
    let write = || -> io::Result<()> {
        let mut compressed = GzEncoder::new(out, Compression::default());
        compressed.write_all(&Writer::new(profile).message())?;
        compressed.finish()?.flush()
    };
    write().map_err(|source| ReportError::Write { export: "pprof", source })
}

/// A message under construction.
#[derive(Debug, Default)]
struct Message(Vec<u8>);

impl Message {
    /// Adds a number. Zero is omitted, because an absent number means zero.
    fn number(&mut self, field: u32, value: u64) {
        if value != 0 {
            self.varint(u64::from(field) << 3);
            self.varint(value);
        }
    }

    /// Adds bytes, a string or another message.
    fn bytes(&mut self, field: u32, content: &[u8]) {
        self.varint(u64::from(field) << 3 | 2);
        self.varint(content.len() as u64);
        self.0.extend_from_slice(content);
    }

    /// Adds packed numbers.
    fn numbers(&mut self, field: u32, values: impl IntoIterator<Item = u64>) {
        let mut packed = Message::default();
        values.into_iter().for_each(|value| packed.varint(value));
        self.bytes(field, &packed.0);
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

/// Writes the parts of a profile, with the tables that they refer to.
struct Writer<'a> {
    profile: &'a HeapProfile,
    strings: Vec<String>,
    known_strings: HashMap<String, u64>,
    /// Frames at one address, innermost first; the id of a location is its index plus 1.
    locations: Vec<Vec<FrameId>>,
    known_locations: HashMap<Vec<FrameId>, u64>,
}

impl<'a> Writer<'a> {
    fn new(profile: &'a HeapProfile) -> Self {
        let mut writer = Self {
            profile,
            strings: Vec::new(),
            known_strings: HashMap::new(),
            locations: Vec::new(),
            known_locations: HashMap::new(),
        };
        writer.string("");
        writer
    }

    fn message(mut self) -> Vec<u8> {
        let mut whole = Message::default();
        for (kind, unit) in TYPES {
            let content = self.value_type(kind, unit);
            whole.bytes(1, &content);
        }
        for site in &self.profile.sites {
            let sample = self.sample(site);
            whole.bytes(2, &sample);
        }
        for at in 0..self.profile.tables.modules.len() {
            let mapping = self.mapping(at);
            whole.bytes(3, &mapping);
        }
        for at in 0..self.locations.len() {
            let location = self.location(at);
            whole.bytes(4, &location);
        }
        for at in 0..self.profile.tables.functions.len() {
            let function = self.function(at);
            whole.bytes(5, &function);
        }
        let period = self.value_type("space", "bytes");
        let default_type = self.string(DEFAULT_TYPE);
        for text in &self.strings {
            whole.bytes(6, text.as_bytes());
        }
        whole.number(10, self.profile.provenance.target_wall_ns);
        whole.bytes(11, &period);
        whole.number(12, self.profile.provenance.interval_bytes);
        whole.number(14, default_type);
        whole.0
    }

    fn string(&mut self, text: &str) -> u64 {
        if let Some(&at) = self.known_strings.get(text) {
            return at;
        }
        let at = self.strings.len() as u64;
        self.strings.push(text.to_owned());
        self.known_strings.insert(text.to_owned(), at);
        at
    }

    fn value_type(&mut self, kind: &str, unit: &str) -> Vec<u8> {
        let mut message = Message::default();
        message.number(1, self.string(kind));
        message.number(2, self.string(unit));
        message.0
    }

    fn sample(&mut self, site: &HeapSite) -> Vec<u8> {
        let locations = self.locations_of(site.stack);
        let amounts = [site.amounts.allocated, site.amounts.live, site.amounts.peak];
        let mut message = Message::default();
        message.numbers(1, locations);
        message.numbers(2, amounts.iter().flat_map(|amount| [amount.count, amount.bytes]));
        message.0
    }

    /// Returns the locations of a stack from the leaf; an inlined frame shares the location of its caller.
    fn locations_of(&mut self, stack: Option<StackId>) -> Vec<u64> {
        let profile = self.profile;
        let mut ids = Vec::new();
        let mut group = Vec::new();
        for id in profile.tables.frames_from_leaf(stack) {
            group.push(id);
            if !profile.tables.frame(id).inlined {
                ids.push(self.location_id(std::mem::take(&mut group)));
            }
        }
        if !group.is_empty() {
            ids.push(self.location_id(group));
        }
        ids
    }

    fn location_id(&mut self, frames: Vec<FrameId>) -> u64 {
        if let Some(&id) = self.known_locations.get(&frames) {
            return id;
        }
        self.locations.push(frames.clone());
        let id = self.locations.len() as u64;
        self.known_locations.insert(frames, id);
        id
    }

    fn mapping(&mut self, at: usize) -> Vec<u8> {
        let module = &self.profile.tables.modules[at];
        let (path, id) = (self.profile.tables.string(module.path), module.build_id.as_deref());
        let mut message = Message::default();
        message.number(1, at as u64 + 1);
        message.number(5, self.string(path));
        message.number(6, id.map_or(0, |id| self.string(id)));
        // The file contains functions, files, lines and inlined frames, so `pprof` need not search for symbols.
        (7..=10).for_each(|field| message.number(field, 1));
        message.0
    }

    fn location(&self, at: usize) -> Vec<u8> {
        let tables = &self.profile.tables;
        let frames = &self.locations[at];
        let outermost = frames.last().map(|&id| tables.frame(id));
        let module = outermost.and_then(|frame| tables.function(frame.function).module);
        let mut message = Message::default();
        message.number(1, at as u64 + 1);
        message.number(2, module.map_or(0, |module| u64::from(module.0) + 1));
        message.number(3, outermost.map_or(0, |frame| frame.address));
        for frame in frames.iter().map(|&id| tables.frame(id)) {
            let mut line = Message::default();
            line.number(1, u64::from(frame.function.0) + 1);
            line.number(2, u64::from(frame.line.unwrap_or(0)));
            message.bytes(4, &line.0);
        }
        message.0
    }

    fn function(&mut self, at: usize) -> Vec<u8> {
        let tables = &self.profile.tables;
        let function = &tables.functions[at];
        let name = self.string(tables.string(function.name));
        let file = function.file.map_or(0, |file| self.string(tables.string(file)));
        let mut message = Message::default();
        message.number(1, at as u64 + 1);
        message.number(2, name);
        message.number(3, name);
        message.number(4, file);
        message.number(5, u64::from(function.line.unwrap_or(0)));
        message.0
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::testing::heap;

    /// A decoded field of a message.
    #[derive(Debug, Clone, PartialEq)]
    enum Field {
        Number(u64),
        Bytes(Vec<u8>),
    }

    fn varint(bytes: &mut &[u8]) -> u64 {
        let mut value = 0;
        for shift in (0..).step_by(7) {
            let (first, rest) = bytes.split_first().expect("a number ends");
            *bytes = rest;
            value |= u64::from(first & 0x7f) << shift;
            if first & 0x80 == 0 {
                return value;
            }
        }
        value
    }

    fn fields(mut bytes: &[u8]) -> Vec<(u64, Field)> {
        let mut fields = Vec::new();
        while !bytes.is_empty() {
            let tag = varint(&mut bytes);
            let field = match tag & 7 {
                0 => Field::Number(varint(&mut bytes)),
                2 => {
                    let length = usize::try_from(varint(&mut bytes)).expect("small");
                    let (content, rest) = bytes.split_at(length);
                    bytes = rest;
                    Field::Bytes(content.to_vec())
                }
                wire => panic!("unexpected wire type {wire}"),
            };
            fields.push((tag >> 3, field));
        }
        fields
    }

    fn messages(all: &[(u64, Field)], number: u64) -> Vec<Vec<u8>> {
        let is_it = |(field, content): &(u64, Field)| match content {
            Field::Bytes(bytes) if *field == number => Some(bytes.clone()),
            _ => None,
        };
        all.iter().filter_map(is_it).collect()
    }

    fn packed(bytes: &[u8]) -> Vec<u64> {
        let mut rest = bytes;
        std::iter::from_fn(|| (!rest.is_empty()).then(|| varint(&mut rest))).collect()
    }

    #[test]
    fn a_written_profile_can_be_decoded() {
        let profile =
            heap(&[("main@1 > s::f@300 > +s::inner@4 > malloc", 1 << 33), ("main@1 > malloc", 5)]);
        let mut file = Vec::new();
        heap_pprof(&profile, &mut file).expect("writing to memory cannot fail");
        let mut content = Vec::new();
        flate2::read::GzDecoder::new(&*file).read_to_end(&mut content).expect("gzip");
        let whole = fields(&content);
        let strings: Vec<String> = messages(&whole, 6)
            .into_iter()
            .map(|bytes| String::from_utf8(bytes).expect("text"))
            .collect();
        assert_eq!(strings[0], "");
        let text = |at: &Field| match at {
            Field::Number(at) => strings[usize::try_from(*at).expect("small")].as_str(),
            Field::Bytes(_) => panic!("strings are referred to by number"),
        };
        let types: Vec<_> = messages(&whole, 1)
            .iter()
            .map(|kind| fields(kind).iter().map(|(_, at)| text(at).to_owned()).collect::<Vec<_>>())
            .collect();
        assert_eq!(types.len(), TYPES.len());
        assert_eq!(types[3], ["inuse_space", "bytes"]);
        let samples = messages(&whole, 2);
        let parts = fields(&samples[0]);
        let [(1, Field::Bytes(locations)), (2, Field::Bytes(values))] = &parts[..] else {
            panic!("{parts:?}")
        };
        assert_eq!(packed(values), [1, 1 << 33, 1, 1 << 33, 1, 1 << 33]);
        let locations = packed(locations);
        assert_eq!(locations.len(), 3, "an inlined frame has no location of its own");
        let second = &messages(&whole, 4)[usize::try_from(locations[1]).expect("small") - 1];
        let lines: Vec<Vec<(u64, Field)>> =
            messages(&fields(second), 4).iter().map(|line| fields(line)).collect();
        let functions = messages(&whole, 5);
        let names: Vec<_> = lines
            .iter()
            .map(|line| {
                let Field::Number(id) = line[0].1 else { panic!("{line:?}") };
                let function = fields(&functions[usize::try_from(id).expect("small") - 1]);
                (text(&function[1].1).to_owned(), line[1].1.clone())
            })
            .collect();
        let expected = [("s::inner", 4), ("s::f", 300)];
        assert_eq!(names, expected.map(|(name, line)| (name.to_owned(), Field::Number(line))));
    }
}
