//! Writes Markdown, and escapes what it quotes: pipes, backticks and control characters in names.

use std::fmt::{self, Write};

use unicode_width::UnicodeWidthStr;

use crate::format::shorten;

/// Alignment of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// For text.
    Left,
    /// For numbers.
    Right,
}

/// A Markdown table. Cells are escaped, and columns are padded so that the source is readable too.
#[derive(Debug, Clone)]
pub struct Table {
    columns: Vec<(String, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Creates a table with these columns.
    pub fn new(columns: &[(&str, Align)]) -> Self {
        let columns = columns.iter().map(|&(name, align)| (escape(name), align)).collect();
        Self { columns, rows: Vec::new() }
    }

    /// Adds a row of plain text; missing cells are empty.
    ///
    /// # Panics
    /// Panics if there are more cells than columns.
    pub fn row<T: AsRef<str>>(&mut self, cells: impl IntoIterator<Item = T>) -> &mut Self {
        self.markdown_row(cells.into_iter().map(|cell| escape(cell.as_ref())))
    }

    /// Adds a row whose cells are Markdown already, as [`code`] and [`escape`] return it.
    ///
    /// # Panics
    /// Panics if there are more cells than columns.
    pub fn markdown_row<T: Into<String>>(
        &mut self,
        cells: impl IntoIterator<Item = T>,
    ) -> &mut Self {
        let mut cells: Vec<String> = cells.into_iter().map(Into::into).collect();
        assert!(cells.len() <= self.columns.len(), "a row has more cells than the table columns");
        cells.resize(self.columns.len(), String::new());
        self.rows.push(cells);
        self
    }

    /// Removes the column `name` if every cell of it is `-`: the figure is not known for any row.
    pub fn without_unknown(mut self, name: &str) -> Self {
        let Some(at) = self.columns.iter().position(|(column, _)| *column == escape(name)) else {
            return self;
        };
        let unknown = escape("-");
        if self.rows.iter().all(|row| row[at] == "-" || row[at] == unknown) {
            self.columns.remove(at);
            self.rows.iter_mut().for_each(|row| drop(row.remove(at)));
        }
        self
    }

    /// Whether it has no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    fn widths(&self) -> Vec<usize> {
        let width = |at: usize| {
            let cells = self.rows.iter().map(|row| row[at].as_str());
            let cells = cells.chain([self.columns[at].0.as_str()]);
            cells.map(UnicodeWidthStr::width).max().unwrap_or(0).max(3)
        };
        (0..self.columns.len()).map(width).collect()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widths = self.widths();
        let headings: Vec<&str> = self.columns.iter().map(|(name, _)| name.as_str()).collect();
        self.write_row(f, &headings, &widths)?;
        for ((_, align), &width) in self.columns.iter().zip(&widths) {
            let dashes = "-".repeat(width - 1);
            match align {
                Align::Left => write!(f, "| {dashes}- ")?,
                Align::Right => write!(f, "| {dashes}: ")?,
            }
        }
        f.write_str("|\n")?;
        for row in &self.rows {
            self.write_row(f, &row.iter().map(String::as_str).collect::<Vec<_>>(), &widths)?;
        }
        Ok(())
    }
}

impl Table {
    fn write_row(
        &self,
        f: &mut fmt::Formatter<'_>,
        cells: &[&str],
        widths: &[usize],
    ) -> fmt::Result {
        for ((cell, (_, align)), &column) in cells.iter().zip(&self.columns).zip(widths) {
            let padding = " ".repeat(column - cell.width());
            match align {
                Align::Left => write!(f, "| {cell}{padding} ")?,
                Align::Right => write!(f, "| {padding}{cell} ")?,
            }
        }
        f.write_str("|\n")
    }
}

/// Escapes text so that Markdown shows it unchanged. Control characters, including line ends, become spaces, and very long
/// words are shortened.
pub fn escape(text: &str) -> String {
    let text = &shorten(text);
    let mut escaped = String::with_capacity(text.len());
    let mut before = ' ';
    let mut rest = text.chars().map(printable).peekable();
    while let Some(character) = rest.next() {
        let after = rest.peek().copied().unwrap_or(' ');
        let is_markup = match character {
            '\\' | '`' | '*' | '|' | '[' | ']' | '<' | '>' | '~' | '&' | '$' => true,
            // Within a word an underscore is not markup, and names are full of them.
            '_' => !(before.is_alphanumeric() && after.is_alphanumeric()),
            '#' | '+' | '-' => before == ' ' && after == ' ' && escaped.is_empty(),
            _ => false,
        };
        if is_markup {
            escaped.push('\\');
        }
        escaped.push(character);
        before = character;
    }
    escaped
}

/// Formats text as inline code, in as many backticks as needed. Pipes are escaped, which tables require even in code.
pub fn code(text: &str) -> String {
    let text: String = shorten(text).chars().map(printable).collect::<String>().replace('|', "\\|");
    if text.is_empty() {
        return String::new();
    }
    let fence = "`".repeat(longest_run(&text, '`') + 1);
    let space = if text.starts_with('`') || text.ends_with('`') { " " } else { "" };
    format!("{fence}{space}{text}{space}{fence}")
}

/// Formats lines of text as a code block, fenced by more backticks than the text has. Control characters other than line
/// ends and tabs become spaces.
pub fn code_block(language: &str, text: &str) -> String {
    let text: String = text
        .chars()
        .map(
            |character| {
                if matches!(character, '\n' | '\t') { character } else { printable(character) }
            },
        )
        .collect();
    let fence = "`".repeat((longest_run(&text, '`') + 1).max(3));
    let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    format!("{fence}{language}\n{text}{end}{fence}\n")
}

/// Formats sentences as a list, escaped.
pub fn list<T: AsRef<str>>(sentences: impl IntoIterator<Item = T>) -> String {
    sentences.into_iter().fold(String::new(), |mut list, sentence| {
        writeln!(list, "- {}", escape(sentence.as_ref())).expect("writing to text cannot fail");
        list
    })
}

fn longest_run(text: &str, repeated: char) -> usize {
    text.split(|character| character != repeated).map(str::len).max().unwrap_or(0)
}

/// Replaces control characters, line breaks and changes of text direction by spaces.
fn printable(character: char) -> char {
    match character {
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}' => ' ',
        character if character.is_control() => ' ',
        character => character,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_padded_and_escaped() {
        let mut table = Table::new(&[("function", Align::Left), ("share", Align::Right)]);
        table.row(["a|b\n`c`", "61.2 %"]).row(["f"]).markdown_row([code("x|y"), "1 %".into()]);
        insta::assert_snapshot!(table.to_string(), @r"
        | function   |  share |
        | ---------- | -----: |
        | a\|b \`c\` | 61.2 % |
        | f          |        |
        | `x\|y`     |    1 % |
        ");
    }

    #[test]
    fn a_column_that_is_unknown_in_every_row_is_removed() {
        let mut table = Table::new(&[("a", Align::Left), ("b", Align::Right)]);
        table.row(["x", "-"]).markdown_row(["y", "-"]);
        assert!(!table.clone().without_unknown("b").to_string().contains('b'));
        assert!(table.clone().without_unknown("a").to_string().contains('a'));
        table.row(["z", "1"]);
        assert!(table.without_unknown("b").to_string().contains('b'));
    }

    #[test]
    fn markup_and_control_characters_are_escaped() {
        for (text, expected) in [
            ("snake_case_name", "snake_case_name"),
            ("__init__", r"\_\_init\_\_"),
            ("<b>&amp;", r"\<b\>\&amp;"),
            ("*x* [y](z)", r"\*x\* \[y\](z)"),
            ("a\u{1b}[0m", r"a \[0m"),
            ("a\u{202e}b", "a b"),
            ("- x", r"\- x"),
            ("a - b", "a - b"),
        ] {
            assert_eq!(escape(text), expected, "{text:?}");
        }
    }

    #[test]
    fn backticks_in_code_are_fenced() {
        assert_eq!(code("f"), "`f`");
        assert_eq!(code("a`b"), "``a`b``");
        assert_eq!(code("`"), "`` ` ``");
        assert_eq!(code(""), "");
        assert_eq!(code_block("rust", "a\n```\nb\u{7}"), "````rust\na\n```\nb \n````\n");
        assert_eq!(list(["one.", "t|wo."]), "- one.\n- t\\|wo.\n");
    }
}
