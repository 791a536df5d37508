//! Reads the JSON of speedscope.app: sampled and evented profiles, one per thread.

use serde::Deserialize;
use simprof_model::{FrameId, StackId, ThreadId, WeightKind};

use super::sampled::{ImportedFrame, Stacks};
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
    line: Option<u32>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    name: String,
    unit: String,
    #[serde(flatten)]
    content: Content,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Content {
    Sampled {
        /// Positions of frames, from root to leaf.
        samples: Vec<Vec<usize>>,
        weights: Vec<f64>,
    },
    Evented {
        events: Vec<Event>,
    },
}

#[derive(Deserialize)]
struct Event {
    /// `O` if the frame opens, `C` if it closes.
    #[serde(rename = "type")]
    kind: char,
    frame: usize,
    at: f64,
}

/// Returns whether the bytes are JSON that names the schema.
pub(super) fn recognises(bytes: &[u8]) -> bool {
    bytes.trim_ascii_start().starts_with(b"{")
        && bytes.windows(SCHEMA.len()).any(|window| window == SCHEMA)
}

/// Reads all profiles of the file as threads of one profile.
pub(super) fn read(bytes: &[u8]) -> Result<Imported, Malformed> {
    let file: File = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let name = file.profiles.first().map_or("none", |entry| entry.unit.as_str());
    let scale = Scale::parse(name)?;
    let mut stacks = Stacks::new(scale.kind);
    let frames = file
        .shared
        .frames
        .iter()
        .map(|entry| {
            let FrameEntry { name, file, line } = entry;
            ImportedFrame { name, file: file.as_deref(), line: *line }.frame(&mut stacks.builder)
        })
        .collect();
    let mut reader = Reader { stacks, frames, factor: scale.factor };
    for (number, entry) in (0..).zip(&file.profiles) {
        if entry.unit != name {
            return Err(format!("its profiles have different units, {name} and {}", entry.unit));
        }
        let thread = reader.stacks.builder.thread(0, number, &entry.name);
        reader.content(thread, &entry.content)?;
    }
    Ok(Imported::Stacks(Box::new(reader.stacks.finish()), scale.unit))
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
            other => return Err(format!("its unit {other:?} is unknown")),
        };
        Ok(Self { unit, kind, factor })
    }
}

struct Reader {
    stacks: Stacks,
    frames: Vec<FrameId>,
    factor: f64,
}

impl Reader {
    fn content(&mut self, thread: ThreadId, content: &Content) -> Result<(), Malformed> {
        match content {
            Content::Sampled { samples, weights } if samples.len() == weights.len() => {
                samples.iter().zip(weights).try_for_each(|(sample, &weight)| {
                    let mut stack = None;
                    for &frame in sample {
                        stack = Some(self.stacks.builder.child(stack, self.frame(frame)?));
                    }
                    self.sample(thread, stack, weight)
                })
            }
            Content::Sampled { samples, weights } => {
                Err(format!("it has {} samples and {} weights", samples.len(), weights.len()))
            }
            Content::Evented { events } => self.events(thread, events),
        }
    }

    /// Adds the time between two events to the stack that is open then.
    fn events(&mut self, thread: ThreadId, events: &[Event]) -> Result<(), Malformed> {
        let mut open: Vec<(usize, StackId)> = Vec::new();
        let mut last = events.first().map_or(0.0, |event| event.at);
        for event in events {
            let stack = open.last().map(|&(_, stack)| stack);
            if stack.is_some() {
                self.sample(thread, stack, event.at - last)?;
            }
            last = event.at;
            match event.kind {
                'O' => open.push((
                    event.frame,
                    self.stacks.builder.child(stack, self.frame(event.frame)?),
                )),
                'C' if open.last().is_some_and(|&(frame, _)| frame == event.frame) => {
                    open.pop();
                }
                _ => return Err("an event closes a frame that is not open".to_owned()),
            }
        }
        Ok(())
    }

    fn frame(&self, position: usize) -> Result<FrameId, Malformed> {
        let frame = self.frames.get(position).copied();
        frame.ok_or_else(|| format!("a sample refers to frame {position}, which does not exist"))
    }

    fn sample(
        &mut self,
        thread: ThreadId,
        stack: Option<StackId>,
        weight: f64,
    ) -> Result<(), Malformed> {
        let scaled = (weight * self.factor).round();
        if !(0.0..1.8e19).contains(&scaled) {
            return Err(format!("a weight of {weight} is not possible"));
        }
        self.stacks.sample(thread, stack, scaled as u64)
    }
}

#[cfg(test)]
mod tests {
    use simprof_model::Profile;

    use super::*;

    fn file(profiles: &str) -> String {
        format!(
            r#"{{"$schema": "https://www.speedscope.app/file-format-schema.json",
            "shared": {{"frames": [{{"name": "main"}}, {{"name": "f", "file": "m.py", "line": 3}}]}},
            "profiles": [{profiles}]}}"#
        )
    }

    fn stacks(profiles: &str) -> (Profile, Unit) {
        assert!(recognises(file(profiles).as_bytes()));
        match read(file(profiles).as_bytes()) {
            Ok(Imported::Stacks(profile, unit)) => (*profile, unit),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn sampled_and_evented_profiles_are_threads() {
        let (profile, unit) = stacks(
            r#"{"type": "sampled", "name": "a", "unit": "seconds", "startValue": 0, "endValue": 3,
                "samples": [[0, 1], [0], []], "weights": [1.5, 0.5, 1]},
               {"type": "evented", "name": "b", "unit": "seconds", "startValue": 0, "endValue": 9,
                "events": [{"type": "O", "frame": 0, "at": 1}, {"type": "O", "frame": 1, "at": 2},
                           {"type": "C", "frame": 1, "at": 5}, {"type": "C", "frame": 0, "at": 6}]}"#,
        );
        assert_eq!((unit, profile.threads.len()), (Unit::Nanoseconds, 2));
        let weights: Vec<(usize, u64)> = profile
            .samples
            .iter()
            .map(|sample| (profile.frames_from_leaf(sample.stack).count(), sample.weight))
            .collect();
        let s = 1_000_000_000;
        assert_eq!(weights, [(2, 3 * s / 2), (1, s / 2), (0, s), (1, s), (2, 3 * s), (1, s)]);
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
                "not open",
            ),
            ("3", "invalid type"),
        ] {
            let reason = read(file(profiles).as_bytes()).expect_err("refused");
            assert!(reason.contains(words), "{words}: {reason}");
        }
    }
}
