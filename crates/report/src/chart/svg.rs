//! Writes the SVG shapes that charts consist of.

use std::borrow::Cow;
use std::fmt::Write;

use super::axis::{Axis, LABEL_SIZE};

/// Colours that people with any kind of colour vision can distinguish (Okabe and Ito 2008), without yellow, which has too
/// little contrast.
pub(super) const COLORS: [&str; 7] =
    ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#555555"];
/// Text and axes.
pub(super) const INK: &str = "#222222";
/// Secondary text.
pub(super) const FAINT: &str = "#666666";
/// Grid lines.
pub(super) const GRID: &str = "#e4e4e4";

/// Alignment of text to its position.
#[derive(Debug, Clone, Copy)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// A rectangle of the chart.
#[derive(Debug, Clone, Copy)]
pub(super) struct Area {
    pub(super) left: f64,
    pub(super) top: f64,
    pub(super) right: f64,
    pub(super) bottom: f64,
}

/// Width of the widest common letters of the fonts of charts, as a fraction of the font size.
const CHARACTER_WIDTH: f64 = 0.6;
/// Distance of titles from the sides of the page.
const MARGIN: f64 = 16.0;
/// Font size of the titles of axes.
const AXIS_TITLE_SIZE: f64 = 12.0;

/// Returns an upper estimate of the width of most texts. The viewer chooses the font, so the exact width is unknown.
pub(super) fn text_width(text: &str, size: f64) -> f64 {
    text.chars().count() as f64 * CHARACTER_WIDTH * size
}

/// Returns as much of a text as fits into a width, with an ellipsis if it is cut.
pub(super) fn cut(text: &str, size: f64, width: f64) -> Cow<'_, str> {
    if text_width(text, size) <= width {
        return Cow::Borrowed(text);
    }
    let count = (width / (CHARACTER_WIDTH * size)).max(1.0) as usize;
    let kept: String = text.chars().take(count - 1).collect();
    Cow::Owned(format!("{}…", kept.trim_end()))
}

/// An SVG file under construction.
#[derive(Debug)]
pub(super) struct Svg {
    body: String,
    width: f64,
    height: f64,
}

impl Svg {
    /// Creates a white page with a title, which screen readers read too.
    pub(super) fn new(width: f64, height: f64, title: &str, subtitle: &str) -> Self {
        let mut svg = Self { body: String::new(), width, height };
        svg.push(&format!("<title>{}</title>\n", escaped(title)));
        svg.rect(Area { left: 0.0, top: 0.0, right: width, bottom: height }, "#ffffff", 1.0);
        let room = width - 2.0 * MARGIN;
        svg.text(MARGIN, 26.0, &cut(title, 17.0, room), 17.0, INK, Anchor::Start);
        svg.text(MARGIN, 45.0, &cut(subtitle, 12.0, room), 12.0, FAINT, Anchor::Start);
        svg
    }

    pub(super) fn finish(self) -> String {
        let Self { body, width, height } = self;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
             viewBox=\"0 0 {width} {height}\" font-family=\"system-ui, 'DejaVu Sans', Helvetica, Arial, \
             sans-serif\" role=\"img\">\n{body}</svg>\n"
        )
    }

    pub(super) fn text(
        &mut self,
        x: f64,
        y: f64,
        text: &str,
        size: f64,
        color: &str,
        anchor: Anchor,
    ) {
        if text.is_empty() {
            return;
        }
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        self.push(&format!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"{size}\" fill=\"{color}\" \
             text-anchor=\"{anchor}\">{}</text>\n",
            escaped(text)
        ));
    }

    /// Adds the title of a vertical axis, which runs upwards. It may be somewhat longer than the axis.
    fn upright_title(&mut self, area: Area, title: &str) {
        let (x, y) = (18.0, f64::midpoint(area.top, area.bottom));
        self.push(&format!(
            "<text transform=\"translate({x:.1} {y:.1}) rotate(-90)\" font-size=\"{AXIS_TITLE_SIZE}\" \
             fill=\"{INK}\" text-anchor=\"middle\">{}</text>\n",
            escaped(title)
        ));
    }

    pub(super) fn line(&mut self, from: (f64, f64), to: (f64, f64), color: &str, width: f64) {
        let ((x1, y1), (x2, y2)) = (from, to);
        self.push(&format!(
            "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{color}\" \
             stroke-width=\"{width}\"/>\n"
        ));
    }

    pub(super) fn rect(&mut self, area: Area, color: &str, opacity: f64) {
        let (width, height) = (area.right - area.left, area.bottom - area.top);
        self.push(&format!(
            "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"{width:.2}\" height=\"{height:.2}\" fill=\"{color}\" \
             fill-opacity=\"{opacity:.2}\" shape-rendering=\"crispEdges\"/>\n",
            area.left, area.top
        ));
    }

    /// Adds a line through points.
    pub(super) fn path(&mut self, points: &[(f64, f64)], color: &str, width: f64, is_dashed: bool) {
        if points.len() < 2 {
            return;
        }
        let dashes = if is_dashed { " stroke-dasharray=\"6 4\"" } else { "" };
        self.push(&format!(
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"{width}\" \
             stroke-linejoin=\"round\"{dashes}/>\n",
            pairs(points)
        ));
    }

    /// Adds the area that points enclose.
    pub(super) fn polygon(&mut self, points: &[(f64, f64)], color: &str, opacity: f64) {
        if points.len() < 3 {
            return;
        }
        self.push(&format!(
            "<polygon points=\"{}\" fill=\"{color}\" fill-opacity=\"{opacity:.2}\"/>\n",
            pairs(points)
        ));
    }

    pub(super) fn circle(&mut self, (x, y): (f64, f64), radius: f64, color: &str, opacity: f64) {
        self.push(&format!(
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius}\" fill=\"{color}\" \
             fill-opacity=\"{opacity:.2}\"/>\n"
        ));
    }

    /// Adds a vertical axis with grid lines at the left of an area. `name` is what the values are.
    pub(super) fn y_axis(&mut self, area: Area, axis: &Axis, name: &str) {
        for tick in &axis.ticks {
            let y = axis.position(tick.value);
            self.line((area.left, y), (area.right, y), GRID, 1.0);
            self.text(area.left - 8.0, y + 4.0, &tick.label, LABEL_SIZE, INK, Anchor::End);
        }
        self.line((area.left, area.top), (area.left, area.bottom), INK, 1.0);
        // The name is cut, so that the unit stays.
        let name = cut(name, AXIS_TITLE_SIZE, 0.8 * (area.bottom - area.top));
        self.upright_title(area, &axis.title(&name));
    }

    /// Adds a horizontal axis at the bottom of an area. `name` is what the values are.
    pub(super) fn x_axis(&mut self, area: Area, axis: &Axis, name: &str) {
        for tick in &axis.ticks {
            let x = axis.position(tick.value);
            let length = if tick.label.is_empty() { 3.0 } else { 5.0 };
            self.line((x, area.bottom), (x, area.bottom + length), INK, 1.0);
            self.text(x, area.bottom + 18.0, &tick.label, LABEL_SIZE, INK, Anchor::Middle);
        }
        self.line((area.left, area.bottom), (area.right, area.bottom), INK, 1.0);
        let middle = f64::midpoint(area.left, area.right);
        let title = axis.title(&cut(name, AXIS_TITLE_SIZE, 0.7 * (area.right - area.left)));
        self.text(middle, area.bottom + 38.0, &title, AXIS_TITLE_SIZE, INK, Anchor::Middle);
    }

    pub(super) fn push(&mut self, element: &str) {
        self.body.push_str(element);
    }
}

fn pairs(points: &[(f64, f64)]) -> String {
    points.iter().fold(String::new(), |mut text, (x, y)| {
        let space = if text.is_empty() { "" } else { " " };
        write!(text, "{space}{x:.1},{y:.1}").expect("writing to text cannot fail");
        text
    })
}

/// Returns text as XML: markup is escaped, and characters that XML does not allow become spaces.
pub(crate) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\u{fffe}' | '\u{ffff}' => escaped.push(' '),
            character if character.is_control() => escaped.push(' '),
            character => escaped.push(character),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_become_markup() {
        let hostile = "<script>alert(1)</script>&\"\u{0}";
        let mut svg = Svg::new(800.0, 10.0, hostile, hostile);
        let area = Area { left: 0.0, top: 0.0, right: 0.0, bottom: 400.0 };
        svg.upright_title(area, hostile);
        let svg = svg.finish();
        assert!(!svg.contains("<script") && !svg.contains('\0'), "{svg}");
        assert_eq!(svg.matches("&lt;script&gt;alert(1)&lt;/script&gt;&amp;&quot; ").count(), 4);
    }

    #[test]
    fn long_texts_are_cut_to_their_width() {
        assert_eq!(cut("agents", 10.0, 36.0), "agents");
        assert_eq!(cut("agents", 10.0, 35.0), "agen…");
        assert_eq!(cut("of agents", 10.0, 25.0), "of…");
        assert_eq!(cut("agents", 10.0, 0.0), "…");
        let long = "é".repeat(5000);
        let svg = Svg::new(760.0, 10.0, &long, &long).finish();
        assert!(svg.len() < 12_000 + 1000, "the page's own title has the whole text once");
    }

    #[test]
    fn lines_and_areas_need_points() {
        let mut svg = Svg::new(10.0, 10.0, "", "");
        let empty = svg.body.len();
        svg.path(&[(1.0, 1.0)], INK, 1.0, false);
        svg.polygon(&[(1.0, 1.0), (2.0, 2.0)], INK, 1.0);
        assert_eq!(svg.body.len(), empty);
    }
}
