//! Flame graphs, rendered by inferno.

use std::io::{self, Write};

use inferno::flamegraph::color::{BackgroundColor, Color, PaletteMap};
use inferno::flamegraph::{self, Options};
use simprof_model::{FunctionKind, Profile, WeightKind};

use super::{folded, weight_name};
use crate::analysis::{Origin, origins};
use crate::format;

/// Frames narrower than this are omitted, percent.
const MIN_WIDTH_PERCENT: f64 = 0.02;

/// Writes an SVG file that can be searched and zoomed in a browser. Names are escaped.
pub(super) fn write(profile: &Profile, out: &mut dyn Write) -> io::Result<()> {
    write_titled(profile, title(profile), subtitle(profile), out)
}

/// Like [`write`], with another title and subtitle.
pub(super) fn write_titled(
    profile: &Profile,
    title: String,
    subtitle: String,
    out: &mut dyn Write,
) -> io::Result<()> {
    let lines: Vec<String> = folded::lines(profile)
        .into_iter()
        .map(|(stack, weight)| format!("{stack} {weight}"))
        .collect();
    let mut palette = palette(profile);
    let mut options = options(profile);
    (options.title, options.subtitle) = (title, Some(subtitle));
    options.palette_map = Some(&mut palette);
    flamegraph::from_lines(&mut options, lines.iter().map(String::as_str), out)
}

fn options(profile: &Profile) -> Options<'static> {
    let mut options = Options::default();
    (options.count_name, options.factor) = unit(profile.weight);
    options.min_width = MIN_WIDTH_PERCENT;
    options.bgcolors = Some(BackgroundColor::Grey);
    options.deterministic = true;
    options
}

/// Returns the colour of each function, by its origin; the subtitle explains them.
fn palette(profile: &Profile) -> PaletteMap {
    let mut palette = PaletteMap::default();
    let origins = origins(profile);
    for ((function, origin), name) in
        profile.functions.iter().zip(origins).zip(folded::names(profile))
    {
        let color = shade(base_color(function.kind, origin), &name);
        palette.insert(name, color);
    }
    palette
}

fn base_color(kind: FunctionKind, origin: Origin) -> [u8; 3] {
    match (kind, origin) {
        (FunctionKind::Python, Origin::Own) => [220, 85, 150],
        (FunctionKind::Python, Origin::Library) => [235, 155, 200],
        (FunctionKind::Python, _) => [190, 160, 215],
        (_, Origin::Own) => [240, 120, 70],
        (_, Origin::Library) => [240, 195, 80],
        (_, Origin::Runtime) => [165, 200, 120],
        (_, Origin::Kernel) => [125, 170, 225],
        (_, Origin::Unknown) => [190, 190, 190],
    }
}

/// Varies a colour by name, so that neighbouring frames can be distinguished.
fn shade(base: [u8; 3], name: &str) -> Color {
    let hash = name.bytes().fold(5381_u32, |hash, byte| hash.wrapping_mul(33) ^ u32::from(byte));
    let lighter = u8::try_from(hash % 30).expect("a remainder of 30 is small");
    let [r, g, b] = base.map(|part| (part - 15).saturating_add(lighter));
    Color { r, g, b }
}

/// Returns the total and its unit: `3 ms of CPU time`.
fn title(profile: &Profile) -> String {
    let whole = profile.total_weight() as f64;
    let size = match profile.weight {
        WeightKind::CpuNs | WeightKind::WallNs => format::duration_ns(whole),
        WeightKind::Bytes => format::bytes(whole),
        WeightKind::Allocations | WeightKind::Calls => format::count(whole),
    };
    let what = match profile.weight {
        WeightKind::CpuNs => "of CPU time",
        WeightKind::WallNs => "of wall-clock time",
        WeightKind::Bytes => "allocated",
        kind @ (WeightKind::Allocations | WeightKind::Calls) => weight_name(kind),
    };
    format!("{size} {what}")
}

/// Returns how the profile was recorded, and what the colours mean.
fn subtitle(profile: &Profile) -> String {
    let from = &profile.provenance;
    let end = if profile.samples.len() == 1 { "" } else { "s" };
    let mut facts = vec![format!("{} sample{end}", format::count(profile.samples.len() as f64))];
    if !from.event.is_empty() {
        facts.insert(0, from.event.clone());
    }
    if from.achieved_hz > 0.0 {
        let [achieved, asked] = [from.achieved_hz, from.rate_hz].map(format::three_digits);
        facts.push(format!("{achieved} Hz ({asked} Hz requested)"));
    }
    if from.lost > 0 {
        facts.push(format!("{} samples lost", format::count(from.lost as f64)));
    }
    format!("{} ({})", facts.join(", "), colors(profile))
}

/// Returns what the colours mean.
pub(super) fn colors(profile: &Profile) -> String {
    let native = "orange: your code, yellow: libraries, green: runtime, blue: kernel";
    let python = match profile.functions.iter().any(|f| f.kind == FunctionKind::Python) {
        true => "; Python: pink: your code, light pink: libraries, violet: standard library",
        false => "",
    };
    format!("{native}{python}")
}

/// Returns the unit of the values in frames, and the factor from weights to it.
fn unit(kind: WeightKind) -> (String, f64) {
    match kind {
        WeightKind::CpuNs | WeightKind::WallNs => ("ms".to_owned(), 1e-6),
        WeightKind::Bytes => ("bytes".to_owned(), 1.0),
        WeightKind::Allocations => ("allocations".to_owned(), 1.0),
        WeightKind::Calls => ("calls".to_owned(), 1.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Sketch;

    fn svg(profile: &Profile) -> String {
        let mut out = Vec::new();
        write(profile, &mut out).expect("writing to memory cannot fail");
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
        assert!(subtitle(&profile).contains("Python: pink"), "{}", subtitle(&profile));
        let svg = svg(&profile);
        assert!(svg.contains("sim.step (sim.py)"), "{svg}");
        let native = Sketch::new().sample("main", 1).finish();
        assert!(!subtitle(&native).contains("Python"));
        let colors = [FunctionKind::Native, FunctionKind::Python].map(|kind| {
            [Origin::Own, Origin::Library, Origin::Runtime].map(|of| base_color(kind, of))
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
        assert_eq!(title(&profile), "3 ms of CPU time");
        let expected = "cpu-clock:u, 1 sample, 987 Hz (999 Hz requested), 4 samples lost (";
        assert!(subtitle(&profile).starts_with(expected), "{}", subtitle(&profile));
        assert!(svg(&profile).contains("3 ms of CPU time"));
    }
}
