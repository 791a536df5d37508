//! Flame graphs, rendered by inferno.

mod decorate;
mod shorten;

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};

use inferno::flamegraph::color::{BackgroundColor, Color, PaletteMap};
use inferno::flamegraph::{self, Options, TextTruncateDirection};
use simprof_model::{Function, FunctionKind, Profile, WeightKind};

use self::shorten::{OMITTED, ShortStacks, short_stacks};
use super::{ExportInput, folded, weight_name};
use crate::analysis::{Origin, PartCost, UNKNOWN, origins, share};
use crate::format;

/// Frames narrower than this are omitted, percent.
const MIN_WIDTH_PERCENT: f64 = 0.02;
/// Width of a character, as a fraction of the font size, of the widest common monospace font (DejaVu Sans Mono).
const FONT_WIDTH: f64 = 0.61;
/// Characters of a title and of a subtitle that fit on a page of 1200 pixels.
const TITLE_LENGTH: usize = 105;
const SUBTITLE_LENGTH: usize = 160;
/// Colour of frames that are no function.
const GREY: Color = Color { r: 190, g: 190, b: 190 };

/// The texts of a flame graph.
pub(super) struct Texts {
    /// What is shown, and of which program.
    pub(super) title: String,
    /// How it was measured.
    pub(super) subtitle: String,
    /// The frame of the whole picture.
    pub(super) root: String,
}

/// Writes an SVG file that can be searched and zoomed in a browser. Names are escaped. The parts of the run are apart.
pub(super) fn write(input: &ExportInput<'_>, out: &mut dyn Write) -> io::Result<()> {
    let profile = input.profile;
    let whole = amount(profile.weight, profile.total_weight());
    let what = weight_name(profile.weight);
    let texts = Texts {
        title: format!("{}: {what} of the whole run", input.target),
        subtitle: subtitle(profile, &input.split.parts),
        root: format!("whole run: {whole} of {what}"),
    };
    write_texts(&input.split.grouped(profile, true), &texts, out)
}

/// Writes a flame graph with the given texts.
pub(super) fn write_texts(profile: &Profile, texts: &Texts, out: &mut dyn Write) -> io::Result<()> {
    let stacks = short_stacks(profile);
    let lines: Vec<String> =
        stacks.lines.iter().map(|(stack, weight)| format!("{stack} {weight}")).collect();
    let colors = colors(profile);
    let mut palette = palette(profile, &stacks, &colors);
    let mut options = options();
    options.title = cut(&texts.title, TITLE_LENGTH);
    options.subtitle = Some(cut(&texts.subtitle, SUBTITLE_LENGTH));
    options.palette_map = Some(&mut palette);
    let mut svg = Vec::new();
    flamegraph::from_lines(&mut options, lines.iter().map(String::as_str), &mut svg)?;
    let svg = String::from_utf8(svg).map_err(io::Error::other)?;
    let whole = profile.total_weight();
    let show = |weight: u64| {
        let share = format::share(share(weight, whole));
        format!("{}, {share}", amount(profile.weight, weight))
    };
    let svg = decorate::with_amounts(&svg, &texts.root, show);
    let entries: Vec<decorate::LegendEntry> =
        colors.into_values().map(|(base, name)| (shade(base, ""), name)).collect();
    out.write_all(decorate::with_legend(svg, &entries).as_bytes())
}

fn options() -> Options<'static> {
    let mut options = Options::default();
    options.count_name = decorate::COUNT_NAME.to_owned();
    options.min_width = MIN_WIDTH_PERCENT;
    options.font_width = FONT_WIDTH;
    options.bgcolors = Some(BackgroundColor::Grey);
    options.text_truncate_direction = TextTruncateDirection::Right;
    options.deterministic = true;
    options
}

/// Returns a text of at most `length` characters, with an ellipsis if it is cut, and without characters that XML does not allow.
fn cut(text: &str, length: usize) -> String {
    let plain: String = text
        .chars()
        .map(|c| if c.is_control() || c == '\u{ffff}' || c == '\u{fffe}' { ' ' } else { c })
        .collect();
    match plain.char_indices().nth(length) {
        Some(_) => plain.chars().take(length - 1).chain(['…']).collect(),
        None => plain,
    }
}

/// The colours of functions, by kind and origin, with what they mean. In the order of the legend.
type Colors = BTreeMap<(bool, Origin), ([u8; 3], &'static str)>;

/// Returns the colours of the functions that a profile has.
fn colors(profile: &Profile) -> Colors {
    let keys = profile.functions.iter().zip(origins(profile));
    keys.map(|(function, origin)| {
        let key = color_key(profile, function, origin);
        (key, base_color(key))
    })
    .collect()
}

/// Returns what decides the colour of a function: whether it is Python, and its origin. A name in square brackets is that of a
/// part of the run or of unknown code.
fn color_key(profile: &Profile, function: &Function, origin: Origin) -> (bool, Origin) {
    if origin == Origin::Unknown || profile.string(function.name).starts_with('[') {
        return (false, Origin::Unknown);
    }
    (function.kind == FunctionKind::Python, origin)
}

/// Returns the colour of each frame by its origin.
fn palette(profile: &Profile, stacks: &ShortStacks, colors: &Colors) -> PaletteMap {
    let mut palette = PaletteMap::default();
    let mut of_name = HashMap::new();
    let functions = profile.functions.iter().zip(origins(profile)).zip(folded::names(profile));
    for ((function, origin), name) in functions {
        let (base, _) = colors[&color_key(profile, function, origin)];
        let color = shade(base, &name);
        palette.insert(name.clone(), color);
        of_name.insert(name, color);
    }
    for (name, like) in &stacks.like {
        palette.insert(name.to_string(), of_name.get(&**like).copied().unwrap_or(GREY));
    }
    for name in ["", OMITTED, UNKNOWN] {
        palette.insert(name.to_owned(), GREY);
    }
    palette
}

fn base_color(key: (bool, Origin)) -> ([u8; 3], &'static str) {
    match key {
        (true, Origin::Own) => ([220, 85, 150], "Python: your code"),
        (true, Origin::Library) => ([235, 155, 200], "Python: libraries"),
        (true, _) => ([190, 160, 215], "Python: standard library"),
        (_, Origin::Own) => ([240, 120, 70], "your code"),
        (_, Origin::Library) => ([240, 195, 80], "libraries"),
        (_, Origin::Runtime) => ([165, 200, 120], "runtime"),
        (_, Origin::Kernel) => ([125, 170, 225], "kernel"),
        (_, Origin::Unknown) => ([190, 190, 190], "other"),
    }
}

/// Varies a colour by name, so that neighbouring frames can be distinguished.
fn shade(base: [u8; 3], name: &str) -> Color {
    let hash = name.bytes().fold(5381_u32, |hash, byte| hash.wrapping_mul(33) ^ u32::from(byte));
    let lighter = u8::try_from(hash % 30).expect("a remainder of 30 is small");
    let [r, g, b] = base.map(|part| (part - 15).saturating_add(lighter));
    Color { r, g, b }
}

/// Returns a weight in the unit that fits: `3 ms`, `1.5 MiB`.
fn amount(kind: WeightKind, weight: u64) -> String {
    match kind {
        WeightKind::CpuNs | WeightKind::WallNs => format::duration_ns(weight as f64),
        WeightKind::Bytes => format::bytes(weight as f64),
        WeightKind::Allocations | WeightKind::Calls => format::count(weight as f64),
    }
}

/// Returns how the profile was recorded, and the shares of the parts of the run.
fn subtitle(profile: &Profile, parts: &[PartCost]) -> String {
    let from = &profile.provenance;
    let mut facts = vec![samples(profile.samples.len())];
    if !from.event.is_empty() {
        facts.push(from.event.clone());
    }
    if from.achieved_hz > 0.0 {
        let [achieved, asked] = [from.achieved_hz, from.rate_hz].map(format::three_digits);
        facts.push(format!("{achieved} Hz ({asked} Hz requested)"));
    }
    if from.lost > 0 {
        facts.push(format!("{} lost", samples(usize::try_from(from.lost).unwrap_or(usize::MAX))));
    }
    if parts.len() > 1 {
        let mut parts: Vec<&PartCost> = parts.iter().collect();
        parts.sort_by_key(|part| Reverse(part.weight));
        facts.extend(
            parts
                .iter()
                .take(4)
                .map(|part| format!("{} {}", part.part.describe(), format::share(part.share))),
        );
    }
    facts.join(", ")
}

fn samples(count: usize) -> String {
    let end = if count == 1 { "" } else { "s" };
    format!("{} sample{end}", format::count(count as f64))
}

#[cfg(test)]
mod tests {
    use simprof_model::{Step, Steps};

    use super::*;
    use crate::analysis::{RunSteps, split_run};
    use crate::testing::Sketch;

    fn svg(profile: &Profile) -> String {
        svg_of(profile, &[])
    }

    fn svg_of(profile: &Profile, steps: &[RunSteps]) -> String {
        let mut out = Vec::new();
        let split = split_run(profile, steps);
        let input = ExportInput { profile, split: &split, target: "the <target>" };
        write(&input, &mut out).expect("writing to memory cannot fail");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn names_and_events_are_escaped() {
        let hostile = "<script>alert(1)</script>&\"'";
        let mut sketch = Sketch::new().stack(
            &["main".to_owned(), hostile.to_owned(), "]]>\u{0}\u{1b}\u{ffff}".to_owned()],
            5,
        );
        sketch.builder().provenance().event = hostile.to_owned();
        let svg = svg(&sketch.finish());
        assert!(!svg.contains("<script>alert"), "{svg}");
        assert!(svg.contains("&lt;script&gt;alert(1)&lt;/script&gt;&amp;"), "{svg}");
        let is_text = |c: char| c == '\n' || !c.is_control() && c != '\u{ffff}';
        assert!(svg.chars().all(is_text), "XML allows no control characters");
    }

    #[test]
    fn python_has_separate_colours() {
        let profile = Sketch::new()
            .sample("main > p:sim.step%/w/sim.py > p:json.dumps%/l/lib/python3.11/json.py", 1)
            .finish();
        let svg_text = svg(&profile);
        assert!(svg_text.contains("sim.step (sim.py)"), "{svg_text}");
        assert!(svg_text.contains(">Python: your code</text>"), "{svg_text}");
        let native = Sketch::new().sample("main", 1).finish();
        assert!(!svg(&native).contains(">Python: "));
        let colors = [false, true].map(|is_python| {
            [Origin::Own, Origin::Library, Origin::Runtime].map(|of| base_color((is_python, of)))
        });
        let distinct: std::collections::BTreeSet<_> = colors.iter().flatten().collect();
        assert_eq!(distinct.len(), 6);
    }

    #[test]
    fn title_and_subtitle_have_unit_and_provenance() {
        let mut sketch = Sketch::new().sample("main > work", 3_000_000);
        let from = sketch.builder().provenance();
        from.event = "cpu-clock:u".into();
        (from.rate_hz, from.achieved_hz, from.lost) = (999.0, 987.3, 4);
        let profile = sketch.finish();
        let expected = "1 sample, cpu-clock:u, 987 Hz (999 Hz requested), 4 samples lost";
        assert_eq!(subtitle(&profile, &[]), expected);
        let svg = svg(&profile);
        for text in [
            "the &lt;target&gt;: CPU time of the whole run</text>",
            ">whole run: 3 ms of CPU time</text>",
            "<title>whole run: 3 ms of CPU time (3 ms, 100 %)</title>",
            "<title>work (3 ms, 100 %)</title>",
            ">your code</text>",
        ] {
            assert!(svg.contains(text), "{text}: {svg}");
        }
        assert!(!svg.contains(decorate::COUNT_NAME));
    }

    #[test]
    fn every_part_of_a_run_is_a_frame() {
        let ms = 1_000_000;
        let step =
            Step { index: 0, begin_ns: 100 * ms, end_ns: 200 * ms, population: None, thread: None };
        let steps = Steps { steps: vec![step], ..Steps::default() };
        let steps = RunSteps { start_ns: 0, steps };
        let profile = Sketch::new()
            .at(50 * ms)
            .sample("main > load", 3 * ms)
            .at(150 * ms)
            .sample("main > work", 7 * ms)
            .finish();
        let svg = svg_of(&profile, &[steps]);
        for text in [
            "<title>[steps] (7 ms, 70 %)</title>",
            "<title>[set-up] (3 ms, 30 %)</title>",
            "steps 70 %, set-up 30 %",
        ] {
            assert!(svg.contains(text), "{text}: {svg}");
        }
    }

    #[test]
    fn deep_stacks_do_not_make_a_tall_picture() {
        let height = |svg: &str| -> usize {
            let (_, rest) = svg.split_once(" height=\"").expect("a height");
            rest.split_once('"').expect("a number").0.parse().expect("a number")
        };
        let deep: Vec<String> = (0..3000).map(|at| format!("f{at}")).collect();
        let deep = svg(&Sketch::new().stack(&deep, 1).finish());
        assert!(height(&deep) < 3000, "{}", height(&deep));
        assert!(deep.contains(OMITTED));
        let recursive = vec!["f".to_owned(); 950];
        let recursive = svg(&Sketch::new().stack(&recursive, 1).finish());
        assert!(height(&recursive) < 200, "{}", height(&recursive));
        assert!(recursive.contains(">f (recursive, up to 950 deep)</text>"), "{recursive}");
    }
}
