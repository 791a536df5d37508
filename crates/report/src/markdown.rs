//! Markdown that survives what it quotes: names with pipes, backticks and control characters.

use std::fmt::{self, Write};

use crate::format::shorten;

/// On which side the cells of a column stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// For text.
    Left,
    /// For numbers.
    Right,
}

/// A table of plain text, escaped as it is written. Columns are padded, so that it reads well as
/// text too.
#[derive(Debug, Clone)]
pub struct Table {
    columns: Vec<(String, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these columns.
    pub fn new(columns: &[(&str, Align)]) -> Self {
        let columns = columns.iter().map(|&(name, align)| (escape(name), align)).collect();
        Self { columns, rows: Vec::new() }
    }

    /// Adds a row of plain text; missing cells are empty.
    ///
    /// # Panics
    /// Where there are more cells than columns.
    pub fn row<T: AsRef<str>>(&mut self, cells: impl IntoIterator<Item = T>) -> &mut Self {
        self.markdown_row(cells.into_iter().map(|cell| escape(cell.as_ref())))
    }

    /// Adds a row whose cells are Markdown already, such as what [`code`] and [`escape`] return.
    ///
    /// # Panics
    /// Where there are more cells than columns.
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

    /// True where it has no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    fn widths(&self) -> Vec<usize> {
        let of_column = |at: usize| {
            let cells = self.rows.iter().map(|row| row[at].as_str());
            cells.chain([self.columns[at].0.as_str()]).map(width).max().unwrap_or(0).max(3)
        };
        (0..self.columns.len()).map(of_column).collect()
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
            let padding = " ".repeat(column - width(cell));
            match align {
                Align::Left => write!(f, "| {cell}{padding} ")?,
                Align::Right => write!(f, "| {padding}{cell} ")?,
            }
        }
        f.write_str("|\n")
    }
}

fn width(text: &str) -> usize {
    text.chars().count()
}

/// Text that Markdown shows as it is, with names that are too long to read cut in their middle: what would be markup is escaped, and control characters,
/// line ends among them, are spaces.
pub fn escape(text: &str) -> String {
    let text = &shorten(text);
    let mut escaped = String::with_capacity(text.len());
    let mut before = ' ';
    let mut rest = text.chars().map(printable).peekable();
    while let Some(character) = rest.next() {
        let after = rest.peek().copied().unwrap_or(' ');
        let is_markup = match character {
            '\\' | '`' | '*' | '|' | '[' | ']' | '<' | '>' | '~' | '&' | '$' => true,
            // Within a word these mark nothing, and names are full of them.
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

/// Text as code, also within a table: in as many backticks as it takes. A pipe is escaped, which
/// tables ask for even within code.
pub fn code(text: &str) -> String {
    let text: String = shorten(text).chars().map(printable).collect::<String>().replace('|', "\\|");
    if text.is_empty() {
        return String::new();
    }
    let fence = "`".repeat(longest_run(&text, '`') + 1);
    let space = if text.starts_with('`') || text.ends_with('`') { " " } else { "" };
    format!("{fence}{space}{text}{space}{fence}")
}

/// Lines of text as a block of code, fenced by more backticks than it holds. Control characters other
/// than line ends and tabs are replaced.
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

/// A list of sentences, one point each, escaped.
pub fn list<T: AsRef<str>>(sentences: impl IntoIterator<Item = T>) -> String {
    sentences.into_iter().fold(String::new(), |mut list, sentence| {
        writeln!(list, "- {}", escape(sentence.as_ref())).expect("writing to text cannot fail");
        list
    })
}

fn longest_run(text: &str, of: char) -> usize {
    text.split(|character| character != of).map(str::len).max().unwrap_or(0)
}

/// Control characters as spaces; the marks that turn the direction of text as well.
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
    fn text_is_shown_as_it_is() {
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
    fn code_outlasts_its_backticks() {
        assert_eq!(code("f"), "`f`");
        assert_eq!(code("a`b"), "``a`b``");
        assert_eq!(code("`"), "`` ` ``");
        assert_eq!(code(""), "");
        assert_eq!(code_block("rust", "a\n```\nb\u{7}"), "````rust\na\n```\nb \n````\n");
        assert_eq!(list(["one.", "t|wo."]), "- one.\n- t\\|wo.\n");
    }
}
