//! The chart of resources over time: CPU, each core, and memory, with the steps marked.

use simprof_model::{ResourceSample, Steps, Timeline};

use super::axis::Axis;
use super::part_bands::PartBands;
use super::scale::Unit;
use super::svg::{Anchor, Area, COLORS, FAINT, INK, Svg};
use crate::format;

const WIDTH: f64 = 900.0;
const LEFT: f64 = 92.0;
const RIGHT: f64 = 876.0;
/// Height of the CPU panel and of the memory panel.
const PANEL: f64 = 150.0;
/// Maximum number of points of a line; adjacent samples are merged if there are more.
const MAX_POINTS: usize = 800;
/// Maximum number of cores that are shown.
const MAX_CORES: usize = 64;
/// Maximum number of shapes for all cores.
const MAX_CELLS: usize = 4000;
/// Number of shades of a core's load.
const SHADES: f32 = 12.0;

/// Draws the resources that a target used over time as SVG. Time starts at the first sample. What is before the first
/// step and after the last one is shaded.
pub fn timeline_chart(timeline: &Timeline, steps: &Steps, title: &str) -> String {
    let samples = merged(&timeline.samples, MAX_POINTS);
    let cores =
        samples.iter().map(|sample| sample.core_busy.len()).max().unwrap_or(0).min(MAX_CORES);
    let layout = Layout::new(cores);
    let (Some(first), Some(last)) = (samples.first(), samples.last()) else {
        let mut svg = Svg::new(WIDTH, layout.height, title, "");
        let middle = f64::midpoint(LEFT, RIGHT);
        svg.text(middle, 140.0, "no samples", 14.0, FAINT, Anchor::Middle);
        return svg.finish();
    };
    let span = Span { begin_ns: first.time_ns, end_ns: last.time_ns.max(first.time_ns + 1) };
    let bands = PartBands {
        begin_ns: span.begin_ns,
        end_ns: span.end_ns,
        steps: steps.steps.iter().map(|step| (step.begin_ns, step.end_ns)).collect(),
        count: steps.steps.len() as u64,
    };
    let mut svg = Svg::new(WIDTH, layout.height, title, &subtitle(timeline, &bands));
    bands.draw(&mut svg, &[layout.cpu, layout.memory], &|time_ns| span.x(time_ns));
    draw_cpu(&mut svg, layout.cpu, span, &samples);
    draw_cores(&mut svg, layout.cores, span, &samples, cores);
    draw_memory(&mut svg, layout.memory, span, &samples);
    svg.x_axis(layout.memory, &span.axis(), "time since the first sample");
    svg.finish()
}

/// The panels of the chart.
struct Layout {
    cpu: Area,
    cores: Area,
    memory: Area,
    height: f64,
}

impl Layout {
    fn new(cores: usize) -> Self {
        let panel =
            |top: f64, height: f64| Area { left: LEFT, top, right: RIGHT, bottom: top + height };
        let cpu = panel(88.0, PANEL);
        let rows = (cores as f64 * 14.0).clamp(0.0, 170.0);
        let cores = panel(cpu.bottom + 28.0, rows);
        let memory = panel(cores.bottom + if rows > 0.0 { 28.0 } else { 0.0 }, PANEL);
        Self { cpu, cores, memory, height: memory.bottom + 56.0 }
    }
}

/// The time that the chart shows.
#[derive(Clone, Copy)]
struct Span {
    begin_ns: u64,
    end_ns: u64,
}

impl Span {
    fn axis(self) -> Axis {
        let wall_ns = (self.end_ns - self.begin_ns) as f64;
        Axis::exact(wall_ns, Unit::DurationNs, LEFT, RIGHT)
    }

    /// Returns the horizontal position of a time; times outside the span are clamped to its ends.
    fn x(self, time_ns: u64) -> f64 {
        let since = time_ns.clamp(self.begin_ns, self.end_ns) - self.begin_ns;
        LEFT + (RIGHT - LEFT) * since as f64 / (self.end_ns - self.begin_ns) as f64
    }
}

fn subtitle(timeline: &Timeline, bands: &PartBands) -> String {
    let mut facts = vec![format!("{} samples", format::count(timeline.samples.len() as f64))];
    if timeline.interval_ns > 0 {
        facts.push(format!("every {}", format::duration_ns(timeline.interval_ns as f64)));
    }
    if let Some(peak) = timeline.peak_rss_bytes() {
        facts.push(format!("peak memory {}", format::bytes(peak as f64)));
    }
    facts.extend(bands.describe());
    facts.join(", ")
}

/// Merges adjacent samples so that at most `count_max` remain.
fn merged(samples: &[ResourceSample], count_max: usize) -> Vec<ResourceSample> {
    let size = samples.len().div_ceil(count_max).max(1);
    samples.chunks(size).filter_map(merge).collect()
}

/// Merges samples into one: counts and time of the last, the largest memory, and the mean load of each core.
fn merge(chunk: &[ResourceSample]) -> Option<ResourceSample> {
    let mut merged = chunk.last()?.clone();
    merged.rss_bytes = chunk.iter().map(|sample| sample.rss_bytes).max()?;
    for (core, busy) in merged.core_busy.iter_mut().enumerate() {
        let all = chunk.iter().map(|sample| sample.core_busy.get(core).copied().unwrap_or(0.0));
        *busy = all.sum::<f32>() / chunk.len() as f32;
    }
    Some(merged)
}

/// Returns the CPU time per wall time between samples, in cores.
fn cores_used(samples: &[ResourceSample]) -> Vec<(u64, f64)> {
    samples
        .windows(2)
        .filter_map(|pair| {
            let wall_ns = pair[1].time_ns.checked_sub(pair[0].time_ns).filter(|&wall| wall > 0)?;
            let cpu_ns = pair[1].cpu_ns.saturating_sub(pair[0].cpu_ns);
            Some((pair[1].time_ns, cpu_ns as f64 / wall_ns as f64))
        })
        .collect()
}

fn draw_cpu(svg: &mut Svg, area: Area, span: Span, samples: &[ResourceSample]) {
    let used = cores_used(samples);
    let largest = used.iter().map(|point| point.1).fold(1.0, f64::max);
    let y = Axis::from_zero(largest, Unit::Cores, area.bottom, area.top);
    svg.y_axis(area, &y, "CPU in use");
    svg.line((area.left, area.bottom), (area.right, area.bottom), INK, 1.0);
    let points: Vec<(f64, f64)> =
        used.iter().map(|&(time_ns, cores)| (span.x(time_ns), y.position(cores))).collect();
    svg.path(&points, COLORS[0], 1.6, false);
}

/// Draws a row for each core, darker if busier.
fn draw_cores(svg: &mut Svg, area: Area, span: Span, samples: &[ResourceSample], cores: usize) {
    if cores == 0 {
        return;
    }
    let title = "load of each core of the machine, all programs: white is idle, dark is busy";
    svg.text(area.left, area.top - 6.0, title, 11.0, FAINT, Anchor::Start);
    let height = (area.bottom - area.top) / cores as f64;
    let columns = (MAX_CELLS / cores).clamp(60, MAX_POINTS);
    let samples = merged(samples, columns);
    for core in 0..cores {
        let top = area.top + core as f64 * height;
        let row = Area { top, bottom: top + height - 1.0, ..area };
        if height >= 11.0 || core % 8 == 0 {
            let (label, y) = (format!("core {core}"), top + height / 2.0 + 4.0);
            svg.text(area.left - 8.0, y, &label, 11.0, INK, Anchor::End);
        }
        draw_row(svg, row, span, &levels(&samples, core));
    }
    svg.line((area.left, area.top), (area.left, area.bottom), INK, 1.0);
}

/// Returns the load of a core as a shade, with the time at which each sample ends.
fn levels(samples: &[ResourceSample], core: usize) -> Vec<(u64, u8)> {
    let level = |sample: &ResourceSample| {
        let busy = sample.core_busy.get(core).copied().unwrap_or(0.0).clamp(0.0, 1.0);
        (busy * SHADES).round() as u8
    };
    samples.iter().map(|sample| (sample.time_ns, level(sample))).collect()
}

/// Draws one shape for each stretch of equal shade, and none for idle time.
fn draw_row(svg: &mut Svg, row: Area, span: Span, levels: &[(u64, u8)]) {
    let mut begin_ns = span.begin_ns;
    for stretch in levels.chunk_by(|a, b| a.1 == b.1) {
        let (end_ns, level) = stretch[stretch.len() - 1];
        if level > 0 {
            let (left, right) = (span.x(begin_ns), span.x(end_ns));
            let opacity = f64::from(level) / f64::from(SHADES);
            svg.rect(Area { left, right, ..row }, COLORS[1], opacity);
        }
        begin_ns = end_ns;
    }
}

/// Draws the resident memory while the target has processes. The last sample may be later.
fn draw_memory(svg: &mut Svg, area: Area, span: Span, samples: &[ResourceSample]) {
    let running = samples.iter().rposition(|sample| sample.rss_bytes > 0).map_or(0, |at| at + 1);
    let samples = &samples[..running];
    let largest = samples.iter().map(|sample| sample.rss_bytes).max().unwrap_or(0);
    let y = Axis::from_zero(largest as f64, Unit::Bytes, area.bottom, area.top);
    svg.y_axis(area, &y, "resident memory");
    let line: Vec<(f64, f64)> = samples
        .iter()
        .map(|sample| (span.x(sample.time_ns), y.position(sample.rss_bytes as f64)))
        .collect();
    let mut below = line.clone();
    below.extend(line.last().map(|&(x, _)| (x, area.bottom)));
    below.extend(line.first().map(|&(x, _)| (x, area.bottom)));
    svg.polygon(&below, COLORS[2], 0.15);
    svg.path(&line, COLORS[2], 1.6, false);
}

#[cfg(test)]
mod tests {
    use simprof_model::Step;

    use super::*;

    fn timeline(count: u64, cores: usize) -> (Timeline, Steps) {
        let ms = 1_000_000;
        let samples = (0..count)
            .map(|i| ResourceSample {
                time_ns: 5_000 * ms + i * 20 * ms,
                cpu_ns: i * 20 * ms * 17 / 10 + (i % 5) * ms,
                core_busy: (0..cores)
                    .map(|core| {
                        ((i as f32 / 9.0 + core as f32).sin() * 0.5 + 0.5)
                            / (1.0 + core as f32 / 4.0)
                    })
                    .collect(),
                rss_bytes: (40 << 20) + i.min(90) * (1 << 20) / 2 + i * 40_000,
                ..ResourceSample::default()
            })
            .collect();
        let steps = (0..60)
            .map(|index| Step {
                index,
                begin_ns: 5_600 * ms + index * 50 * ms,
                end_ns: 5_600 * ms + (index + 1) * 50 * ms,
                population: None,
                thread: None,
            })
            .collect();
        let timeline = Timeline { interval_ns: 20 * ms, samples, ..Timeline::default() };
        (timeline, Steps { steps, lost: 0, source: "marks".into() })
    }

    #[test]
    fn all_panels_are_drawn() {
        let (timeline, steps) = timeline(200, 4);
        let svg = timeline_chart(&timeline, &steps, "A <run>");
        for part in [
            "A &lt;run&gt;",
            "core 3",
            "set-up",
            "60 steps",
            "resident memory (MiB)",
            "every 20 ms",
        ] {
            assert!(svg.contains(part), "{part}: {svg}");
        }
        assert!(!svg.contains("NaN") && !svg.contains("inf") && !svg.contains("<script"));
    }

    #[test]
    fn empty_and_short_timelines_are_drawn() {
        let (full, steps) = timeline(3, 0);
        let one = Timeline { samples: full.samples[..1].to_vec(), ..Timeline::default() };
        for timeline in [Timeline::default(), one, full] {
            let svg = timeline_chart(&timeline, &steps, "odd");
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
        assert!(timeline_chart(&Timeline::default(), &Steps::default(), "").contains("no samples"));
    }

    #[test]
    fn merged_samples_keep_total_cpu_time_and_peak_memory() {
        let (timeline, _) = timeline(10_000, 2);
        let merged = merged(&timeline.samples, MAX_POINTS);
        assert!(merged.len() <= MAX_POINTS);
        assert_eq!(merged.last().map(|s| s.cpu_ns), timeline.samples.last().map(|s| s.cpu_ns));
        assert_eq!(merged.iter().map(|s| s.rss_bytes).max(), timeline.peak_rss_bytes());
    }

    #[test]
    fn cpu_use_is_in_cores() {
        let sample =
            |time_ns, cpu_ns| ResourceSample { time_ns, cpu_ns, ..ResourceSample::default() };
        let used = cores_used(&[sample(0, 0), sample(10, 25), sample(10, 30), sample(20, 20)]);
        assert_eq!(used, [(10, 2.5), (20, 0.0)]);
    }

    #[test]
    fn a_stretch_of_equal_shade_is_one_shape() {
        let sample = |time_ns, busy| ResourceSample {
            time_ns,
            core_busy: vec![busy],
            ..ResourceSample::default()
        };
        let samples = [0.9, 0.5, 0.51, 0.0, 1.0, 7.0, f32::NAN];
        let samples: Vec<_> = (0..).zip(samples).map(|(at, busy)| sample(at, busy)).collect();
        let levels = levels(&samples, 0);
        assert_eq!(levels.iter().map(|l| l.1).collect::<Vec<_>>(), [11, 6, 6, 0, 12, 12, 0]);
        let mut svg = Svg::new(1.0, 1.0, "", "");
        let row = Area { left: LEFT, top: 0.0, right: RIGHT, bottom: 9.0 };
        draw_row(&mut svg, row, Span { begin_ns: 0, end_ns: 6 }, &levels);
        // The page, the first sample, which has no width, and two stretches.
        assert_eq!(svg.finish().matches("<rect").count(), 4);
    }
}
