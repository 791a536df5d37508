//! The JSON format of speedscope.app: one sampled profile per thread.

use std::io::{self, Write};

use serde::Serialize;
use simprof_model::{FunctionId, Profile, StackSample, ThreadId, WeightKind};

use super::weight_name;
use crate::analysis::{Groups, UNKNOWN};

#[derive(Serialize)]
struct File<'a> {
    #[serde(rename = "$schema")]
    schema: &'static str,
    exporter: &'static str,
    name: String,
    shared: Shared<'a>,
    profiles: Vec<Sampled>,
}

#[derive(Serialize)]
struct Shared<'a> {
    frames: Vec<FrameEntry<'a>>,
}

#[derive(Serialize)]
struct FrameEntry<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u32>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Sampled {
    #[serde(rename = "type")]
    kind: &'static str,
    name: String,
    unit: &'static str,
    start_value: u64,
    end_value: u64,
    /// Indices of the shared frames, from root to leaf.
    samples: Vec<Vec<usize>>,
    weights: Vec<u64>,
}

/// Writes the samples in the order of time. Weights are in the profile's unit.
pub(super) fn write(profile: &Profile, out: &mut dyn Write) -> io::Result<()> {
    let groups = Groups::new(profile);
    let mut frames: Vec<FrameEntry> =
        (0..groups.len()).map(|group| frame_entry(profile, groups.first(group))).collect();
    frames.push(FrameEntry { name: UNKNOWN, file: None, line: None });
    let file = File {
        schema: "https://www.speedscope.app/file-format-schema.json",
        exporter: concat!("simprof ", env!("CARGO_PKG_VERSION")),
        name: weight_name(profile.weight).to_owned(),
        shared: Shared { frames },
        profiles: threads_with_samples(profile)
            .map(|thread| sampled(profile, &groups, thread))
            .collect(),
    };
    serde_json::to_writer(&mut *out, &file)?;
    out.write_all(b"\n")
}

fn frame_entry(profile: &Profile, id: FunctionId) -> FrameEntry<'_> {
    FrameEntry {
        name: profile.function_name(id),
        file: profile.function_file(id),
        line: profile.function(id).line,
    }
}

fn threads_with_samples(profile: &Profile) -> impl Iterator<Item = ThreadId> + '_ {
    let mut has_samples = vec![false; profile.threads.len()];
    for sample in &profile.samples {
        has_samples[sample.thread.index()] = true;
    }
    (0..).map(ThreadId).zip(has_samples).filter(|(_, has)| *has).map(|(thread, _)| thread)
}

fn sampled(profile: &Profile, groups: &Groups, thread: ThreadId) -> Sampled {
    let samples = || profile.samples.iter().filter(move |sample| sample.thread == thread);
    let weights: Vec<u64> = samples().map(|sample| sample.weight).collect();
    let entry = &profile.threads[thread.index()];
    Sampled {
        kind: "sampled",
        name: format!("{} ({}/{})", entry.name, entry.pid, entry.tid),
        unit: match profile.weight {
            WeightKind::CpuNs | WeightKind::WallNs => "nanoseconds",
            WeightKind::Bytes => "bytes",
            WeightKind::Allocations | WeightKind::Calls => "none",
        },
        start_value: 0,
        end_value: weights.iter().sum(),
        samples: samples().map(|sample| from_root(profile, groups, sample)).collect(),
        weights,
    }
}

fn from_root(profile: &Profile, groups: &Groups, sample: &StackSample) -> Vec<usize> {
    let mut frames: Vec<usize> = groups.on_stack(profile, sample.stack).collect();
    if frames.is_empty() {
        frames.push(groups.len());
    }
    frames.reverse();
    frames
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Sketch;

    #[test]
    fn threads_frames_and_weights_are_kept() {
        let profile = Sketch::new()
            .sample("main > step@4", 30)
            .sample("main > step@5", 10)
            .on_thread(9, "worker \"1\"")
            .sample("", 7)
            .sample("main > k:read", 1)
            .finish();
        let mut out = Vec::new();
        write(&profile, &mut out).expect("writing to memory cannot fail");
        let value: serde_json::Value = serde_json::from_slice(&out).expect("JSON");
        let [main, worker] = [&value["profiles"][0], &value["profiles"][1]];
        assert_eq!(main["samples"], serde_json::json!([[0, 1], [0, 1]]));
        assert_eq!(main["weights"], serde_json::json!([30, 10]));
        assert_eq!((&main["unit"], &main["endValue"]), (&"nanoseconds".into(), &40.into()));
        assert_eq!(worker["name"], "worker \"1\" (1/9)");
        assert_eq!(worker["samples"], serde_json::json!([[3], [0, 2]]));
        let names: Vec<_> = value["shared"]["frames"]
            .as_array()
            .expect("frames")
            .iter()
            .map(|frame| frame["name"].as_str().expect("a name"))
            .collect();
        assert_eq!(names, ["main", "step", "read", "[unknown]"]);
    }
}
