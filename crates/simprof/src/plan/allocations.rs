//! Whether and how allocations are recorded: what the flags request and what the target supports.

use anyhow::Result;
use simprof_model::Phase;
use simprof_record::RecordError;
use simprof_report::format;

use super::Plan;
use crate::cli::RunArgs;
use crate::exit::UsageError;
use crate::runner::{Runner, with_fix};

/// Default mean distance between two sampled bytes.
pub const DEFAULT_INTERVAL_BYTES: u64 = 512 << 10;

/// How phase 3 records allocations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AllocationPlan {
    /// Mean distance between two sampled bytes; 1 records every allocation. If `None`, it is
    /// [`DEFAULT_INTERVAL_BYTES`], and a short run with too few samples is repeated with a smaller
    /// one.
    pub interval_bytes: Option<u64>,
    /// The flag that requested it. If the target does not support recording, that is an error with a
    /// flag; without one (`None`), recording is skipped.
    pub requested_by: Option<&'static str>,
}

impl AllocationPlan {
    /// Describes the recording for `--plan`.
    pub fn describe(self) -> String {
        match self.interval_bytes {
            Some(1) => "record every allocation, in a separate run".to_owned(),
            Some(bytes) => format!(
                "record allocations, one byte in {}, in a separate run",
                format::bytes(bytes as f64)
            ),
            None => format!(
                "record allocations, one byte in {}, in a separate run; if a short run has too few samples, repeat it with more",
                format::bytes(DEFAULT_INTERVAL_BYTES as f64)
            ),
        }
    }
}

/// Returns what the flags request. Allocations are recorded if a flag requests it, and in a full run
/// of all phases.
///
/// # Errors
/// Returns an error if a flag requests allocations but phase 3, which records them, is not among
/// the phases.
pub fn requested(arguments: &RunArgs) -> Result<Option<AllocationPlan>> {
    let flag = match arguments.memory_interval {
        _ if arguments.memory => Some("--memory"),
        Some(_) => Some("--memory-interval"),
        None => None,
    };
    let phases = &arguments.phases;
    if let Some(flag) = flag
        && !phases.is_empty()
        && !phases.contains(&Phase::Line.number())
    {
        let text = format!(
            "{flag} belongs to phase 3, which is not selected: add `--phase 3`, or remove {flag}"
        );
        return Err(UsageError(text).into());
    }
    let interval_bytes = arguments.memory_interval;
    let runs_all = phases.is_empty() && !arguments.quick;
    Ok((flag.is_some() || runs_all)
        .then_some(AllocationPlan { interval_bytes, requested_by: flag }))
}

/// Removes allocations from the plan if the target does not support them, and returns the reason.
///
/// # Errors
/// Returns an error if the target does not support them and a flag requested them.
pub fn check(plan: &mut Plan, runner: &Runner) -> Result<Option<String>> {
    let Some(memory) = plan.memory.filter(|_| plan.phases.contains(&Phase::Line)) else {
        return Ok(None);
    };
    let target = &plan.target;
    match (runner.check_memory(&target.command, &target.defaults), memory.requested_by) {
        (Err(error @ RecordError::HeapRefused { .. }), Some(flag)) => {
            Err(UsageError(format!("{flag}: {}", with_fix(&error))).into())
        }
        (Err(error @ RecordError::HeapRefused { .. }), None) => {
            plan.memory = None;
            Ok(Some(with_fix(&error)))
        }
        // The first process that is started reports every other error.
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn parse(flags: &[&str]) -> Result<Option<AllocationPlan>> {
        let line = ["simprof", "run"].into_iter().chain(flags.iter().copied());
        match Cli::try_parse_from(line).expect("known flags").command {
            Command::Run(arguments) => requested(&arguments),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_full_run_of_all_phases_records_allocations() {
        let plan = |flags: &[&str]| parse(flags).expect("valid flags");
        let memory =
            |interval_bytes, requested_by| Some(AllocationPlan { interval_bytes, requested_by });
        assert_eq!(plan(&[]), memory(None, None));
        assert_eq!(plan(&["--quick"]), None);
        assert_eq!(plan(&["--phase", "3"]), None);
        assert_eq!(plan(&["--quick", "--memory"]), memory(None, Some("--memory")));
        let by_interval = memory(Some(1 << 20), Some("--memory-interval"));
        assert_eq!(plan(&["--phase", "3", "--memory-interval", "1M"]), by_interval);
    }

    #[test]
    fn allocations_need_phase_three() {
        for flags in [["--memory", "--phase", "1"], ["--memory-interval=5", "--phase", "4"]] {
            let error = parse(&flags).expect_err("phase 3 is not selected").to_string();
            assert!(error.contains("add `--phase 3`"), "{error}");
        }
        assert!(parse(&["--memory", "--phase", "1", "--phase", "3"]).is_ok());
    }
}
