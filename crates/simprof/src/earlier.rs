//! How long the phases took in earlier runs of the same spec.

use std::collections::BTreeMap;
use std::path::Path;

use simprof_model::{Phase, PhaseRecord, Run, Status, read_json};

use crate::folder::MANIFEST;
use crate::plan::Plan;

/// The time of a phase in an earlier run.
#[derive(Debug, Clone, PartialEq)]
pub struct Earlier {
    /// Time that the phase would take now, in seconds.
    pub seconds: f64,
    /// Name of the run that it was measured in.
    pub run: String,
    /// Wall time of the phase's first process, in seconds. `None` if it is not known.
    pub process_s: Option<f64>,
}

/// Returns the times of the phases in the newest runs in `output` whose spec is that of `plan`. A run in the same mode is
/// preferred. The time is scaled by the number of planned processes, which repeats and the mode change.
pub fn earlier_times(output: &Path, plan: &Plan) -> BTreeMap<Phase, Earlier> {
    let Ok(spec) = toml::to_string(&plan.spec) else { return BTreeMap::new() };
    let folders = std::fs::read_dir(output).into_iter().flatten().flatten();
    let is_folder = |entry: &std::fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
    let mut runs: Vec<Run> = folders
        .filter(is_folder)
        .filter_map(|entry| read_json(&entry.path().join(MANIFEST)).ok())
        .filter(|run: &Run| run.spec == spec)
        .collect();
    runs.sort_by_key(|run| std::cmp::Reverse((run.mode == plan.mode, run.created_ms)));
    let time = |&phase: &Phase| {
        let found = runs
            .iter()
            .find_map(|run| Some((run, run.phase(phase)?, duration_s(run.phase(phase)?)?)));
        found.map(|(run, record, seconds)| {
            let (now, then) = (plan.processes(phase), record.planned.max(1));
            // A check of a prediction adds processes that are not part of the plan.
            let is_same = run.mode == plan.mode && then >= now;
            let scale = if is_same { 1.0 } else { now as f64 / then as f64 };
            let process_s = process_s(record);
            (phase, Earlier { seconds: seconds * scale, run: run.name.clone(), process_s })
        })
    };
    plan.phases.iter().filter_map(time).collect()
}

/// Returns how long a phase took in which every measurement succeeded.
fn duration_s(record: &PhaseRecord) -> Option<f64> {
    let milliseconds = record.ended_ms?.saturating_sub(record.started_ms?);
    (record.status == Some(Status::Ok)).then_some(milliseconds as f64 * 1e-3)
}

/// Returns the wall time of the first successful process of a phase.
fn process_s(record: &PhaseRecord) -> Option<f64> {
    let walls = record.measurements.first()?.replicate_medians("wall_ms");
    walls.first().map(|ms| ms * 1e-3)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::processes::fake::{manifest, plan_for};
    use simprof_model::{Mode, write_json};

    const SPEC: &str = "[target]\ncommand = [\"./sim\"]\n";

    /// Writes a run in which every phase took `seconds`.
    fn write_run(output: &Path, name: &str, spec: &str, mode: Mode, seconds: u64, status: Status) {
        let plan = plan_for(spec);
        let mut run = manifest(&plan.phases);
        run.name = name.into();
        run.mode = mode;
        run.created_ms = seconds;
        run.spec = toml::to_string(&plan.spec).expect("a spec is TOML");
        for record in &mut run.phases {
            record.planned = plan.processes(record.phase);
            (record.started_ms, record.ended_ms) = (Some(1000), Some(1000 + 1000 * seconds));
            record.status = Some(status);
        }
        std::fs::create_dir(output.join(name)).expect("a folder");
        write_json(&output.join(name).join(MANIFEST), &run).expect("a manifest");
    }

    #[test]
    fn the_newest_run_of_the_same_spec_and_mode_counts() {
        let output = tempfile::tempdir().expect("a folder");
        let plan = plan_for(SPEC);
        assert!(earlier_times(output.path(), &plan).is_empty());
        assert!(earlier_times(&output.path().join("missing"), &plan).is_empty());
        write_run(output.path(), "old", SPEC, Mode::Full, 3, Status::Ok);
        write_run(output.path(), "new", SPEC, Mode::Full, 4, Status::Ok);
        write_run(output.path(), "quick", SPEC, Mode::Quick, 9, Status::Ok);
        write_run(output.path(), "failed", SPEC, Mode::Full, 8, Status::Failed);
        let other = SPEC.replace("sim", "other");
        write_run(output.path(), "other", &other, Mode::Full, 7, Status::Ok);
        std::fs::create_dir(output.path().join("broken")).expect("a folder");
        let times = earlier_times(output.path(), &plan);
        assert_eq!(times.len(), 4);
        assert!(times.values().all(|time| time.run == "new" && time.seconds == 4.0), "{times:?}");
        let text = plan.describe(&times);
        assert!(text.contains("total about 16 s"), "{text}");
    }
}
