//! Completes the picture that inferno draws: amounts in fitting units, the label of the root, and a legend of the colours.

use inferno::flamegraph::color::Color;

use crate::chart::escaped;

/// The unit that inferno is given. Its amounts are whole numbers in one unit, which are replaced here.
pub(super) const COUNT_NAME: &str = "base-units";

/// Height of the legend.
const LEGEND_HEIGHT: usize = 24;
/// Width of a character of the legend.
const CHARACTER_WIDTH: f64 = 7.3;
/// Side of a coloured square of the legend.
const SQUARE: f64 = 11.0;

/// An entry of the legend.
pub(super) type LegendEntry = (Color, &'static str);

/// Replaces the amounts of all frames, and the name of the root, in a picture of inferno. `show` formats an amount and its
/// share of all.
pub(super) fn with_amounts(svg: &str, root: &str, show: impl Fn(u64) -> String) -> String {
    let mut pieces = svg.split("<title>");
    let mut text = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        text.push_str("<title>");
        let (title, rest) = piece.split_once("</title>").unwrap_or((piece, ""));
        match name_and_amount(title) {
            Some(("all", amount, true)) => {
                text.push_str(&format!("{} ({})", escaped(root), show(amount)));
                text.push_str("</title>");
                // inferno leaves the root without a text; its script adds that, but not every viewer runs scripts.
                text.push_str(&rest.replacen("></text>", &format!(">{}</text>", escaped(root)), 1));
                continue;
            }
            Some((name, amount, _)) => text.push_str(&format!("{name} ({})", show(amount))),
            None => text.push_str(title),
        }
        text.push_str("</title>");
        text.push_str(rest);
    }
    text
}

/// Parses `name (1,234 base-units, 12.34%)`: the name, the amount, and whether it is the root, the only share without a
/// fraction.
fn name_and_amount(title: &str) -> Option<(&str, u64, bool)> {
    let (name, rest) = title.rsplit_once(" (")?;
    let (amount, share) = rest.split_once(&format!(" {COUNT_NAME}, "))?;
    let amount = amount.replace(',', "").parse().ok()?;
    Some((name, amount, share == "100%)"))
}

/// Adds a legend below a picture of inferno, which is made higher.
pub(super) fn with_legend(svg: String, entries: &[LegendEntry]) -> String {
    let Some(height) = height(&svg) else { return svg };
    let Some(body) = svg.trim_end().strip_suffix("</svg>") else { return svg };
    let higher = height + LEGEND_HEIGHT;
    // The page and its background.
    let body = body
        .replacen(&format!("height=\"{height}\""), &format!("height=\"{higher}\""), 2)
        .replacen(&format!(" {height}\" xmlns"), &format!(" {higher}\" xmlns"), 1);
    format!("{body}{}</svg>\n", legend(height as f64 + 6.0, entries))
}

/// Returns the height of the page.
fn height(svg: &str) -> Option<usize> {
    let (_, rest) = svg.split_once(" height=\"")?;
    rest.split_once('"')?.0.parse().ok()
}

fn legend(y: f64, entries: &[LegendEntry]) -> String {
    let mut x = 10.0;
    let mut text = String::new();
    for (Color { r, g, b }, name) in entries {
        text += &format!(
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{SQUARE}\" height=\"{SQUARE}\" fill=\"rgb({r},{g},{b})\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            x + SQUARE + 5.0,
            y + SQUARE - 1.0,
            escaped(name)
        );
        x += SQUARE + 5.0 + name.len() as f64 * CHARACTER_WIDTH + 16.0;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_and_the_root_are_replaced() {
        let svg = "<g><title>f (2) (1,234 base-units, 12.00%)</title><rect/><text></text></g>\
                   <g><title>all (2,000 base-units, 50.00%)</title><rect/><text>all</text></g>\
                   <g><title>all (4,000 base-units, 100%)</title><rect/><text x=\"1\"></text></g>";
        let found = with_amounts(svg, "whole <run>", |amount| format!("{amount} B"));
        assert_eq!(
            found,
            "<g><title>f (2) (1234 B)</title><rect/><text></text></g>\
             <g><title>all (2000 B)</title><rect/><text>all</text></g>\
             <g><title>whole &lt;run&gt; (4000 B)</title><rect/><text x=\"1\">whole &lt;run&gt;</text></g>"
        );
    }

    #[test]
    fn the_page_grows_by_the_legend() {
        let svg = "<svg version=\"1.1\" width=\"1200\" height=\"86\" viewBox=\"0 0 1200 86\" xmlns=\"s\">\
                   <rect height=\"86\" fill=\"f\"/></svg>";
        let found = with_legend(svg.to_owned(), &[(Color { r: 1, g: 2, b: 3 }, "your code")]);
        assert!(found.starts_with(
            "<svg version=\"1.1\" width=\"1200\" height=\"110\" viewBox=\"0 0 1200 110\" xmlns=\"s\">\
             <rect height=\"110\" fill=\"f\"/><rect x=\"10.0\" y=\"92.0\""
        ), "{found}");
        assert!(found.ends_with(">your code</text></svg>\n"), "{found}");
        assert_eq!(with_legend("no picture".to_owned(), &[]), "no picture");
    }
}
