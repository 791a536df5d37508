//! The scaling chart: cost against size on logarithmic axes, with every replicate and the fitted law.

use super::axis::Axis;
use super::scale::Unit;
use super::svg::{Anchor, Area, COLORS, FAINT, INK, Svg, cut};

const WIDTH: f64 = 760.0;
/// Height without the legend.
const HEIGHT: f64 = 440.0;
const AREA: Area = Area { left: 92.0, top: 64.0, right: 736.0, bottom: 384.0 };
/// Height of a row of the legend.
const LEGEND_ROW: f64 = 18.0;

/// The curve of a scaling law.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LawCurve {
    /// Text in the legend, such as `a n^b, exponent 1.92 (95 % interval 1.85 to 1.99)`.
    pub label: String,
    /// Points of the law at ascending sizes.
    pub curve: Vec<(f64, f64)>,
    /// Its interval at ascending sizes: size, low, high; empty if it has none.
    pub band: Vec<(f64, f64, f64)>,
    /// Size beyond which the curve is an extrapolation. That part is dashed.
    pub extrapolated_from: Option<f64>,
}

/// One configuration.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ScalingSeries {
    /// Name in the legend; may be empty if there is only one.
    pub name: String,
    /// The values of all replicates at each size.
    pub points: Vec<(f64, Vec<f64>)>,
    /// The law fitted to the points.
    pub law: Option<LawCurve>,
    /// Why there is no law; empty if there is one.
    pub no_law: String,
}

/// A chart of cost against size.
#[derive(Debug, Clone, PartialEq)]
pub struct ScalingChart {
    /// Text above the chart.
    pub title: String,
    /// Text beneath the title: what the points are, and how many.
    pub subtitle: String,
    /// Name of the parameter.
    pub x_label: String,
    /// Unit of the parameter.
    pub x_unit: Unit,
    /// Name of the metric.
    pub y_label: String,
    /// Unit of the metric.
    pub y_unit: Unit,
    /// The configurations; colours repeat beyond seven.
    pub series: Vec<ScalingSeries>,
}

/// Draws a scaling chart as SVG. Values that are not above zero do not fit on logarithmic axes; they are omitted, and the
/// subtitle gives their number.
pub fn scaling_chart(chart: &ScalingChart) -> String {
    let rows = chart.series.iter().map(|series| legend(series).len()).sum::<usize>();
    let height = HEIGHT + rows as f64 * LEGEND_ROW;
    let mut svg = Svg::new(WIDTH, height, &chart.title, &subtitle(chart));
    let sizes = chart.series.iter().flat_map(xs);
    let measured = chart.series.iter().flat_map(shown).map(|point| point.0).collect();
    let x = Axis::log_measured(sizes, measured, chart.x_unit, AREA.left, AREA.right);
    let values = chart.series.iter().flat_map(ys);
    let y = Axis::log(values, chart.y_unit, AREA.bottom, AREA.top);
    svg.y_axis(AREA, &y, &chart.y_label);
    svg.x_axis(AREA, &x, &chart.x_label);
    let mut legend_y = AREA.bottom + 64.0;
    for (at, series) in chart.series.iter().enumerate() {
        let color = COLORS[at % COLORS.len()];
        draw_law(&mut svg, series, &x, &y, color);
        draw_points(&mut svg, series, &x, &y, color);
        for row in legend(series) {
            row.draw(&mut svg, legend_y, color);
            legend_y += LEGEND_ROW;
        }
    }
    if chart.series.iter().all(|series| xs(series).next().is_none()) {
        let middle = f64::midpoint(AREA.left, AREA.right);
        svg.text(middle, 220.0, "no measurements", 14.0, FAINT, Anchor::Middle);
    }
    svg.finish()
}

fn subtitle(chart: &ScalingChart) -> String {
    let omitted: usize = chart
        .series
        .iter()
        .flat_map(|series| &series.points)
        .map(|(size, values)| values.iter().filter(|value| !is_shown(*size, **value)).count())
        .sum();
    match omitted {
        0 => chart.subtitle.clone(),
        n => format!("{} ({n} omitted: not above zero)", chart.subtitle),
    }
}

fn is_shown(size: f64, value: f64) -> bool {
    [size, value].iter().all(|value| value.is_finite() && *value > 0.0)
}

fn shown(series: &ScalingSeries) -> impl Iterator<Item = (f64, f64)> + '_ {
    series
        .points
        .iter()
        .flat_map(|(size, values)| values.iter().map(move |value| (*size, *value)))
        .filter(|&(size, value)| is_shown(size, value))
}

fn xs(series: &ScalingSeries) -> impl Iterator<Item = f64> + '_ {
    let law = series.law.iter().flat_map(|law| law.curve.iter().map(|point| point.0));
    shown(series).map(|point| point.0).chain(law)
}

/// Values that the y axis must cover. The band is not among them: it may be so wide that it flattens everything else.
fn ys(series: &ScalingSeries) -> impl Iterator<Item = f64> + '_ {
    let law = series.law.iter().flat_map(|law| law.curve.iter().map(|point| point.1));
    shown(series).map(|point| point.1).chain(law)
}

fn draw_law(svg: &mut Svg, series: &ScalingSeries, x: &Axis, y: &Axis, color: &str) {
    let Some(law) = &series.law else { return };
    let highs = law.band.iter().map(|&(size, _, high)| (x.position(size), y.position(high)));
    let lows = law.band.iter().rev().map(|&(size, low, _)| (x.position(size), y.position(low)));
    svg.polygon(&highs.chain(lows).collect::<Vec<_>>(), color, 0.14);
    let end = law.extrapolated_from.unwrap_or(f64::INFINITY);
    let split = law.curve.partition_point(|point| point.0 <= end);
    let position = |&(size, value): &(f64, f64)| (x.position(size), y.position(value));
    let within: Vec<_> = law.curve[..split].iter().map(position).collect();
    let beyond: Vec<_> = law.curve[split.saturating_sub(1)..].iter().map(position).collect();
    svg.path(&within, color, 1.8, false);
    svg.path(&beyond, color, 1.8, true);
}

/// Draws every replicate faintly, and the median of each size.
fn draw_points(svg: &mut Svg, series: &ScalingSeries, x: &Axis, y: &Axis, color: &str) {
    for (size, value) in shown(series) {
        svg.circle((x.position(size), y.position(value)), 3.0, color, 0.45);
    }
    for (size, values) in &series.points {
        let mut values: Vec<f64> =
            values.iter().copied().filter(|&value| is_shown(*size, value)).collect();
        values.sort_by(f64::total_cmp);
        if values.len() > 1 {
            let middle = f64::midpoint(values[(values.len() - 1) / 2], values[values.len() / 2]);
            let (x, y) = (x.position(*size), y.position(middle));
            svg.line((x - 7.0, y), (x + 7.0, y), color, 2.2);
        }
    }
}

/// What a row of the legend explains.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Key {
    Points,
    Line,
    Nothing,
}

/// A row of the legend.
#[derive(Debug, Clone, PartialEq)]
struct Row {
    key: Key,
    text: String,
}

impl Row {
    fn draw(&self, svg: &mut Svg, y: f64, color: &str) {
        let (left, right, middle) = (AREA.left, AREA.left + 20.0, y - 4.0);
        match self.key {
            Key::Points => {
                svg.line((left + 3.0, middle), (right - 3.0, middle), color, 2.2);
                svg.circle((f64::midpoint(left, right), middle - 5.0), 3.0, color, 0.6);
            }
            Key::Line => svg.line((left, middle), (right, middle), color, 1.8),
            Key::Nothing => {}
        }
        let x = right + 8.0;
        let text = cut(&self.text, 12.0, WIDTH - x - 8.0);
        svg.text(x, y, &text, 12.0, INK, Anchor::Start);
    }
}

/// Returns the rows that explain a series: its points, and its law or why it has none.
fn legend(series: &ScalingSeries) -> Vec<Row> {
    let name = if series.name.is_empty() { String::new() } else { format!("{}: ", series.name) };
    let runs = shown(series).count();
    let end = if runs == 1 { "" } else { "s" };
    let mut rows = vec![Row {
        key: Key::Points,
        text: format!(
            "{name}measured: {runs} run{end} as dots, and the median of each size as a bar"
        ),
    }];
    match &series.law {
        Some(law) => {
            let mut text = format!("{name}fit: {}", law.label);
            if !law.band.is_empty() {
                text += "; shaded: its 95 % interval";
            }
            if law.extrapolated_from.is_some() {
                text += "; dashed: beyond the measured sizes";
            }
            rows.push(Row { key: Key::Line, text });
        }
        None if series.no_law.is_empty() => {}
        None => {
            rows.push(Row { key: Key::Nothing, text: format!("{name}no fit: {}", series.no_law) });
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart() -> ScalingChart {
        let sizes = [10.0, 25.0, 50.0, 100.0, 200.0, 400.0, 640.0];
        let law = |a: f64, n: f64| move |size: f64| a * size.powf(n);
        let series = |name: &str, a: f64, n: f64, label: &str| {
            let curve: Vec<(f64, f64)> = (0..40)
                .map(|i| 10.0 * 1.15_f64.powi(i))
                .map(|size| (size, law(a, n)(size)))
                .collect();
            let band = curve.iter().map(|&(x, y)| (x, y * 0.85, y * 1.2)).collect();
            let noise = [0.95, 1.0, 1.08, 1.02, 0.99];
            ScalingSeries {
                name: name.to_owned(),
                points: sizes
                    .iter()
                    .map(|&size| (size, noise.map(|noise| noise * law(a, n)(size)).to_vec()))
                    .collect(),
                law: Some(LawCurve {
                    label: label.to_owned(),
                    curve,
                    band,
                    extrapolated_from: Some(640.0),
                }),
                no_law: String::new(),
            }
        };
        ScalingChart {
            title: "spatial/nearby: time of one call against entities".to_owned(),
            subtitle: "every process, its median, law with 95 % interval".to_owned(),
            x_label: "entities".to_owned(),
            x_unit: Unit::Count,
            y_label: "time per call".to_owned(),
            y_unit: Unit::DurationNs,
            series: vec![
                series("index=none", 40.0, 1.92, "n^1.92 [1.85, 1.99]"),
                series("index=kdtree", 900.0, 0.31, "n^0.31 [0.25, 0.38]"),
            ],
        }
    }

    #[test]
    fn every_run_is_a_point() {
        let svg = scaling_chart(&chart());
        assert_eq!(svg.matches("fill-opacity=\"0.45\"").count(), 70);
        assert!(svg.contains("index=kdtree: measured: 35 runs as dots, and"), "{svg}");
        assert!(svg.contains("index=kdtree: fit: n^0.31 [0.25, 0.38]; shaded"), "{svg}");
        assert!(svg.contains("time per call (µs, log scale)"), "{svg}");
        assert!(svg.contains(">entities (log scale)<"), "{svg}");
        for size in ["10", "25", "50", "100", "200", "400", "640"] {
            assert!(svg.contains(&format!(">{size}</text>")), "{size}: {svg}");
        }
        assert_eq!(svg.matches("stroke-dasharray").count(), 2);
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }

    #[test]
    fn a_missing_law_has_its_reason() {
        let mut chart = chart();
        chart.series.truncate(1);
        let series = &mut chart.series[0];
        (series.name, series.law) = (String::new(), None);
        series.no_law = "its costs <fall> and rise".to_owned();
        let svg = scaling_chart(&chart);
        assert!(svg.contains(">no fit: its costs &lt;fall&gt; and rise</text>"), "{svg}");
        assert!(svg.contains(">measured: 35 runs as dots, and"), "{svg}");
    }

    #[test]
    fn values_not_above_zero_are_omitted_and_counted() {
        let mut chart = chart();
        chart.series.truncate(1);
        chart.series[0].law = None;
        chart.series[0].points = vec![(10.0, vec![0.0, 5.0, f64::NAN]), (0.0, vec![1.0])];
        let svg = scaling_chart(&chart);
        assert!(svg.contains("(3 omitted: not above zero)"), "{svg}");
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        chart.series.clear();
        assert!(scaling_chart(&chart).contains("no measurements"));
    }
}
