//! YAML: finds the positions of values, and writes values.

use std::iter::Peekable;
use std::ops::Range;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Span, StrInput};

use super::ParseError;
use super::tree::{Content, Entry, Kind, MAX_DEPTH, Node, Scalar};

/// Parses a text with one document.
pub fn parse(text: &str) -> Result<Node, ParseError> {
    let mut reader = Reader {
        text,
        lines: line_starts(text),
        ascii: text.is_ascii(),
        events: Parser::new_from_str(text).peekable(),
    };
    let mut document = None;
    while let Some((event, span)) = reader.next()? {
        match event {
            Event::DocumentStart(_) if document.is_some() => {
                return Err(refusal(&span, "it contains several documents"));
            }
            Event::DocumentStart(_) => document = Some(reader.node(0)?),
            _ => {}
        }
    }
    Ok(document.unwrap_or_else(|| Node::new(0..0, plain(""))))
}

fn refusal(span: &Span, message: &str) -> ParseError {
    ParseError { line: span.start.line(), message: message.to_owned() }
}

/// Returns the byte offset of the start of each line.
fn line_starts(text: &str) -> Vec<usize> {
    let bytes = text.as_bytes();
    let ends = |at: &usize| match bytes[*at] {
        b'\n' => true,
        b'\r' => bytes.get(at + 1) != Some(&b'\n'),
        _ => false,
    };
    [0].into_iter().chain((0..bytes.len()).filter(ends).map(|at| at + 1)).collect()
}

struct Reader<'t> {
    text: &'t str,
    lines: Vec<usize>,
    /// In an ASCII text a character is a byte, so that long lines need not be scanned.
    ascii: bool,
    events: Peekable<Parser<'t, StrInput<'t>>>,
}

impl<'t> Reader<'t> {
    fn next(&mut self) -> Result<Option<(Event<'t>, Span)>, ParseError> {
        let wrong = |error: ScanError| ParseError {
            line: error.marker().line(),
            message: error.info().to_owned(),
        };
        self.events.next().transpose().map_err(wrong)
    }

    fn expect(&mut self) -> Result<(Event<'t>, Span), ParseError> {
        let ended =
            || ParseError { line: self.lines.len(), message: "it ends unexpectedly".to_owned() };
        let last = ended();
        self.next()?.ok_or(last)
    }

    /// Converts a position of the parser to a byte offset. The parser's own index is not reliable
    /// after block scalars, so line and column are used.
    fn byte(&self, marker: &Marker) -> usize {
        let number = marker.line().saturating_sub(1);
        let Some(&line) = self.lines.get(number) else { return self.text.len() };
        if self.ascii {
            return (line + marker.col()).min(self.text.len());
        }
        let rest = &self.text[line..];
        rest.char_indices().nth(marker.col()).map_or(self.text.len(), |(at, _)| line + at)
    }

    /// Returns the bytes of a value, without its anchor and trailing whitespace.
    fn range(&self, span: &Span) -> Range<usize> {
        let (start, end) = (self.byte(&span.start), self.byte(&span.end));
        let end = start + self.text.get(start..end).unwrap_or_default().trim_end().len();
        let written = &self.text[start..end];
        let anchor = if written.starts_with('&') {
            let after = written.find(char::is_whitespace).unwrap_or(written.len());
            after + written[after..].len() - written[after..].trim_start().len()
        } else {
            0
        };
        start + anchor..end
    }

    /// Corrects the range of quoted and block texts. The parser ends a quoted text at the next
    /// token, and starts a block text after its indicator.
    fn quoted_range(&self, range: Range<usize>, style: ScalarStyle) -> Range<usize> {
        match style {
            ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted => {
                range.start..closing_quote(self.text, &range)
            }
            _ => self.text[..range.start].rfind(['|', '>']).unwrap_or(range.start)..range.end,
        }
    }

    fn node(&mut self, depth: usize) -> Result<Node, ParseError> {
        let (event, span) = self.expect()?;
        if depth > MAX_DEPTH {
            return Err(refusal(&span, "it is nested too deeply"));
        }
        let mut range = self.range(&span);
        let (content, tag) = match event {
            Event::Alias(anchor) => (Content::Alias(anchor), None),
            Event::Scalar(text, ScalarStyle::Plain, _, tag) => (plain(&text), tag),
            Event::Scalar(text, style, _, tag) => {
                range = self.quoted_range(range, style);
                (Content::Scalar(Scalar { kind: Kind::Text, text: text.into_owned() }), tag)
            }
            Event::SequenceStart(_, tag) => (self.list(&mut range, depth)?, tag),
            Event::MappingStart(_, tag) => (self.table(&mut range, depth)?, tag),
            _ => return Err(refusal(&span, "a value is missing")),
        };
        Ok(Node { span: range, content, tagged: tag.is_some() })
    }

    fn list(&mut self, range: &mut Range<usize>, depth: usize) -> Result<Content, ParseError> {
        let mut items = Vec::new();
        while !matches!(self.events.peek(), Some(Ok((Event::SequenceEnd, _)))) {
            items.push(self.node(depth + 1)?);
        }
        self.close(range, "[")?;
        Ok(Content::List(items))
    }

    fn table(&mut self, range: &mut Range<usize>, depth: usize) -> Result<Content, ParseError> {
        let mut entries = Vec::new();
        while !matches!(self.events.peek(), Some(Ok((Event::MappingEnd, _)))) {
            let key = self.node(depth + 1)?;
            let name = match key.content {
                Content::Scalar(scalar) => scalar.text,
                // A path cannot name such a key. Its source text keeps it distinct from others.
                _ => self.text[key.span.clone()].to_owned(),
            };
            entries.push(Entry { key: name, key_span: key.span, value: self.node(depth + 1)? });
        }
        self.close(range, "{")?;
        Ok(Content::Table(entries))
    }

    /// Consumes the event that ends a table or list. With brackets, its range ends at the closing
    /// one.
    fn close(&mut self, range: &mut Range<usize>, open: &str) -> Result<(), ParseError> {
        let (_, span) = self.expect()?;
        if self.text[range.start..].starts_with(open) && !span.is_empty() {
            range.end = self.byte(&span.end);
        }
        Ok(())
    }
}

/// Returns the end of the quoted text at the start of `range`, or the end of `range` if it is not
/// closed.
fn closing_quote(text: &str, range: &Range<usize>) -> usize {
    let written = &text[range.clone()];
    let Some(quote) = written.chars().next() else { return range.end };
    let mut characters = written.char_indices().skip(1).peekable();
    while let Some((at, character)) = characters.next() {
        let escapes = character == '\\' && quote == '"'
            || character == '\''
                && quote == character
                && characters.peek().is_some_and(|(_, next)| *next == quote);
        if escapes {
            characters.next();
        } else if character == quote {
            return range.start + at + 1;
        }
    }
    range.end
}

/// Parses a value without quotes. The booleans of YAML 1.1, such as `yes`, are recognised, because
/// many programs use it.
fn plain(text: &str) -> Content {
    let lower = text.to_ascii_lowercase();
    let digits = lower.strip_prefix(['-', '+']).unwrap_or(&lower);
    let all = |digits: &str, base| !digits.is_empty() && digits.chars().all(|c| c.is_digit(base));
    let kind = match lower.as_str() {
        "" | "~" | "null" => Kind::Null,
        "true" | "false" | "yes" | "no" | "on" | "off" => Kind::Boolean,
        _ if all(digits, 10) => Kind::Integer,
        _ if digits.strip_prefix("0x").is_some_and(|digits| all(digits, 16)) => Kind::Integer,
        _ if digits.strip_prefix("0o").is_some_and(|digits| all(digits, 8)) => Kind::Integer,
        ".inf" | "-.inf" | "+.inf" | ".nan" => Kind::Float,
        _ if digits.starts_with(|c: char| c.is_ascii_digit() || c == '.')
            && lower.parse::<f64>().is_ok() =>
        {
            Kind::Float
        }
        _ => Kind::Text,
    };
    Content::Scalar(Scalar { kind, text: text.to_owned() })
}

/// Formats a value on one line so that parsers of YAML 1.1 and 1.2 read the same.
pub fn literal(value: &toml::Value) -> String {
    use toml::Value;
    match value {
        Value::String(text) => quoted(text),
        Value::Float(number) => float(*number),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(literal).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Table(table) => {
            let entry =
                |(key, value): (&String, &Value)| format!("{}: {}", quoted(key), literal(value));
            let entries: Vec<String> = table.iter().map(entry).collect();
            format!("{{{}}}", entries.join(", "))
        }
        Value::Integer(_) | Value::Boolean(_) | Value::Datetime(_) => value.to_string(),
    }
}

/// Formats a number. YAML 1.1 requires a dot in the mantissa and a sign in the exponent.
fn float(number: f64) -> String {
    if !number.is_finite() {
        let sign = if number < 0.0 { "-" } else { "" };
        return if number.is_nan() { ".nan".to_owned() } else { format!("{sign}.inf") };
    }
    let text = format!("{number:?}");
    let Some((mantissa, exponent)) = text.split_once('e') else { return text };
    let point = if mantissa.contains('.') { "" } else { ".0" };
    let sign = if exponent.starts_with('-') { "" } else { "+" };
    format!("{mantissa}{point}e{sign}{exponent}")
}

/// Returns a text in double quotes. Characters that some parsers treat as line ends or reject are
/// escaped.
pub fn quoted(text: &str) -> String {
    let special = |c: char| {
        matches!(
            c,
            '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}'
        )
    };
    super::json::quoted(text).chars().fold(String::new(), |mut quoted, c| {
        if special(c) {
            quoted.push_str(&format!("\\u{:04X}", c as u32))
        } else {
            quoted.push(c)
        }
        quoted
    })
}
