//! Reads the JSON of speedscope.app: sampled and evented profiles, one per thread.

use serde::Deserialize;
use simprof_model::{FrameId, Notice, NoticeId, StackId, ThreadId, WeightKind};

use super::sampled::{ImportedFrame, Stacks};
use super::weight::Weight;
use super::{Imported, Malformed, Unit};

/// The name of the schema, which every file of this format contains.
const SCHEMA: &[u8] = b"www.speedscope.app/file-format-schema.json";

#[derive(Deserialize)]
struct File {
    shared: Shared,
    profiles: Vec<Entry>,
}

#[derive(Deserialize)]
struct Shared {
    frames: Vec<FrameEntry>,
}

#[derive(Deserialize)]
struct FrameEntry {
    name: String,
    file: Option<String>,
    /// Some programs write -1 or 0 for an unknown line.
    line: Option<f64>,
}

impl FrameEntry {
    fn line(&self) -> Option<u32> {
        let line = self.line.filter(|line| (1.0..=f64::from(u32::MAX)).contains(line))?;
        Some(line as u32)
    }
}

/// A profile. The kinds are not an enum: serde would hold the whole profile in a general form first, which takes several times the
/// memory.
#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    name: String,
    unit: String,
    #[serde(rename = "type")]
    kind: Kind,
    /// Of a sampled profile: positions of frames, from root to leaf.
    #[serde(default)]
    samples: Vec<Box<[u32]>>,
    #[serde(default)]
    weights: Vec<f64>,
    /// Of an evented profile.
    #[serde(default)]
    events: Vec<Event>,
    #[serde(rename = "endValue")]
    end: Option<f64>,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Sampled,
    Evented,
}

#[derive(Deserialize)]
struct Event {
    /// `O` if the frame opens, `C` if it closes.
    #[serde(rename = "type")]
    kind: char,
    frame: u32,
    at: f64,
}

/// Returns whether the bytes are JSON that names the schema.
pub(super) fn recognises(bytes: &[u8]) -> bool {
    bytes.trim_ascii_start().starts_with(b"{")
        && bytes.windows(SCHEMA.len()).any(|window| window == SCHEMA)
}

/// Reads all profiles of the file as threads of one profile.
pub(super) fn read(bytes: &[u8]) -> Result<Imported, Malformed> {
    let file: File = serde_json::from_slice(bytes).map_err(|error| {
        let reason = error.to_string();
        if error.is_eof() { Malformed::Damaged(reason) } else { Malformed::Invalid(reason) }
    })?;
    let name = file.profiles.first().map_or("none", |entry| entry.unit.as_str());
    let scale = Scale::parse(name)?;
    let mut stacks = Stacks::new(scale.kind);
    let frames = file
        .shared
        .frames
        .iter()
        .map(|entry| {
            let (name, file) = (&*entry.name, entry.file.as_deref());
            ImportedFrame { name, file, line: entry.line() }.frame(&mut stacks.builder)
        })
        .collect();
    let mut reader = Reader { stacks, frames, factor: scale.factor, left_open: 0 };
    for (number, entry) in (0..).zip(&file.profiles) {
        if entry.unit != name {
            let text = format!("its profiles have different units, {name} and {}", entry.unit);
            return Err(Malformed::Invalid(text));
        }
        let thread = reader.stacks.builder.thread(0, number, &entry.name);
        reader.content(thread, entry).map_err(|reason| {
            Malformed::Invalid(format!("profile {} ({:?}): {reason}", number + 1, entry.name))
        })?;
    }
    let notice = left_open(reader.left_open);
    let mut stacks = reader.stacks.finish(scale.unit)?;
    stacks.notices.extend(notice);
    Ok(Imported::Stacks(Box::new(stacks)))
}

fn left_open(frames: usize) -> Option<Notice> {
    let text = match frames {
        0 => return None,
        1 => "1 frame is not closed: it is taken to run until the end of its profile.".to_owned(),
        _ => format!(
            "{frames} frames are not closed: they are taken to run until the end of their profile."
        ),
    };
    Some(Notice::new(NoticeId::FramesLeftOpen, text))
}

/// How weights of a unit are converted.
struct Scale {
    unit: Unit,
    kind: WeightKind,
    factor: f64,
}

impl Scale {
    fn parse(name: &str) -> Result<Self, Malformed> {
        let time = |factor| (Unit::Nanoseconds, WeightKind::WallNs, factor);
        let (unit, kind, factor) = match name {
            "nanoseconds" => time(1.0),
            "microseconds" => time(1e3),
            "milliseconds" => time(1e6),
            "seconds" => time(1e9),
            "bytes" => (Unit::Bytes, WeightKind::Bytes, 1.0),
            "none" => (Unit::Samples, WeightKind::WallNs, 1.0),
            other => return Err(Malformed::Invalid(format!("its unit {other:?} is unknown"))),
        };
        Ok(Self { unit, kind, factor })
    }
}

struct Reader {
    stacks: Stacks,
    frames: Vec<FrameId>,
    factor: f64,
    /// Frames that no event closes.
    left_open: usize,
}

/// The problem with a profile, and its position.
type Problem = String;

impl Reader {
    fn content(&mut self, thread: ThreadId, entry: &Entry) -> Result<(), Problem> {
        if entry.kind == Kind::Evented {
            return self.events(thread, &entry.events, entry.end);
        }
        let (samples, weights) = (&entry.samples, &entry.weights);
        if samples.len() != weights.len() {
            return Err(format!("it has {} samples and {} weights", samples.len(), weights.len()));
        }
        for (number, (frames, &weight)) in (1..).zip(samples.iter().zip(weights)) {
            self.sampled(thread, frames, weight)
                .map_err(|problem| format!("sample {number} {problem}"))?;
        }
        Ok(())
    }

    fn sampled(&mut self, thread: ThreadId, frames: &[u32], weight: f64) -> Result<(), Problem> {
        let mut stack = None;
        for &frame in frames {
            stack = Some(self.stacks.builder.child(stack, self.frame(frame)?));
        }
        self.sample(thread, stack, weight)
    }

    /// Adds the time between two events to the stack that is open then. Frames that are not closed are open until `end`.
    fn events(
        &mut self,
        thread: ThreadId,
        events: &[Event],
        end: Option<f64>,
    ) -> Result<(), Problem> {
        let mut open: Vec<(u32, StackId)> = Vec::new();
        let mut last = events.first().map_or(0.0, |event| event.at);
        for (number, event) in (1..).zip(events) {
            self.event(thread, event, &mut open, event.at - last)
                .map_err(|problem| format!("event {number} {problem}"))?;
            last = event.at;
        }
        self.left_open += open.len();
        match (open.last(), end) {
            (Some(&(_, stack)), Some(end)) if end > last => {
                self.sample(thread, Some(stack), end - last)
            }
            _ => Ok(()),
        }
    }

    /// Handles an event that comes `since` after the one before it.
    fn event(
        &mut self,
        thread: ThreadId,
        event: &Event,
        open: &mut Vec<(u32, StackId)>,
        since: f64,
    ) -> Result<(), Problem> {
        let stack = open.last().map(|&(_, stack)| stack);
        if stack.is_some() {
            self.sample(thread, stack, since)?;
        }
        match event.kind {
            'O' => {
                let frame = self.frame(event.frame)?;
                open.push((event.frame, self.stacks.builder.child(stack, frame)));
            }
            'C' if open.last().is_some_and(|&(frame, _)| frame == event.frame) => {
                open.pop();
            }
            'C' => return Err("closes a frame that is not the innermost open one".to_owned()),
            other => return Err(format!("has the unknown type {other:?}")),
        }
        Ok(())
    }

    fn frame(&self, position: u32) -> Result<FrameId, Problem> {
        let frame = self.frames.get(position as usize).copied();
        frame.ok_or_else(|| format!("refers to frame {position}, which does not exist"))
    }

    fn sample(
        &mut self,
        thread: ThreadId,
        stack: Option<StackId>,
        weight: f64,
    ) -> Result<(), Problem> {
        let scaled = Weight::new(weight * self.factor);
        let scaled = scaled.ok_or_else(|| format!("has the weight {weight}"))?;
        self.stacks.sample(thread, stack, scaled);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::ImportedStacks;

    fn file(profiles: &str) -> String {
        format!(
            r#"{{"$schema": "https://www.speedscope.app/file-format-schema.json",
            "shared": {{"frames": [{{"name": "main"}}, {{"name": "f", "file": "m.py", "line": 3}}]}},
            "profiles": [{profiles}]}}"#
        )
    }

    fn stacks(profiles: &str) -> ImportedStacks {
        assert!(recognises(file(profiles).as_bytes()));
        match read(file(profiles).as_bytes()) {
            Ok(Imported::Stacks(stacks)) => *stacks,
            other => panic!("{other:?}"),
        }
    }

    /// Returns the depth and the weight of each sample.
    fn weights(stacks: &ImportedStacks) -> Vec<(usize, u64)> {
        let profile = &stacks.profile;
        let depth = |stack| profile.frames_from_leaf(stack).count();
        profile.samples.iter().map(|sample| (depth(sample.stack), sample.weight)).collect()
    }

    #[test]
    fn sampled_and_evented_profiles_are_threads() {
        let stacks = stacks(
            r#"{"type": "sampled", "name": "a", "unit": "seconds", "startValue": 0, "endValue": 3,
                "samples": [[0, 1], [0], []], "weights": [1.5, 0.5, 1]},
               {"type": "evented", "name": "b", "unit": "seconds", "startValue": 0, "endValue": 9,
                "events": [{"type": "O", "frame": 0, "at": 1}, {"type": "O", "frame": 1, "at": 2},
                           {"type": "C", "frame": 1, "at": 5}, {"type": "C", "frame": 0, "at": 6}]}"#,
        );
        assert_eq!((stacks.unit, stacks.profile.threads.len()), (Unit::Nanoseconds, 2));
        let s = 1_000_000_000;
        let expected = [(2, 3 * s / 2), (1, s / 2), (0, s), (1, s), (2, 3 * s), (1, s)];
        assert_eq!(weights(&stacks), expected);
        assert_eq!(stacks.notices[0].id, NoticeId::StacksEmpty);
    }

    #[test]
    fn fractions_of_samples_are_kept() {
        let stacks = stacks(
            r#"{"type": "sampled", "unit": "none", "samples": [[0, 1], [0]], "weights": [0.5, 1.5]}"#,
        );
        assert_eq!((weights(&stacks), stacks.units), (vec![(2, 5), (1, 15)], 10));
    }

    #[test]
    fn open_frames_run_until_the_end() {
        for (end, expected) in [
            (r#", "endValue": 9"#, vec![(1, 2), (2, 6)]),
            (r#", "endValue": 3"#, vec![(1, 2)]),
            ("", vec![(1, 2)]),
        ] {
            let stacks = stacks(&format!(
                r#"{{"type": "evented", "unit": "none" {end}, "events": [
                    {{"type": "O", "frame": 0, "at": 1}}, {{"type": "O", "frame": 1, "at": 3}}]}}"#
            ));
            assert_eq!(weights(&stacks), expected, "{end}");
            let ids: Vec<_> = stacks.notices.iter().map(|notice| notice.id).collect();
            assert_eq!(ids, [NoticeId::FramesLeftOpen]);
        }
    }

    #[test]
    fn impossible_lines_are_unknown() {
        for (line, expected) in
            [("3", Some(3)), ("2.0", Some(2)), ("-1", None), ("0", None), ("null", None)]
        {
            let text =
                file(r#"{"type": "sampled", "unit": "none", "samples": [[1]], "weights": [1]}"#)
                    .replace("\"line\": 3", &format!("\"line\": {line}"));
            let Ok(Imported::Stacks(stacks)) = read(text.as_bytes()) else { panic!("{line}") };
            let frame = stacks.profile.frames_from_leaf(stacks.profile.samples[0].stack).next();
            assert_eq!(stacks.profile.frame(frame.expect("a leaf")).line, expected, "{line}");
        }
    }

    #[test]
    fn errors_name_the_problem() {
        for (profiles, words) in [
            (r#"{"type": "sampled", "unit": "none", "samples": [[7]], "weights": [1]}"#, "frame 7"),
            (r#"{"type": "sampled", "unit": "none", "samples": [[]], "weights": []}"#, "0 weights"),
            (r#"{"type": "sampled", "unit": "none", "samples": [[0]], "weights": [-1]}"#, "-1"),
            (r#"{"type": "sampled", "unit": "inches", "samples": [], "weights": []}"#, "inches"),
            (
                r#"{"type": "evented", "unit": "none", "events": [{"type": "C", "frame": 0, "at": 1}]}"#,
                "innermost open",
            ),
            (
                r#"{"type": "evented", "unit": "none", "name": "b", "events": [
                    {"type": "O", "frame": 0, "at": 2}, {"type": "C", "frame": 0, "at": 1}]}"#,
                r#"profile 1 ("b"): event 2 has the weight -1"#,
            ),
            (
                r#"{"type": "sampled", "unit": "none", "samples": [[0]], "weights": [0]}"#,
                "nothing in it",
            ),
            ("3", "invalid type"),
        ] {
            let Err(Malformed::Invalid(reason)) = read(file(profiles).as_bytes()) else {
                panic!("{profiles} is read")
            };
            assert!(reason.contains(words), "{words}: {reason}");
        }
        let text = file("");
        let cut = read(&text.as_bytes()[..text.len() / 2]);
        assert!(matches!(cut, Err(Malformed::Damaged(_))), "{cut:?}");
    }
}
