//! Tables for terminals: columns by width, names on one line each.

use crate::format::shorten;
use crate::markdown::Align;

/// Lines of the rows below their headings, each behind two spaces, without spaces at the end.
pub(crate) fn columns(headings: &[(&str, Align)], rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<String>> =
        rows.iter().map(|row| row.iter().map(|cell| one_line(cell)).collect()).collect();
    let heading: Vec<String> = headings.iter().map(|(text, _)| (*text).to_owned()).collect();
    let all = || std::iter::once(&heading).chain(&rows);
    let width = |at: usize| all().map(|row| row[at].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..headings.len()).map(width).collect();
    let mut text = String::new();
    for row in all() {
        let mut line = String::new();
        for ((cell, (_, align)), &width) in row.iter().zip(headings).zip(&widths) {
            line += &match align {
                Align::Left => format!("  {cell:<width$}"),
                Align::Right => format!("  {cell:>width$}"),
            };
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

/// Text that cannot leave its line, turn its direction or fill the screen: what would is replaced.
pub(crate) fn one_line(text: &str) -> String {
    let turns = |c: char| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let breaks = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
    shorten(text).chars().map(|c| if breaks(c) || turns(c) { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_stay_lines() {
        let rows = [vec!["1".to_owned(), "a\nb".to_owned()], vec!["23".to_owned(), "é".to_owned()]];
        let text = columns(&[("n", Align::Right), ("name", Align::Left)], &rows);
        assert_eq!(text, "   n  name\n   1  a\u{fffd}b\n  23  é\n");
        assert_eq!(one_line("\u{1b}[31m\u{202e}x"), "\u{fffd}[31m\u{fffd}x");
    }
}
