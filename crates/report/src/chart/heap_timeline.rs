//! The chart of memory over time: live bytes and allocation rate, with the steps marked.

use simprof_model::{HeapInterval, HeapProfile};

use super::axis::Axis;
use super::part_bands::PartBands;
use super::scale::Unit;
use super::svg::{Anchor, Area, COLORS, FAINT, INK, Svg};
use crate::format;

const WIDTH: f64 = 900.0;
const LEFT: f64 = 92.0;
const RIGHT: f64 = 876.0;
const TOP: f64 = 88.0;
/// Height of a panel.
const PANEL: f64 = 150.0;
/// Gap between panels.
const GAP: f64 = 28.0;
/// Space below the lowest panel, for the axis and the legend.
const BELOW: f64 = 80.0;

/// Draws live and allocated bytes over time as SVG. Time starts at the first interval.
pub fn memory_chart(profile: &HeapProfile, title: &str) -> String {
    let live = Area { left: LEFT, top: TOP, right: RIGHT, bottom: TOP + PANEL };
    let rate = Area { top: live.bottom + GAP, bottom: live.bottom + GAP + PANEL, ..live };
    let mut svg = Svg::new(WIDTH, rate.bottom + BELOW, title, &subtitle(profile));
    let Some((begin_ns, width_ns)) = scale(&profile.series) else {
        let middle = f64::midpoint(LEFT, RIGHT);
        svg.text(middle, 140.0, "no allocations", 14.0, FAINT, Anchor::Middle);
        return svg.finish();
    };
    let end_ns = profile.series.last().map_or(begin_ns + 1, |interval| interval.end_ns);
    let x = Axis::exact((end_ns - begin_ns) as f64, Unit::DurationNs, LEFT, RIGHT);
    let x_at = |time_ns: u64| x.position(time_ns.saturating_sub(begin_ns) as f64);
    part_bands(profile, begin_ns, end_ns, width_ns).draw(&mut svg, &[live, rate], &x_at);
    draw_live(&mut svg, live, &profile.series, &x_at);
    draw_rate(&mut svg, rate, &profile.series, width_ns, &x_at);
    draw_peak(&mut svg, live, profile, &x_at);
    svg.x_axis(rate, &x, "time since the start");
    draw_legend(&mut svg, rate.bottom + 62.0);
    svg.finish()
}

/// Returns the beginning of the first interval and the length of all, ns; `None` if there are no intervals.
fn scale(series: &[HeapInterval]) -> Option<(u64, u64)> {
    let first = series.first()?;
    let width_ns = match series.get(1) {
        Some(second) => second.end_ns.saturating_sub(first.end_ns).max(1),
        None => 1_000_000,
    };
    Some((first.end_ns.saturating_sub(width_ns), width_ns))
}

fn subtitle(profile: &HeapProfile) -> String {
    let allocated = profile.total(|site| site.amounts.allocated);
    let peak = profile.total(|site| site.amounts.peak);
    let mut facts = vec![
        format!(
            "{} allocated in {} allocation{}",
            format::bytes(allocated.bytes as f64),
            format::count(allocated.count as f64),
            if allocated.count == 1 { "" } else { "s" }
        ),
        format!("peak {}", format::bytes(peak.bytes as f64)),
    ];
    if profile.steps > 0 {
        facts.push(format!("{} steps", format::count(profile.steps as f64)));
    }
    if !profile.provenance.is_exact() {
        facts.push("estimated from samples".to_owned());
    }
    facts.join(", ")
}

/// Returns the steps. The beginning of the first step is unknown. The step is shown with the mean length of the others,
/// or of an interval if it is the only one.
fn part_bands(profile: &HeapProfile, begin_ns: u64, end_ns: u64, width_ns: u64) -> PartBands {
    let mut bands = PartBands { begin_ns, end_ns, steps: Vec::new(), count: profile.steps };
    let (Some(first), Some(last)) = (profile.ticks.first(), profile.ticks.last()) else {
        return bands;
    };
    if profile.steps == 0 {
        return bands;
    }
    let others = profile.ticks.len() as u64 - 1;
    let mean_ns = last.end_ns.saturating_sub(first.end_ns).checked_div(others).unwrap_or(width_ns);
    let mut from_ns = first.end_ns.saturating_sub(mean_ns);
    for tick in &profile.ticks {
        bands.steps.push((from_ns, tick.end_ns));
        from_ns = tick.end_ns;
    }
    bands
}

/// Draws live bytes: the maximum within each interval as a line, the amount at its end as a shaded area.
fn draw_live(svg: &mut Svg, area: Area, series: &[HeapInterval], x_at: &impl Fn(u64) -> f64) {
    let most = series.iter().map(|interval| interval.live_bytes_max).max().unwrap_or(0);
    let y = Axis::from_zero(most as f64, Unit::Bytes, area.bottom, area.top);
    svg.y_axis(area, &y, "live memory");
    svg.line((area.left, area.bottom), (area.right, area.bottom), INK, 1.0);
    let points = |bytes: fn(&HeapInterval) -> u64| -> Vec<(f64, f64)> {
        series
            .iter()
            .map(|interval| (x_at(interval.end_ns), y.position(bytes(interval) as f64)))
            .collect()
    };
    let mut shade = points(|interval| interval.live_bytes);
    if let (Some(first), Some(last)) = (shade.first().copied(), shade.last().copied()) {
        shade.push((last.0, area.bottom));
        shade.push((first.0, area.bottom));
    }
    svg.polygon(&shade, COLORS[0], 0.18);
    svg.path(&points(|interval| interval.live_bytes_max), COLORS[0], 1.6, false);
}

/// Draws the bytes allocated per second.
fn draw_rate(
    svg: &mut Svg,
    area: Area,
    series: &[HeapInterval],
    width_ns: u64,
    x_at: &impl Fn(u64) -> f64,
) {
    let per_second =
        |interval: &HeapInterval| interval.allocated_bytes as f64 / (width_ns as f64 * 1e-9);
    let most = series.iter().map(per_second).fold(0.0, f64::max);
    let y = Axis::from_zero(most, Unit::BytesPerSecond, area.bottom, area.top);
    svg.y_axis(area, &y, "allocated");
    svg.line((area.left, area.bottom), (area.right, area.bottom), INK, 1.0);
    let points: Vec<(f64, f64)> = series
        .iter()
        .map(|interval| (x_at(interval.end_ns), y.position(per_second(interval))))
        .collect();
    svg.path(&points, COLORS[1], 1.4, false);
}

/// Draws a mark at the time of the peak.
fn draw_peak(svg: &mut Svg, area: Area, profile: &HeapProfile, x_at: &impl Fn(u64) -> f64) {
    if profile.peak_ns == 0 {
        return;
    }
    let x = x_at(profile.peak_ns);
    svg.line((x, area.top), (x, area.bottom), FAINT, 0.8);
    let label = match profile.peak_step {
        Some(step) => format!("peak, step {step}"),
        None => "peak".to_owned(),
    };
    let (x, anchor) =
        if x > RIGHT - 90.0 { (x - 4.0, Anchor::End) } else { (x + 4.0, Anchor::Start) };
    // At the bottom, since the curve is at the top.
    svg.text(x, area.bottom - 6.0, &label, 11.0, FAINT, anchor);
}

/// Explains the lines of both panels.
fn draw_legend(svg: &mut Svg, y: f64) {
    svg.line((LEFT, y - 4.0), (LEFT + 20.0, y - 4.0), COLORS[0], 1.6);
    svg.text(LEFT + 26.0, y, "most within an interval", 12.0, INK, Anchor::Start);
    let at = LEFT + 210.0;
    svg.rect(Area { left: at, top: y - 11.0, right: at + 20.0, bottom: y }, COLORS[0], 0.18);
    svg.text(at + 26.0, y, "at the end of an interval", 12.0, INK, Anchor::Start);
    let at = LEFT + 420.0;
    svg.line((at, y - 4.0), (at + 20.0, y - 4.0), COLORS[1], 1.6);
    svg.text(at + 26.0, y, "mean rate of an interval", 12.0, INK, Anchor::Start);
}

#[cfg(test)]
mod tests {
    use super::super::part_bands::STEP_COLOR;
    use super::*;
    use crate::testing::{heap, with_ticks};

    #[test]
    fn the_chart_has_live_bytes_rate_and_peak() {
        let mut profile = heap(&[("main@1 > malloc", 5 << 20)]);
        profile.series = (1..=3)
            .map(|at| HeapInterval {
                end_ns: at * 1_000_000,
                allocated_bytes: 1 << 20,
                allocations: 4,
                live_bytes_max: at << 20,
                live_bytes: at << 19,
            })
            .collect();
        (profile.peak_ns, profile.peak_step) = (2_500_000, Some(7));
        let svg = memory_chart(&profile, "memory <of> x");
        for expected in [
            "memory &lt;of&gt; x",
            "5 MiB allocated in 1 allocation, ",
            "peak, step 7",
            "live memory (MiB)",
            "allocated (MiB/s)",
            "time since the start (ms)",
        ] {
            assert!(svg.contains(expected), "{expected}: {svg}");
        }
    }

    #[test]
    fn every_step_is_drawn() {
        let marks = |steps: u64| {
            let stacks = [("main@1 > malloc", 5 << 20)];
            let mut profile = with_ticks(heap(&stacks), steps, |_| None, |_, _| 1);
            let interval = |at| HeapInterval { end_ns: at * 500_000, ..HeapInterval::default() };
            profile.series = (1..=2 * steps).map(interval).collect();
            memory_chart(&profile, "t").matches(STEP_COLOR).count()
        };
        assert_eq!([marks(1), marks(3), marks(100)], [1, 3, 100]);
    }

    #[test]
    fn an_empty_chart_says_so() {
        assert!(memory_chart(&heap(&[]), "t").contains("no allocations"));
    }
}
