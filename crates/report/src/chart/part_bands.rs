//! The parts of a run on a time axis: set-up, steps, tear-down. A band above the panels names them, and the panels are
//! shaded outside of the steps.

use super::svg::{Anchor, Area, COLORS, INK, Svg, text_width};
use crate::analysis::RunPart;
use crate::format;

/// Maximum number of steps that are marked individually.
pub(super) const MAX_MARKS: u64 = 120;
/// Height of the band.
const HEIGHT: f64 = 16.0;
/// Gap between the band and the first panel.
const GAP: f64 = 6.0;
/// Font size of the names.
const SIZE: f64 = 11.0;
/// Fill of what is outside of the steps.
const SHADE: &str = "#8a8a8a";
/// Fill of the steps.
pub(super) const STEP_COLOR: &str = COLORS[4];

/// The steps of a run in time, ns, and the time that the chart shows.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct PartBands {
    pub(super) begin_ns: u64,
    pub(super) end_ns: u64,
    /// Begin and end of each step, or of each group of consecutive steps, in order.
    pub(super) steps: Vec<(u64, u64)>,
    /// Number of steps.
    pub(super) count: u64,
}

impl PartBands {
    /// Returns when the first step began and the last one ended, within the time shown. `None` without steps.
    fn work_ns(&self) -> Option<(u64, u64)> {
        let first = self.steps.first()?.0.clamp(self.begin_ns, self.end_ns);
        let last = self.steps.iter().map(|step| step.1).max()?.clamp(first, self.end_ns);
        Some((first, last))
    }

    /// Returns the wall time of each part, such as `set-up 1.2 s, 500 steps 3 s`; empty without steps.
    pub(super) fn describe(&self) -> Vec<String> {
        let Some((first, last)) = self.work_ns() else { return Vec::new() };
        let part = |name: &str, ns: u64| format!("{name} {}", format::duration_ns(ns as f64));
        [
            (RunPart::SetUp.describe(), first - self.begin_ns),
            (&self.count(), last - first),
            (RunPart::TearDown.describe(), self.end_ns - last),
        ]
        .into_iter()
        .filter(|&(_, ns)| ns > 0)
        .map(|(name, ns)| part(name, ns))
        .collect()
    }

    fn count(&self) -> String {
        let end = if self.count == 1 { "" } else { "s" };
        format!("{} step{end}", format::count(self.count as f64))
    }

    /// Draws the band above the first panel, and shades all panels outside of the steps. `x_at` returns the position of a
    /// time.
    pub(super) fn draw(&self, svg: &mut Svg, panels: &[Area], x_at: &impl Fn(u64) -> f64) {
        let (Some((first, last)), Some(&top)) = (self.work_ns(), panels.first()) else { return };
        let band = Area { top: top.top - GAP - HEIGHT, bottom: top.top - GAP, ..top };
        let (first, last) = (x_at(first), x_at(last));
        for area in panels.iter().chain([&band]) {
            svg.rect(Area { right: first, ..*area }, SHADE, 0.13);
            svg.rect(Area { left: last, ..*area }, SHADE, 0.13);
        }
        self.draw_steps(svg, Area { left: first, right: last, ..band }, x_at);
        write_name(svg, Area { right: first, ..band }, RunPart::SetUp.describe());
        write_name(svg, Area { left: last, ..band }, RunPart::TearDown.describe());
        let label = if self.is_marked() { RunPart::Steps.describe() } else { &self.count() };
        write_name(svg, Area { left: first, right: last, ..band }, label);
        svg.text(top.left - 8.0, band.bottom - 4.0, "part", SIZE, INK, Anchor::End);
    }

    /// Whether each step is marked.
    fn is_marked(&self) -> bool {
        self.count <= MAX_MARKS
    }

    /// Draws a mark for each step, or their whole span if they are many.
    fn draw_steps(&self, svg: &mut Svg, work: Area, x_at: &impl Fn(u64) -> f64) {
        if !self.is_marked() {
            svg.rect(work, STEP_COLOR, 0.5);
            return;
        }
        for (at, &(begin_ns, end_ns)) in self.steps.iter().enumerate() {
            let (left, right) = (x_at(begin_ns), x_at(end_ns));
            let opacity = if at % 2 == 0 { 0.6 } else { 0.35 };
            svg.rect(Area { left, right: right.max(left + 0.5), ..work }, STEP_COLOR, opacity);
        }
    }
}

/// Writes a name into its part of the band if it fits.
fn write_name(svg: &mut Svg, area: Area, name: &str) {
    if text_width(name, SIZE) + 4.0 <= area.right - area.left {
        let middle = f64::midpoint(area.left, area.right);
        svg.text(middle, area.bottom - 4.0, name, SIZE, INK, Anchor::Middle);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn bands(steps: Vec<(u64, u64)>) -> PartBands {
        let count = steps.len() as u64;
        let steps = steps.into_iter().map(|(begin, end)| (begin * MS, end * MS)).collect();
        PartBands { begin_ns: 0, end_ns: 1000 * MS, steps, count }
    }

    fn svg(bands: &PartBands) -> String {
        let mut svg = Svg::new(1000.0, 100.0, "", "");
        let panel = Area { left: 0.0, top: 50.0, right: 1000.0, bottom: 100.0 };
        bands.draw(&mut svg, &[panel, panel], &|ns| ns as f64 / MS as f64);
        svg.finish()
    }

    #[test]
    fn parts_have_their_wall_time() {
        let some = bands(vec![(200, 300), (300, 900)]);
        assert_eq!(some.describe(), ["set-up 200 ms", "2 steps 700 ms", "tear-down 100 ms"]);
        assert_eq!(bands(vec![(0, 1000)]).describe(), ["1 step 1 s"]);
        // Steps of a run that went on longer than its samples.
        assert_eq!(bands(vec![(900, 1500)]).describe(), ["set-up 900 ms", "1 step 100 ms"]);
        assert!(bands(Vec::new()).describe().is_empty());
    }

    #[test]
    fn parts_are_named_where_the_name_fits() {
        let svg = svg(&bands(vec![(200, 300), (300, 990)]));
        assert!(svg.contains(">set-up</text>") && svg.contains(">steps</text>"), "{svg}");
        assert!(!svg.contains(">tear-down</text>"), "10 pixels are too few: {svg}");
        assert_eq!(svg.matches(STEP_COLOR).count(), 2);
        // Both ends of two panels and of the band.
        assert_eq!(svg.matches(SHADE).count(), 6);
    }

    #[test]
    fn many_steps_are_one_mark() {
        let steps = |count: u64| bands((0..count).map(|at| (at, at + 1)).collect());
        assert_eq!(svg(&steps(MAX_MARKS)).matches(STEP_COLOR).count() as u64, MAX_MARKS);
        let many = svg(&steps(MAX_MARKS + 1));
        assert_eq!(many.matches(STEP_COLOR).count(), 1);
        assert!(many.contains("121 steps"), "{many}");
        assert!(!svg(&bands(Vec::new())).contains(SHADE));

        let grouped = PartBands { count: 5000, ..bands(vec![(0, 500), (500, 1000)]) };
        let svg = svg(&grouped);
        assert!(svg.contains("5,000 steps"), "{svg}");
        assert_eq!(svg.matches(STEP_COLOR).count(), 1);
    }
}
