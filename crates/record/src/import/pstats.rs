//! Reads call profiles as Python's `cProfile` and `profile` dump them for `pstats`.
//!
//! A dump is a dictionary from `(file, line, name)` to `(primitive calls, calls, self, cumulative, callers)`. The
//! callers are a dictionary with the same keys. Its values are `(calls, primitive calls, self, cumulative)` in dumps of
//! `cProfile`, and numbers of calls in dumps of `profile`. `profile` also writes a code object in place of the name of
//! the statement that it ran, and no file for functions written in C.

use std::collections::HashMap;
use std::rc::Rc;

use simprof_model::{BUILT_IN_FILE, CallProfile, CalledFunction, CalledId, Caller, StringId};

use super::marshal::{self, Value};
use super::{Imported, Malformed};

/// Smallest size of a caller in a file: two references of five bytes.
const MIN_CALLER_BYTES: usize = 10;

/// Longer text is cut, so that the table of strings is bounded. Real paths and names are shorter.
const MAX_TEXT_BYTES: usize = 1024;

/// Returns whether the bytes begin with a dictionary that is empty or whose first key is a tuple.
pub(super) fn recognises(bytes: &[u8]) -> bool {
    matches!(bytes, [first, key, ..] if first & 0x7f == b'{' && matches!(key & 0x7f, b'(' | b')' | b'0'))
}

/// Reads a dump.
pub(super) fn read(bytes: &[u8]) -> Result<Imported, Malformed> {
    dump(bytes).map_err(Malformed::Damaged)
}

/// The reason why a dump cannot be read.
type Problem = String;

fn dump(bytes: &[u8]) -> Result<Imported, Problem> {
    let Value::Table(entries) = marshal::read(bytes)? else {
        return Err("it is not a dictionary of functions".to_owned());
    };
    if entries.is_empty() {
        return Err(
            "it contains no function: nothing ran while the profiler was enabled".to_owned()
        );
    }
    let mut reader = Reader::new(bytes.len() / MIN_CALLER_BYTES);
    for (key, value) in entries.iter() {
        reader.function(key, value)?;
    }
    for (index, (_, value)) in entries.iter().enumerate() {
        reader.callers(index, value)?;
    }
    Ok(Imported::Calls(reader.profile))
}

type Key = (StringId, u32, StringId);

struct Reader {
    profile: CallProfile,
    strings: HashMap<Rc<str>, StringId>,
    functions: HashMap<Key, CalledId>,
    /// How many more callers are accepted. The size of the file limits them, since in a damaged file all functions may refer to
    /// one large table of callers.
    callers_left: usize,
}

impl Reader {
    fn new(callers_left: usize) -> Self {
        let (strings, functions) = (HashMap::new(), HashMap::new());
        Self { profile: CallProfile::default(), strings, functions, callers_left }
    }

    fn function(&mut self, key: &Value, value: &Value) -> Result<(), Problem> {
        let (file, line, name) = self.key(key)?;
        let [primitive_calls, calls, self_s, cumulative_s, _] = fields(value)?;
        let position =
            u32::try_from(self.profile.functions.len()).map_err(|_| "it is too large")?;
        if self.functions.insert((file, line, name), CalledId(position)).is_some() {
            return Err("it contains a function twice".to_owned());
        }
        self.profile.functions.push(CalledFunction {
            file,
            line,
            name,
            primitive_calls: count(primitive_calls)?,
            calls: count(calls)?,
            self_s: seconds(self_s)?,
            cumulative_s: seconds(cumulative_s)?,
            callers: Vec::new(),
        });
        Ok(())
    }

    /// Adds the callers of a function. Skips callers that are not in the profile: they stand for code outside of it.
    fn callers(&mut self, index: usize, value: &Value) -> Result<(), Problem> {
        let [.., callers] = fields::<5>(value)?;
        let Value::Table(entries) = callers else {
            return Err("the callers of a function are not a dictionary".to_owned());
        };
        let left = self.callers_left.checked_sub(entries.len());
        self.callers_left = left.ok_or("it contains more callers than its size allows")?;
        let mut callers = Vec::new();
        for (key, value) in entries.iter() {
            let key = self.key(key)?;
            if let Some(&function) = self.functions.get(&key) {
                callers.push(caller(function, value)?);
            }
        }
        callers.sort_by_key(|caller| (std::cmp::Reverse(caller.calls), caller.function));
        self.profile.functions[index].callers = callers;
        Ok(())
    }

    fn key(&mut self, key: &Value) -> Result<Key, Problem> {
        let [Value::Text(file), Value::Int(line), Value::Text(name)] = fields::<3>(key)? else {
            return Err("a function is not named by file, line and name".to_owned());
        };
        // Code that was created at run time may have any line.
        let line = u32::try_from(*line).unwrap_or(0);
        let built_in: Rc<str> = BUILT_IN_FILE.into();
        let file = if file.is_empty() && line == 0 { &built_in } else { file };
        Ok((self.string(file), line, self.string(name)))
    }

    fn string(&mut self, text: &Rc<str>) -> StringId {
        if let Some(&id) = self.strings.get(text) {
            return id;
        }
        let strings = &mut self.profile.strings;
        let id =
            StringId(u32::try_from(strings.len()).expect("each string takes bytes of the file"));
        strings.push(shortened(text));
        self.strings.insert(text.clone(), id);
        id
    }
}

fn shortened(text: &str) -> String {
    if text.len() <= MAX_TEXT_BYTES {
        return text.to_owned();
    }
    let end = (0..=MAX_TEXT_BYTES).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
    format!("{}…", &text[..end])
}

fn fields<const N: usize>(value: &Value) -> Result<&[Value; N], Problem> {
    let fields = if let Value::Sequence(values) = value { values.first_chunk() } else { None };
    fields.ok_or_else(|| format!("an entry does not have the {N} fields of a profile"))
}

fn caller(function: CalledId, value: &Value) -> Result<Caller, Problem> {
    if let Value::Int(_) = value {
        let calls = count(value)?;
        let (self_s, cumulative_s) = (None, None);
        return Ok(Caller { function, primitive_calls: calls, calls, self_s, cumulative_s });
    }
    let [calls, primitive_calls, self_s, cumulative_s] = fields(value)?;
    Ok(Caller {
        function,
        primitive_calls: count(primitive_calls)?,
        calls: count(calls)?,
        self_s: Some(seconds(self_s)?),
        cumulative_s: Some(seconds(cumulative_s)?),
    })
}

fn count(value: &Value) -> Result<u64, Problem> {
    let count = if let Value::Int(count) = value { u64::try_from(*count).ok() } else { None };
    count.ok_or_else(|| "a number of calls is not a number".to_owned())
}

/// Parses a time, s. It is negative if the tracer subtracted more for its own cost than it measured.
fn seconds(value: &Value) -> Result<f64, Problem> {
    match value {
        Value::Float(seconds) if seconds.is_finite() => Ok(*seconds),
        Value::Int(seconds) => Ok(*seconds as f64),
        _ => Err("a time is not a number".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `{("m.py", 3, "f"): (1, 5, 0.25, 0.5, {CALLER})}`, text by version 4.
    fn dump(callers: &[u8]) -> Vec<u8> {
        let entry = b"{)\x03z\x04m.pyi\x03\x00\x00\x00z\x01f)\x05\
            i\x01\x00\x00\x00i\x05\x00\x00\x00f\x040.25f\x030.5{";
        [entry, callers, b"00"].concat()
    }

    fn functions(bytes: &[u8]) -> Vec<CalledFunction> {
        match read(bytes) {
            Ok(Imported::Calls(profile)) => profile.functions,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn both_kinds_of_callers_are_read() {
        let [function] = &functions(&dump(b""))[..] else { panic!("one function") };
        assert_eq!((function.line, function.primitive_calls, function.calls), (3, 1, 5));
        assert_eq!((function.self_s, function.cumulative_s), (0.25, 0.5));
        let key = b")\x03z\x04m.pyi\x03\x00\x00\x00z\x01f";
        let counted = functions(&dump(&[&key[..], b"i\x04\x00\x00\x00"].concat()));
        assert_eq!((counted[0].callers[0].calls, counted[0].callers[0].self_s), (4, None));
        let timed = b")\x04i\x04\x00\x00\x00i\x02\x00\x00\x00f\x030.1f\x030.2";
        let timed = functions(&dump(&[&key[..], timed].concat()));
        let caller = &timed[0].callers[0];
        assert_eq!((caller.calls, caller.primitive_calls), (4, 2), "calls come first here");
        assert_eq!((caller.self_s, caller.cumulative_s), (Some(0.1), Some(0.2)));
        let root = b")\x03z\x07profilei\x00\x00\x00\x00z\x08profileri\x01\x00\x00\x00";
        assert_eq!(
            functions(&dump(root))[0].callers,
            [],
            "the profiler itself is not in the profile"
        );
    }

    #[test]
    fn invalid_dumps_are_rejected() {
        for (bytes, words) in [
            (&b"{0"[..], "no function"),
            (b"{)\x000", "ends early"),
            (b"{)\x00N0", "3 fields"),
            (b"{)\x03NNNN0", "named by file"),
            (b"{)\x03z\x01mi\x01\x00\x00\x00z\x01f)\x01N0", "5 fields"),
            (b"{)\x03z\x01mi\x01\x00\x00\x00z\x01f)\x05NNNNN0", "number of calls"),
            (&dump(b"i\x01\x00\x00\x00N"), "3 fields"),
        ] {
            let reason = super::dump(bytes).expect_err("it is not valid");
            assert!(reason.contains(words), "{words}: {reason}");
        }
        let nan = dump(b"").iter().position(|&byte| byte == b'f').expect("a time");
        let mut bytes = dump(b"");
        bytes.splice(nan.., *b"f\x03nanf\x030.5{00");
        assert!(read(&bytes).is_err());
    }

    /// All functions refer to one table of callers: without a limit, the profile would be quadratic in the file's size.
    #[test]
    fn shared_callers_are_bounded() {
        let number = |n: u32| [&b"i"[..], &n.to_le_bytes()].concat();
        let key = |n: u32| [&b")\x03z\x01m"[..], &number(n), b"z\x01f"].concat();
        let mut bytes = b"{".to_vec();
        for n in 0..1000 {
            bytes.extend([&key(n)[..], b")\x05", &number(1), &number(1), b"f\x010f\x010"].concat());
            if n == 0 {
                bytes.extend(b"\xfb");
                (0..1000).for_each(|n| bytes.extend([key(n), number(1)].concat()));
                bytes.extend(b"0");
            } else {
                bytes.extend(b"r\x00\x00\x00\x00");
            }
        }
        bytes.extend(b"0");
        assert!(super::dump(&bytes).expect_err("too many").contains("more callers"));
    }

    #[test]
    fn long_text_is_cut_at_a_character() {
        let text = "é".repeat(5000);
        let cut = shortened(&text);
        assert!(cut.len() <= MAX_TEXT_BYTES + 3 && cut.ends_with("é…"), "{}", cut.len());
        assert_eq!(shortened("short"), "short");
    }

    proptest! {
        /// A valid file with changed bytes, or cut off, does not panic and yields no more entries than bytes.
        #[test]
        fn damaged_dumps_are_bounded(
            changes in prop::collection::vec((0_usize..120, any::<u8>()), 0..4),
            length in 0_usize..200,
        ) {
            let key = b")\x03z\x04m.pyi\x03\x00\x00\x00z\x01fi\x04\x00\x00\x00";
            let mut bytes = dump(key);
            for (at, byte) in changes {
                let at = at % bytes.len();
                bytes[at] = byte;
            }
            bytes.truncate(length);
            if let Ok(Imported::Calls(profile)) = read(&bytes) {
                let callers: usize = profile.functions.iter().map(|f| f.callers.len()).sum();
                prop_assert!(profile.functions.len() + callers <= bytes.len());
                prop_assert!(profile.strings.iter().map(String::len).sum::<usize>() <= 3 * bytes.len());
            }
        }
    }
}
