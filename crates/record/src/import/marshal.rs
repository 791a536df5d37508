//! Reads the serialisation of Python's module `marshal`, versions 0 to 5 and that of Python 2, as far as profiles use it.
//!
//! It keeps only what profiles contain: numbers, text, tuples, lists, dictionaries, and the names of code objects.
//! Values that a file shares by references are shared in memory too, so that memory stays a multiple of the file's
//! size. The depth of nesting is bounded, including nesting through references.

use std::rc::Rc;

/// Maximum depth of nesting. A profile has four levels, and two more for each level of nested functions in a code object.
const MAX_DEPTH: usize = 50;

/// Set in the type byte of a value that later references may refer to.
const SHARED: u8 = 0x80;

/// A value, as far as profiles contain it.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    /// A value that profiles contain only within code objects: None, a boolean, a set, a complex number.
    Ignored,
    Int(i64),
    Float(f64),
    Text(Rc<str>),
    Sequence(Rc<[Value]>),
    Table(Rc<[(Value, Value)]>),
}

/// The layout of a code object, which depends on the version of Python and is not marked in the file.
#[derive(Debug, Clone, Copy)]
struct CodeLayout {
    /// Number of integers before the values.
    integers: usize,
    /// Number of values before the file's name.
    before_file: usize,
    /// Number of names after the file's name.
    names: usize,
    /// Number of values after the first line.
    after_line: usize,
}

/// The layouts of Python 3.11 and later, of 3.8 to 3.10, of 3.0 to 3.7, and of 2.
const CODE_LAYOUTS: [CodeLayout; 4] = [
    CodeLayout { integers: 5, before_file: 5, names: 2, after_line: 2 },
    CodeLayout { integers: 6, before_file: 6, names: 1, after_line: 1 },
    CodeLayout { integers: 5, before_file: 6, names: 1, after_line: 1 },
    CodeLayout { integers: 4, before_file: 6, names: 1, after_line: 1 },
];

/// Reads the first value and ignores the rest, as Python does. Tries each layout of code objects if there are any.
pub(super) fn read(bytes: &[u8]) -> Result<Value, String> {
    let mut first = None;
    for code in CODE_LAYOUTS {
        let mut reader = Reader {
            bytes,
            at: 0,
            shared: Vec::new(),
            interned: Vec::new(),
            code,
            has_code: false,
        };
        let reason = match reader.object(0) {
            Ok(Some(value)) => return Ok(value.value),
            Ok(None) => "it contains no value".to_owned(),
            Err(reason) => format!("{reason}, at byte {} of {}", reader.at, bytes.len()),
        };
        let reason = first.get_or_insert(reason);
        if !reader.has_code {
            return Err(reason.clone());
        }
    }
    Err(first.expect("each layout that fails sets it"))
}

/// A value with the number of levels below it.
#[derive(Clone)]
struct Measured {
    value: Value,
    height: usize,
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Values by the numbers that references use; `None` while a value is being read.
    shared: Vec<Option<Measured>>,
    /// Python 2's interned text, which has a separate kind of references.
    interned: Vec<Rc<str>>,
    code: CodeLayout,
    /// Whether a code object was read.
    has_code: bool,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let rest = &self.bytes[self.at..];
        let taken = rest.get(..count).ok_or("the file ends within a value")?;
        self.at += count;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        Ok(self.take(N)?.try_into().expect("take returns N bytes"))
    }

    fn byte(&mut self) -> Result<usize, String> {
        Ok(usize::from(self.array::<1>()?[0]))
    }

    /// Reads a 32-bit length or position. They are signed, but Python never writes a negative one.
    fn size(&mut self) -> Result<usize, String> {
        let size = i32::from_le_bytes(self.array()?);
        usize::try_from(size).map_err(|_| "a length is negative".to_owned())
    }

    /// Reads the next value; `None` for the mark that ends a dictionary.
    fn object(&mut self, level: usize) -> Result<Option<Measured>, String> {
        if level > MAX_DEPTH {
            return Err("values are nested deeper than in any profile".to_owned());
        }
        let code = self.array::<1>()?[0];
        let kind = code & !SHARED;
        // Values are numbered in the order in which they begin. Singletons and references have no numbers.
        let counted =
            code & SHARED != 0 && !matches!(kind, b'0' | b'N' | b'F' | b'T' | b'.' | b'r');
        let number = counted.then_some(self.shared.len());
        if counted {
            self.shared.push(None);
        }
        let Some(read) = self.value(kind, level)? else { return Ok(None) };
        if read.height + level > MAX_DEPTH {
            return Err("values are nested deeper than in any profile".to_owned());
        }
        if let Some(number) = number {
            self.shared[number] = Some(read.clone());
        }
        Ok(Some(read))
    }

    fn value(&mut self, kind: u8, level: usize) -> Result<Option<Measured>, String> {
        let value = match kind {
            b'0' => return Ok(None),
            b'N' | b'F' | b'T' | b'.' => Value::Ignored,
            b'i' => Value::Int(i32::from_le_bytes(self.array()?).into()),
            b'I' => Value::Int(i64::from_le_bytes(self.array()?)),
            b'l' => Value::Int(self.long()?),
            b'g' => Value::Float(f64::from_le_bytes(self.array()?)),
            b'f' => Value::Float(self.written_float()?),
            b's' | b't' | b'u' | b'a' | b'A' => {
                let size = self.size()?;
                self.text(kind, size)?
            }
            b'z' | b'Z' => {
                let size = self.byte()?;
                self.text(kind, size)?
            }
            b'R' => {
                let position = self.size()?;
                let text = self.interned.get(position);
                Value::Text(text.ok_or("a reference to text is not valid")?.clone())
            }
            b'r' => return self.reference().map(Some),
            b')' => {
                let size = self.byte()?;
                return self.sequence(size, level).map(Some);
            }
            b'(' | b'[' => {
                let size = self.size()?;
                return self.sequence(size, level).map(Some);
            }
            b'{' => return self.table(level).map(Some),
            b'c' => return self.compiled(level).map(Some),
            b'y' => {
                self.take(16)?;
                Value::Ignored
            }
            b'<' | b'>' => {
                let size = self.size()?;
                let (_, height) = self.values(size, level)?;
                return Ok(Some(Measured { value: Value::Ignored, height }));
            }
            other => {
                return Err(format!(
                    "it contains a value of type {other:#04x}, which no profile has"
                ));
            }
        };
        Ok(Some(Measured { value, height: 0 }))
    }

    fn text(&mut self, kind: u8, size: usize) -> Result<Value, String> {
        let bytes = self.take(size)?;
        // In a damaged file, even text that is marked as ASCII may contain any bytes.
        let text: Rc<str> = String::from_utf8_lossy(bytes).into();
        if kind == b't' {
            self.interned.push(text.clone());
        }
        Ok(Value::Text(text))
    }

    /// Reads an integer of 15-bit digits. The sign is that of the number of digits.
    fn long(&mut self) -> Result<i64, String> {
        let count = i32::from_le_bytes(self.array()?);
        let mut sum: i64 = 0;
        let digits = self.take(count.unsigned_abs() as usize * 2)?;
        for digit in digits.chunks_exact(2).rev() {
            let digit = i64::from(u16::from_le_bytes([digit[0], digit[1]]));
            let shifted = sum.checked_mul(1 << 15).and_then(|sum| sum.checked_add(digit));
            sum = shifted.ok_or("a number is larger than any count")?;
        }
        Ok(if count < 0 { -sum } else { sum })
    }

    /// Reads a float that is written as text, as in versions 0 and 1.
    fn written_float(&mut self) -> Result<f64, String> {
        let size = self.byte()?;
        let text = std::str::from_utf8(self.take(size)?).ok();
        text.and_then(|text| text.parse().ok()).ok_or("a number cannot be read".to_owned())
    }

    fn reference(&mut self) -> Result<Measured, String> {
        let position = self.size()?;
        let value = self.shared.get(position).cloned().flatten();
        value.ok_or("a reference is not valid".to_owned())
    }

    fn sequence(&mut self, size: usize, level: usize) -> Result<Measured, String> {
        let (values, height) = self.values(size, level)?;
        Ok(Measured { value: Value::Sequence(values.into()), height })
    }

    /// Reads `size` values. Returns them and the number of levels below their container.
    fn values(&mut self, size: usize, level: usize) -> Result<(Vec<Value>, usize), String> {
        // Never allocate for the size alone: a damaged file may have any size.
        let mut values = Vec::with_capacity(size.min(8));
        let mut height = 0;
        for _ in 0..size {
            let entry = self.object(level + 1)?.ok_or("a sequence ends early")?;
            height = height.max(entry.height + 1);
            values.push(entry.value);
        }
        Ok((values, height))
    }

    /// Reads a code object and keeps its name.
    fn compiled(&mut self, level: usize) -> Result<Measured, String> {
        self.has_code = true;
        let layout = self.code;
        self.take(4 * layout.integers)?;
        self.values(layout.before_file, level)?;
        let (named, _) = self.values(1 + layout.names, level)?;
        let _first_line: [u8; 4] = self.array()?;
        self.values(layout.after_line, level)?;
        match &named[..] {
            [Value::Text(_), name @ Value::Text(_), ..] => {
                Ok(Measured { value: name.clone(), height: 0 })
            }
            _ => Err("code has no name".to_owned()),
        }
    }

    fn table(&mut self, level: usize) -> Result<Measured, String> {
        let (mut entries, mut height) = (Vec::new(), 0);
        while let Some(key) = self.object(level + 1)? {
            let value = self.object(level + 1)?.ok_or("a dictionary ends early")?;
            height = height.max(key.height.max(value.height) + 1);
            entries.push((key.value, value.value));
        }
        Ok(Measured { value: Value::Table(entries.into()), height })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(text: &str) -> Value {
        Value::Text(text.into())
    }

    fn sequence(values: &[Value]) -> Value {
        Value::Sequence(values.into())
    }

    /// The bytes are output of CPython's `marshal.dumps`.
    #[test]
    fn every_kind_of_value_is_read() {
        for (bytes, expected) in [
            (&b"N"[..], Value::Ignored),
            (b"i\xfe\xff\xff\xff", Value::Int(-2)),
            (b"I\x00\x00\x00\x00\x01\x00\x00\x00", Value::Int(1 << 32)),
            (b"l\x03\x00\x00\x00\x00\x00\x00\x00\x04\x00", Value::Int(1 << 32)),
            (b"l\xfd\xff\xff\xff\x00\x00\x00\x00\x04\x00", Value::Int(-(1 << 32))),
            (b"f\x040.25", Value::Float(0.25)),
            (b"g\x00\x00\x00\x00\x00\x00\xd0\x3f", Value::Float(0.25)),
            (b"u\x03\x00\x00\x00a\xc3\xa9", text("a\u{e9}")),
            (b"s\x01\x00\x00\x00\xff", text("\u{fffd}")),
            (b"z\x02ab", text("ab")),
            (b"Z\x02ab", text("ab")),
            (b"A\x02\x00\x00\x00ab", text("ab")),
            // (x, y, x) with x interned: by version 2 of Python 2, and by version 4.
            (
                b"(\x03\x00\x00\x00t\x01\x00\x00\x00xt\x01\x00\x00\x00yR\x00\x00\x00\x00",
                sequence(&[text("x"), text("y"), text("x")]),
            ),
            (
                b"\xa9\x03\xda\x01x\xfa\x01yr\x01\x00\x00\x00",
                sequence(&[text("x"), text("y"), text("x")]),
            ),
            (b"[\x01\x00\x00\x00F", sequence(&[Value::Ignored])),
            (b"{i\x01\x00\x00\x00N0", Value::Table([(Value::Int(1), Value::Ignored)].into())),
        ] {
            assert_eq!(read(bytes), Ok(expected), "{bytes:?}");
        }
    }

    #[test]
    fn invalid_values_are_rejected() {
        for (bytes, words) in [
            (&b""[..], "ends within"),
            (b"0", "contains no value"),
            (b"i\x01", "ends within"),
            (b"(\xff\xff\xff\x7fN", "ends within"),
            (b"(\xff\xff\xff\xff", "negative"),
            (b"l\x7f\xff\xff\x7f", "ends within"),
            (b"l\x06\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00", "larger"),
            (b"f\x01x", "cannot be read"),
            (b"r\x00\x00\x00\x00", "reference"),
            (b"R\x00\x00\x00\x00", "reference to text"),
            // A list that contains itself.
            (b"\xdb\x01\x00\x00\x00r\x00\x00\x00\x00", "reference"),
            (b"c", "ends within"),
            (b"?", "0x3f"),
            (b"{N0", "ends early"),
            (&b"\xa9\x01".repeat(5000), "deeper"),
        ] {
            let reason = read(bytes).expect_err("it is not valid");
            assert!(reason.contains(words), "{words}: {reason}");
        }
    }

    /// `compile("f", "a.py", "eval")` of Python 3.11, 3.9, 3.6 and 2.7.
    #[test]
    fn code_objects_are_reduced_to_their_names() {
        let names = b")\x01z\x01f";
        for (integers, empty, name) in [
            (5, 2, &b"z\x08<module>z\x08<module>"[..]),
            (6, 3, b"z\x08<module>"),
            (5, 3, b"z\x08<module>"),
            (4, 3, b"z\x08<module>"),
        ] {
            let code = [
                &b"c"[..],
                &b"\x01\x00\x00\x00".repeat(integers),
                b"s\x02\x00\x00\x00e\x00)\x00",
                names,
                &b")\x00".repeat(empty),
                b"z\x04a.py",
                name,
                b"\x07\x00\x00\x00s\x00\x00\x00\x00",
                if integers == 5 && empty == 2 { b"s\x00\x00\x00\x00" } else { b"" },
            ]
            .concat();
            // Within a tuple, so that a wrong length of the code object shows.
            let bytes = [b")\x02", &code[..], b"z\x03end"].concat();
            let expected = sequence(&[text("<module>"), text("end")]);
            assert_eq!(read(&bytes), Ok(expected), "{integers} {empty}");
        }
    }

    /// Each tuple refers to the one before: flat in the file, deep in memory.
    #[test]
    fn nesting_by_references_is_bounded() {
        let mut bytes = b"[\x80\x00\x00\x00\xa9\x00".to_vec();
        for number in 0_u32..127 {
            bytes.extend(b"\xa9\x02N\x72");
            bytes.extend(number.to_le_bytes());
        }
        assert!(read(&bytes).expect_err("deep").contains("deeper"));
    }

    /// Each tuple refers twice to the one before: copies would have 2^15 leaves.
    #[test]
    fn shared_values_are_not_copied() {
        let mut bytes = b"[\x0e\x00\x00\x00\xa9\x00".to_vec();
        for number in 0_u32..13 {
            bytes.extend(b"\xa9\x02r");
            bytes.extend(number.to_le_bytes());
            bytes.extend(b"r");
            bytes.extend(number.to_le_bytes());
        }
        let Ok(Value::Sequence(values)) = read(&bytes) else { panic!("it is a list") };
        let Value::Sequence(last) = &values[13] else { panic!("of tuples") };
        let (Value::Sequence(a), Value::Sequence(b)) = (&last[0], &last[1]) else {
            panic!("twice")
        };
        assert!(Rc::ptr_eq(a, b));
    }

    proptest! {
        /// Mostly type bytes and small numbers, so that inputs stay valid for a while.
        #[test]
        fn random_values_do_not_panic(bytes in prop::collection::vec(
            prop_oneof![
                4 => prop::sample::select(b"0NFT.iIlgfystuaAzZRr)([{<>c".to_vec()),
                2 => prop::sample::select(b"\xa9\xfb\xdb\xda\xe9\xa8".to_vec()),
                6 => 0_u8..4,
                1 => any::<u8>(),
            ],
            0..400,
        )) {
            let _ = read(&bytes);
        }
    }
}
