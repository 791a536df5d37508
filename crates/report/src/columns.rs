//! Plain-text tables for terminals.

use unicode_width::UnicodeWidthStr;

use crate::format::shorten;
use crate::markdown::Align;

/// Formats rows below their headings. Columns are separated by two spaces; lines have no trailing spaces.
pub(crate) fn columns(headings: &[(&str, Align)], rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<String>> =
        rows.iter().map(|row| row.iter().map(|cell| one_line(cell)).collect()).collect();
    let heading: Vec<String> = headings.iter().map(|(text, _)| (*text).to_owned()).collect();
    let all = || std::iter::once(&heading).chain(&rows);
    let width = |at: usize| all().map(|row| row[at].width()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..headings.len()).map(width).collect();
    let mut text = String::new();
    for row in all() {
        let mut line = String::new();
        for ((cell, (_, align)), &width) in row.iter().zip(headings).zip(&widths) {
            let padding = " ".repeat(width - cell.width());
            line += &match align {
                Align::Left => format!("  {cell}{padding}"),
                Align::Right => format!("  {padding}{cell}"),
            };
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

/// Returns text that is safe to print on one line: control characters, line breaks and changes of text direction become
/// U+FFFD, and very long words are shortened.
pub(crate) fn one_line(text: &str) -> String {
    let is_direction = |c: char| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let is_break = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
    let replace = |c: char| if is_break(c) || is_direction(c) { '\u{fffd}' } else { c };
    shorten(text).chars().map(replace).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_by_display_width() {
        let cells = |name: &str, n: &str| vec![name.to_owned(), n.to_owned()];
        let rows =
            [cells("a\nb", "1"), cells("é", "23"), cells("走る", "4"), cells("e\u{301}", "5")];
        let text = columns(&[("name", Align::Left), ("n", Align::Right)], &rows);
        let expected = "  name   n\n  a\u{fffd}b    1\n  é     23\n  走る   4\n  e\u{301}      5\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn control_characters_and_text_direction_are_replaced() {
        assert_eq!(one_line("\u{1b}[31m\u{202e}x"), "\u{fffd}[31m\u{fffd}x");
    }
}
