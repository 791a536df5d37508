//! The part of phase 3's summary on allocated memory.

mod per_step;
mod sentences;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use simprof_model::{HeapAmount, HeapCoverage, HeapProfile, HeapSizeClass, Notice, Profile};
use simprof_stats::{DriftVerdict, Interval};

use super::common::Bounds;
use crate::analysis::{self, Churn, GrowthPer, HeapLine, LeakSearch, LeakSuspect};

pub use per_step::MemoryPerStep;
pub use sentences::unexplained_growth;

/// Number of lines to keep by each amount.
pub(crate) const MEMORY_LINES: usize = 20;
/// Number of leaks and of lines with short-lived allocations to keep.
const FINDINGS: usize = 20;
/// Number of functions that a line calls to allocate to keep.
const VIA: usize = 3;

/// The memory that the target allocated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MemorySummary {
    /// Mean distance between allocation samples, bytes; 1 if every allocation was recorded.
    pub interval_bytes: u64,
    /// Records of allocations and of their ends.
    pub records: u64,
    /// Records that were lost.
    pub lost: u64,
    /// Process images that were recorded.
    pub processes: u64,
    /// Process images that ran without being recorded.
    #[serde(default)]
    pub unrecorded: u64,
    /// Interpreters whose objects were recorded.
    pub interpreters: Vec<String>,
    /// CPU time of the recorder divided by the target's.
    pub recorder_cpu_share: f64,
    /// All memory that was allocated.
    pub allocated: Amount,
    /// Memory that was allocated while a step ran; `null` without steps.
    #[serde(default)]
    pub in_steps: Option<Amount>,
    /// Memory that was live at the peak.
    pub peak: Amount,
    /// The step of the peak.
    pub peak_step: Option<u64>,
    /// Memory that was live at the end.
    pub live: Amount,
    /// Memory that was freed in the step that allocated it; `null` without steps.
    pub temporary: Option<Amount>,
    /// Memory that was freed within a millisecond.
    pub short_lived: Amount,
    /// Number of steps.
    pub steps: u64,
    /// Memory per step; `null` without steps.
    pub per_step: Option<MemoryPerStep>,
    /// Lines of the program by bytes allocated: the first 20 by each of allocated, peak, live and temporary.
    pub lines: Vec<MemoryLine>,
    /// Lines whose live memory keeps growing, by growth.
    pub leaks: Vec<LeakSummary>,
    /// Why no search for leaks was possible, with the available and the needed amount of data; absent if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leaks_untold: Option<String>,
    /// Lines with many short-lived allocations, by the gain from avoiding them.
    pub churn: Vec<ChurnSummary>,
    /// Sizes of allocations.
    pub sizes: Vec<HeapSizeClass>,
    /// Share of the growth of the resident set, without mapped files, that the recorded memory explains; `null` if the
    /// growth is too small.
    pub explained_share: Option<f64>,
    /// Findings, one sentence each.
    pub statements: Vec<String>,
    /// Notices: what to know before relying on the recording.
    pub notices: Vec<Notice>,
}

/// An amount of memory.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Amount {
    /// Requested bytes.
    pub bytes: u64,
    /// 95 % interval of the bytes; its ends are equal if the amount is exact.
    pub bytes_interval: Bounds,
    /// Number of allocations.
    pub count: u64,
    /// 95 % interval of the count.
    pub count_interval: Bounds,
}

impl MemorySummary {
    /// Returns the most important finding as a sentence: the first leak, or else the total.
    pub fn headline(&self) -> Option<String> {
        let leak = self.leaks.iter().find(|leak| leak.leaked_bytes() > 0);
        leak.map(sentences::leak_sentence).or_else(|| self.statements.first().cloned())
    }

    /// Whether no allocation was seen.
    pub(crate) fn is_unseen(&self) -> bool {
        self.allocated.count == 0
    }

    /// Whether the recorded memory explains less than half of the growth of the resident set.
    pub(crate) fn is_blind(&self) -> bool {
        self.explained_share.is_some_and(|share| share < sentences::EXPLAINED_MIN)
    }
}

impl LeakSummary {
    /// Returns the growth if it is a leak. Growth that may be due to the population, or that is freed when the program
    /// ends, is not.
    pub(super) fn leaked_bytes(&self) -> u64 {
        let leaks = self.verdict == LeakVerdict::Growing && !self.freed_at_end;
        if leaks { self.growth_bytes.max(0.0).round() as u64 } else { 0 }
    }
}

impl Amount {
    /// Adds the intervals to an amount, given the mean distance between allocation samples.
    fn new(amount: HeapAmount, interval_bytes: u64) -> Self {
        Self {
            bytes: amount.bytes,
            bytes_interval: analysis::bytes_interval(amount, interval_bytes),
            count: amount.count,
            count_interval: analysis::count_interval(amount, interval_bytes),
        }
    }
}

/// A line of the program, with the memory that it and the libraries that it calls allocated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MemoryLine {
    /// The function that the line belongs to.
    pub function: String,
    /// Source file, if known.
    pub file: Option<String>,
    /// Line, 1-based, if known.
    pub line: Option<u32>,
    /// Its source text, if the file could be read.
    pub text: Option<String>,
    /// All memory that it allocated.
    pub allocated: Amount,
    /// Mean bytes that it allocated per step, inside steps; `null` without steps.
    #[serde(default)]
    pub allocated_bytes_per_step: Option<f64>,
    /// Its allocated bytes as a fraction of all allocated bytes, 0 to 1.
    pub allocated_share: f64,
    /// Its memory that was live at the peak.
    pub peak: Amount,
    /// Its memory that was live at the end.
    pub live: Amount,
    /// Its memory that was freed in the step that allocated it; zero without steps.
    pub temporary: Amount,
    /// Mean size of an allocation, bytes.
    pub mean_bytes: f64,
    /// Largest recorded allocation, bytes.
    pub largest_bytes: u64,
    /// Number of reallocations.
    pub reallocations: u64,
    /// Leaked bytes: the growth of live bytes over the steps, if it continues and is not freed at the end; else 0.
    pub leaked_bytes: u64,
    /// Functions that it calls to allocate.
    pub via: Vec<String>,
}

/// The verdict on a line whose live memory grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LeakVerdict {
    /// It grows, and the growth continues.
    Growing,
    /// It grows, but so does the population.
    Confounded,
}

/// A line whose live memory keeps growing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LeakSummary {
    /// The function that the line belongs to.
    pub function: String,
    /// Source file, if known.
    pub file: Option<String>,
    /// Line, 1-based, if known.
    pub line: Option<u32>,
    /// Its source text, if the file could be read.
    pub text: Option<String>,
    /// Whether the growth can be distinguished from that of the population.
    pub verdict: LeakVerdict,
    /// Whether most of it was freed when the program ended, as a growing cache or a global container is.
    pub freed_at_end: bool,
    /// Unit of time of the rate.
    pub per: GrowthPer,
    /// Growth of live bytes per step or second.
    pub rate_bytes: f64,
    /// 95 % interval of the rate.
    pub rate_interval: Bounds,
    /// Growth over all readings, bytes.
    pub growth_bytes: f64,
    /// 95 % interval of the growth.
    pub growth_interval: Bounds,
    /// Bytes per agent that were subtracted first; `null` if the target reports no population.
    pub per_agent_bytes: Option<f64>,
    /// Number of readings after the warm-up.
    pub readings: u64,
}

/// A line with many short-lived allocations.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ChurnSummary {
    /// The function that the line belongs to.
    pub function: String,
    /// Source file, if known.
    pub file: Option<String>,
    /// Line, 1-based, if known.
    pub line: Option<u32>,
    /// Its source text, if the file could be read.
    pub text: Option<String>,
    /// Its short-lived allocations.
    pub short: Amount,
    /// Their number as a fraction of all allocations, 0 to 1.
    pub share_of_all: f64,
    /// Short-lived allocations per step; `null` without steps.
    pub per_step: Option<f64>,
    /// Share of CPU time in the allocator for them, 0 to 1; `null` without a CPU profile.
    pub cpu_share: Option<f64>,
    /// Speed-up of the whole program without that share. Not an upper bound: blocks that other functions free are not
    /// included.
    pub speed_up: Option<f64>,
}

/// Summarises a heap profile. `cpu` is a CPU profile of another run, for the cost of short-lived allocations. `text` returns
/// the source text of a line, if it can be read.
pub fn memory_summary(
    profile: &HeapProfile,
    cpu: Option<&Profile>,
    text: &dyn Fn(&str, u32) -> Option<String>,
) -> MemorySummary {
    let provenance = &profile.provenance;
    let LeakSearch { suspects, too_little } = analysis::leak_suspects(profile);
    let lines = lines(profile, &suspects, text);
    let leaks: Vec<_> = suspects.iter().take(FINDINGS).map(|leak| self::leak(leak, text)).collect();
    let churn: Vec<_> = analysis::churn(profile, cpu)
        .iter()
        .take(FINDINGS)
        .map(|churn| self::churn(churn, profile, text))
        .collect();
    let total = |amount: fn(&simprof_model::HeapSite) -> HeapAmount| {
        Amount::new(profile.total(amount), provenance.interval_bytes)
    };
    let mut summary = MemorySummary {
        interval_bytes: provenance.interval_bytes,
        records: provenance.records,
        lost: provenance.lost,
        processes: provenance.processes,
        unrecorded: provenance.unrecorded,
        interpreters: provenance.interpreters.clone(),
        recorder_cpu_share: provenance.recorder_cpu_ns as f64
            / provenance.target_cpu_ns.max(1) as f64,
        allocated: total(|site| site.amounts.allocated),
        in_steps: (profile.steps > 0).then(|| total(|site| site.amounts.in_steps)),
        peak: total(|site| site.amounts.peak),
        peak_step: profile.peak_step,
        live: total(|site| site.amounts.live),
        temporary: (profile.steps > 0).then(|| total(|site| site.amounts.temporary)),
        short_lived: total(|site| site.amounts.short_lived),
        steps: profile.steps,
        per_step: MemoryPerStep::new(profile),
        lines,
        leaks,
        leaks_untold: too_little.map(|reason| reason.to_string()),
        churn,
        sizes: profile.sizes.clone(),
        explained_share: provenance.coverage.and_then(HeapCoverage::explained),
        statements: Vec::new(),
        notices: sentences::notices(profile),
    };
    summary.statements = sentences::statements(&summary);
    summary
}

/// Returns the first lines by each amount.
fn lines(
    profile: &HeapProfile,
    suspects: &[LeakSuspect],
    text: &dyn Fn(&str, u32) -> Option<String>,
) -> Vec<MemoryLine> {
    let all = analysis::heap_lines(profile);
    let whole = profile.total(|site| site.amounts.allocated).bytes;
    let interval_bytes = profile.provenance.interval_bytes;
    let amounts: [fn(&HeapLine) -> HeapAmount; 4] = [
        |line| line.amounts.allocated,
        |line| line.amounts.peak,
        |line| line.amounts.live,
        |line| line.amounts.temporary,
    ];
    let mut kept = vec![false; all.len()];
    for amount in amounts {
        let mut order: Vec<usize> =
            (0..all.len()).filter(|&at| amount(&all[at]).bytes > 0).collect();
        order.sort_by_key(|&at| std::cmp::Reverse(amount(&all[at]).bytes));
        order.into_iter().take(MEMORY_LINES).for_each(|at| kept[at] = true);
    }
    let chosen = all.iter().zip(kept).filter(|(_, kept)| *kept);
    let steps = profile.steps;
    chosen
        .map(|(line, _)| memory_line(line, whole, interval_bytes, steps, suspects, text))
        .collect()
}

fn memory_line(
    line: &HeapLine,
    whole: u64,
    interval_bytes: u64,
    steps: u64,
    suspects: &[LeakSuspect],
    text: &dyn Fn(&str, u32) -> Option<String>,
) -> MemoryLine {
    let amounts = &line.amounts;
    let amount = |amount: HeapAmount| Amount::new(amount, interval_bytes);
    let leak = suspects.iter().find(|suspect| {
        (&suspect.line.function, &suspect.line.file, suspect.line.line)
            == (&line.function, &line.file, line.line)
    });
    MemoryLine {
        function: line.function.clone(),
        file: line.file.clone(),
        line: line.line,
        text: text_of(line, text),
        allocated: amount(amounts.allocated),
        allocated_bytes_per_step: (steps > 0).then(|| amounts.in_steps.bytes as f64 / steps as f64),
        allocated_share: amounts.allocated.bytes as f64 / whole.max(1) as f64,
        peak: amount(amounts.peak),
        live: amount(amounts.live),
        temporary: amount(amounts.temporary),
        mean_bytes: amounts.allocated.bytes as f64 / amounts.allocated.count.max(1) as f64,
        largest_bytes: amounts.largest_bytes,
        reallocations: amounts.reallocations,
        leaked_bytes: leak.map_or(0, |suspect| self::leak(suspect, &|_, _| None).leaked_bytes()),
        via: line.via.iter().take(VIA).cloned().collect(),
    }
}

fn text_of(line: &HeapLine, text: &dyn Fn(&str, u32) -> Option<String>) -> Option<String> {
    text(line.file.as_deref()?, line.line?)
}

fn bounds(interval: Interval) -> Bounds {
    [interval.lo, interval.hi]
}

fn leak(leak: &LeakSuspect, text: &dyn Fn(&str, u32) -> Option<String>) -> LeakSummary {
    let verdict = match leak.verdict {
        DriftVerdict::Growing => LeakVerdict::Growing,
        _ => LeakVerdict::Confounded,
    };
    LeakSummary {
        function: leak.line.function.clone(),
        file: leak.line.file.clone(),
        line: leak.line.line,
        text: text_of(&leak.line, text),
        verdict,
        freed_at_end: leak.freed_at_end,
        per: leak.per,
        rate_bytes: leak.rate,
        rate_interval: bounds(leak.rate_interval),
        growth_bytes: leak.growth_bytes,
        growth_interval: bounds(leak.growth_interval),
        per_agent_bytes: leak.per_agent_bytes,
        readings: leak.ticks as u64,
    }
}

fn churn(
    churn: &Churn,
    profile: &HeapProfile,
    text: &dyn Fn(&str, u32) -> Option<String>,
) -> ChurnSummary {
    let steps = profile.steps;
    ChurnSummary {
        function: churn.line.function.clone(),
        file: churn.line.file.clone(),
        line: churn.line.line,
        text: text_of(&churn.line, text),
        short: Amount::new(churn.short, profile.provenance.interval_bytes),
        share_of_all: churn.share_of_all,
        per_step: (steps > 0).then(|| churn.short.count as f64 / steps as f64),
        cpu_share: churn.cpu_share,
        speed_up: churn.speed_up(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{heap, with_ticks};

    pub(super) fn leaking() -> HeapProfile {
        let stacks =
            [("main@1 > s::leak@5 > malloc", 8_000_000), ("main@1 > s::work@9 > malloc", 60)];
        let live = |site: usize, step: u64| if site == 0 { 40_000 * step } else { 60 };
        let mut profile = with_ticks(heap(&stacks), 200, |_| Some(100), live);
        for tick in &mut profile.ticks {
            // The rest was allocated between the steps.
            (tick.allocated_bytes, tick.in_steps_bytes) = (70_000, 50_000);
        }
        profile
    }

    #[test]
    fn a_leak_is_reported_with_its_line_and_rate() {
        let text = |file: &str, line: u32| Some(format!("{file} {line}"));
        let summary = memory_summary(&leaking(), None, &text);
        let words = "Each step allocates 48.8 KiB in 0 allocations (counting reallocations), and frees 0 B of that";
        assert!(summary.statements[0].contains(words), "{}", summary.statements[0]);
        assert_eq!(summary.leaks.len(), 1);
        assert_eq!(summary.leaks[0].text.as_deref(), Some("src/sim.rs 5"));
        let leak = summary.statements.iter().find(|sentence| sentence.contains("leaks"));
        let leak = leak.expect("the leak is reported");
        assert!(leak.starts_with("sim.rs:5 in s::leak leaks 39.1 KiB per step"), "{leak}");
        let leaked: Vec<_> = summary.lines.iter().map(|line| line.leaked_bytes).collect();
        assert_eq!(leaked, [40_000 * 179, 0]);
        let per_step = summary.per_step.expect("there are steps");
        assert_eq!(per_step.allocated_bytes, 50_000.0);
        assert_eq!(per_step.allocated_bytes_per_agent, Some(500.0));
        assert_eq!(per_step.allocated_bytes_interval, [50_000.0, 50_000.0], "it is exact");
        let mut estimated = leaking();
        estimated.provenance.interval_bytes = 512 << 10;
        let per_step = memory_summary(&estimated, None, &text).per_step.expect("there are steps");
        let half = 1.96 * (10e6_f64 * f64::from(512 << 10)).sqrt() / 200.0;
        let [low, high] = per_step.allocated_bytes_interval;
        assert!((50_000.0 - half - low).abs() < 1.0 && high > 50_000.0 + half, "few samples");
        let [low, high] = per_step.live_bytes_per_agent_interval.expect("there is a population");
        let live = per_step.live_bytes_per_agent.expect("there is a population");
        assert!(low < live && live < high, "{low} {live} {high}");
    }

    #[test]
    fn a_cache_that_is_freed_at_the_end_does_not_leak() {
        let mut profile = leaking();
        profile.sites[0].amounts.live.bytes = 0;
        let summary = memory_summary(&profile, None, &|_, _| None);
        assert!(summary.leaks[0].freed_at_end, "{summary:?}");
        let leaked: Vec<_> = summary.lines.iter().map(|line| line.leaked_bytes).collect();
        assert_eq!(leaked, [0, 0]);
        assert_eq!(summary.leaks[0].leaked_bytes(), 0);
    }

    #[test]
    fn amounts_without_samples_have_an_upper_end_above_zero() {
        let mut profile = leaking();
        for (interval_bytes, expected) in [(1, 0.0), (1 << 20, 3.689)] {
            profile.provenance.interval_bytes = interval_bytes;
            let temporary = memory_summary(&profile, None, &|_, _| None).temporary;
            let [low, high] = temporary.expect("there are steps").bytes_interval;
            assert!(low == 0.0 && (high / f64::from(1 << 20) - expected).abs() < 0.001, "{high}");
        }
    }
}
