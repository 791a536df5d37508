//! YAML: where its values stand, and how one is written.

use std::iter::Peekable;
use std::ops::Range;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Span, StrInput};

use super::Unreadable;
use super::tree::{Content, DEEPEST, Entry, Kind, Node, Scalar};

/// Reads a text of one document.
pub fn parse(text: &str) -> Result<Node, Unreadable> {
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
                return Err(refusal(&span, "it holds several documents"));
            }
            Event::DocumentStart(_) => document = Some(reader.node(0)?),
            _ => {}
        }
    }
    Ok(document.unwrap_or_else(|| Node::new(0..0, plain(""))))
}

fn refusal(span: &Span, message: &str) -> Unreadable {
    Unreadable { line: span.start.line(), message: message.to_owned() }
}

/// Byte at which each line begins.
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
    /// Then a letter is a byte, and long lines need not be counted through.
    ascii: bool,
    events: Peekable<Parser<'t, StrInput<'t>>>,
}

impl<'t> Reader<'t> {
    fn next(&mut self) -> Result<Option<(Event<'t>, Span)>, Unreadable> {
        let wrong = |error: ScanError| Unreadable {
            line: error.marker().line(),
            message: error.info().to_owned(),
        };
        self.events.next().transpose().map_err(wrong)
    }

    fn expect(&mut self) -> Result<(Event<'t>, Span), Unreadable> {
        let ended =
            || Unreadable { line: self.lines.len(), message: "it ends too early".to_owned() };
        let last = ended();
        self.next()?.ok_or(last)
    }

    /// The parser counts lines and letters; what it calls an index is not reliable after block scalars.
    fn byte(&self, marker: &Marker) -> usize {
        let number = marker.line().saturating_sub(1);
        let Some(&line) = self.lines.get(number) else { return self.text.len() };
        if self.ascii {
            return (line + marker.col()).min(self.text.len());
        }
        let rest = &self.text[line..];
        rest.char_indices().nth(marker.col()).map_or(self.text.len(), |(at, _)| line + at)
    }

    /// The bytes of a value, without its anchor and what follows it.
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

    /// The parser lets text in quotes end at the next thing, and block text begin after its indicator.
    fn quoted_range(&self, range: Range<usize>, style: ScalarStyle) -> Range<usize> {
        match style {
            ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted => {
                range.start..closing_quote(self.text, &range)
            }
            _ => self.text[..range.start].rfind(['|', '>']).unwrap_or(range.start)..range.end,
        }
    }

    fn node(&mut self, depth: usize) -> Result<Node, Unreadable> {
        let (event, span) = self.expect()?;
        if depth > DEEPEST {
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

    fn list(&mut self, range: &mut Range<usize>, depth: usize) -> Result<Content, Unreadable> {
        let mut items = Vec::new();
        while !matches!(self.events.peek(), Some(Ok((Event::SequenceEnd, _)))) {
            items.push(self.node(depth + 1)?);
        }
        self.close(range, "[")?;
        Ok(Content::List(items))
    }

    fn table(&mut self, range: &mut Range<usize>, depth: usize) -> Result<Content, Unreadable> {
        let mut entries = Vec::new();
        while !matches!(self.events.peek(), Some(Ok((Event::MappingEnd, _)))) {
            let key = self.node(depth + 1)?;
            let name = match key.content {
                Content::Scalar(scalar) => scalar.text,
                // Nobody can name it, and nothing else may be taken for it.
                _ => self.text[key.span.clone()].to_owned(),
            };
            entries.push(Entry { key: name, key_span: key.span, value: self.node(depth + 1)? });
        }
        self.close(range, "{")?;
        Ok(Content::Table(entries))
    }

    /// Takes the event that ends a table or list; where it has brackets, its bytes go to the closing one.
    fn close(&mut self, range: &mut Range<usize>, open: &str) -> Result<(), Unreadable> {
        let (_, span) = self.expect()?;
        if self.text[range.start..].starts_with(open) && !span.is_empty() {
            range.end = self.byte(&span.end);
        }
        Ok(())
    }
}

/// Where the text in quotes that begins at the start of `range` ends; the end of `range` where it does not.
fn closing_quote(text: &str, range: &Range<usize>) -> usize {
    let written = &text[range.clone()];
    let Some(quote) = written.chars().next() else { return range.end };
    let mut letters = written.char_indices().skip(1).peekable();
    while let Some((at, letter)) = letters.next() {
        let escapes = letter == '\\' && quote == '"'
            || letter == '\''
                && quote == letter
                && letters.peek().is_some_and(|(_, next)| *next == quote);
        if escapes {
            letters.next();
        } else if letter == quote {
            return range.start + at + 1;
        }
    }
    range.end
}

/// A value without quotes. The words of YAML 1.1 for true and false count too: many programs read it.
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

/// A value as it is written on one line, so that readers of YAML 1.1 and 1.2 agree on it.
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

/// YAML 1.1 wants a point in the mantissa and a sign at the exponent.
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

/// Text in double quotes; what some readers take for the end of a line, or refuse, is escaped.
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
