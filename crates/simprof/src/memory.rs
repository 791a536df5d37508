//! Whether allocations are recorded: what the flags ask for, and what the target allows.

use anyhow::Result;
use simprof_model::Phase;
use simprof_record::RecordError;
use simprof_report::format;

use crate::cli::RunArgs;
use crate::exit::Wrong;
use crate::plan::Plan;
use crate::runner::{Runner, with_mend};

/// Mean distance of two recorded bytes where none is given.
pub const INTERVAL_BYTES: u64 = 512 << 10;

/// How allocations are recorded: phase 3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryPlan {
    /// Mean distance of two recorded bytes; 1 for every allocation. None where it is chosen: [`INTERVAL_BYTES`], and less where a
    /// short run allocates too little to be told.
    pub interval_bytes: Option<u64>,
    /// The flag that asked for it: a target of which it cannot be done is an error then. None where nothing did: it is left out then.
    pub asked: Option<&'static str>,
}

impl MemoryPlan {
    /// For people.
    pub fn describe(self) -> String {
        match self.interval_bytes {
            Some(1) => "record every allocation, in a run of its own".to_owned(),
            Some(bytes) => format!(
                "record allocations, one byte of {}, in a run of its own",
                format::bytes(bytes as f64)
            ),
            None => format!(
                "record allocations, one byte of {}, in a run of its own; in a second one more of them where a short run has few",
                format::bytes(INTERVAL_BYTES as f64)
            ),
        }
    }
}

/// What the flags ask for: allocations are recorded where they say so, and in a run of all phases.
///
/// # Errors
/// Where memory is asked for and phase 3, of which it is a part, is not.
pub fn wanted(arguments: &RunArgs) -> Result<Option<MemoryPlan>> {
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
            "{flag} is of phase 3, which is not among the phases to run: add `--phase 3`, or leave {flag} out"
        );
        return Err(Wrong(text).into());
    }
    let interval_bytes = arguments.memory_interval;
    let is_whole = phases.is_empty() && !arguments.quick;
    Ok((flag.is_some() || is_whole).then_some(MemoryPlan { interval_bytes, asked: flag }))
}

/// Leaves memory out of the plan where the target does not allow it: the reason, then.
///
/// # Errors
/// Where memory was asked for by name.
pub fn check(plan: &mut Plan, runner: &Runner) -> Result<Option<String>> {
    let Some(memory) = plan.memory.filter(|_| plan.phases.contains(&Phase::Line)) else {
        return Ok(None);
    };
    let target = &plan.target;
    match (runner.check_memory(&target.command, &target.defaults), memory.asked) {
        (Err(error @ RecordError::HeapRefused { .. }), Some(flag)) => {
            Err(Wrong(format!("{flag}: {}", with_mend(&error))).into())
        }
        (Err(error @ RecordError::HeapRefused { .. }), None) => {
            plan.memory = None;
            Ok(Some(with_mend(&error)))
        }
        // Whatever else is wrong is told by the first process that is started.
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn of(flags: &[&str]) -> Result<Option<MemoryPlan>> {
        let line = ["simprof", "run"].into_iter().chain(flags.iter().copied());
        match Cli::try_parse_from(line).expect("known flags").command {
            Command::Run(arguments) => wanted(&arguments),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_run_of_all_phases_records_memory_unless_it_is_to_be_quick() {
        let plan = |flags: &[&str]| of(flags).expect("nothing is wrong");
        let memory = |interval_bytes, asked| Some(MemoryPlan { interval_bytes, asked });
        assert_eq!(plan(&[]), memory(None, None));
        assert_eq!(plan(&["--quick"]), None);
        assert_eq!(plan(&["--phase", "3"]), None);
        assert_eq!(plan(&["--quick", "--memory"]), memory(None, Some("--memory")));
        let by_interval = memory(Some(1 << 20), Some("--memory-interval"));
        assert_eq!(plan(&["--phase", "3", "--memory-interval", "1M"]), by_interval);
    }

    #[test]
    fn memory_is_of_phase_three() {
        for flags in [["--memory", "--phase", "1"], ["--memory-interval=5", "--phase", "4"]] {
            let error = of(&flags).expect_err("it is not run").to_string();
            assert!(error.contains("add `--phase 3`"), "{error}");
        }
        assert!(of(&["--memory", "--phase", "1", "--phase", "3"]).is_ok());
    }
}
