//! Writes the SVG shapes that charts consist of.

use std::fmt::Write;

use super::axis::Axis;

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
        svg.text(16.0, 26.0, title, 17.0, INK, Anchor::Start);
        svg.text(16.0, 45.0, subtitle, 12.0, FAINT, Anchor::Start);
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

    /// Adds text that runs upwards, centred at a position.
    pub(super) fn upright_text(&mut self, x: f64, y: f64, text: &str) {
        self.push(&format!(
            "<text transform=\"translate({x:.1} {y:.1}) rotate(-90)\" font-size=\"12\" fill=\"{INK}\" \
             text-anchor=\"middle\">{}</text>\n",
            escaped(text)
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

    /// Adds a vertical axis with grid lines at the left of an area.
    pub(super) fn y_axis(&mut self, area: Area, axis: &Axis, title: &str) {
        for tick in &axis.ticks {
            let y = axis.position(tick.value);
            self.line((area.left, y), (area.right, y), GRID, 1.0);
            self.text(area.left - 8.0, y + 4.0, &tick.label, 11.0, INK, Anchor::End);
        }
        self.line((area.left, area.top), (area.left, area.bottom), INK, 1.0);
        self.upright_text(18.0, f64::midpoint(area.top, area.bottom), title);
    }

    /// Adds a horizontal axis at the bottom of an area.
    pub(super) fn x_axis(&mut self, area: Area, axis: &Axis, title: &str) {
        for tick in &axis.ticks {
            let x = axis.position(tick.value);
            self.line((x, area.bottom), (x, area.bottom + 5.0), INK, 1.0);
            self.text(x, area.bottom + 18.0, &tick.label, 11.0, INK, Anchor::Middle);
        }
        self.line((area.left, area.bottom), (area.right, area.bottom), INK, 1.0);
        let middle = f64::midpoint(area.left, area.right);
        self.text(middle, area.bottom + 38.0, title, 12.0, INK, Anchor::Middle);
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
fn escaped(text: &str) -> String {
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
        let mut svg = Svg::new(10.0, 10.0, hostile, hostile);
        svg.upright_text(0.0, 0.0, hostile);
        let svg = svg.finish();
        assert!(!svg.contains("<script") && !svg.contains('\0'), "{svg}");
        assert_eq!(svg.matches("&lt;script&gt;alert(1)&lt;/script&gt;&amp;&quot; ").count(), 4);
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
