//! What memory is used for: a part of phase 3's summary.

mod sentences;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use simprof_model::{HeapAmount, HeapCoverage, HeapProfile, HeapSizeClass, Notice, Profile};
use simprof_stats::{DriftVerdict, Interval};

use super::common::Bounds;
use crate::analysis::{self, Churn, GrowthPer, HeapLine, LeakSearch, LeakSuspect, drawn_interval};

pub use sentences::unexplained_growth;

/// Lines that are kept by each amount.
pub(crate) const MEMORY_LINES: usize = 20;
/// Suspects that are kept.
const SUSPECTS: usize = 20;
/// Names of what a line calls to allocate.
const VIA: usize = 3;

/// What memory is used for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MemorySummary {
    /// Mean distance between two draws, bytes; 1 where every allocation was recorded.
    pub interval_bytes: u64,
    /// Records of allocations and of their ends, and how many were lost.
    pub records: u64,
    /// Records that were lost.
    pub lost: u64,
    /// Process images that were recorded.
    pub processes: u64,
    /// Process images that were seen to run without being recorded.
    #[serde(default)]
    pub unrecorded: u64,
    /// Interpreters whose objects were recorded.
    pub interpreters: Vec<String>,
    /// CPU time of the recorder as a share of the target's, 0 to 1.
    pub recorder_cpu_share: f64,
    /// All that was allocated.
    pub allocated: Amount,
    /// What was alive when most was.
    pub peak: Amount,
    /// The step in which that was.
    pub peak_step: Option<u64>,
    /// What was alive at the end.
    pub live: Amount,
    /// What was freed in the step that allocated it; absent without steps.
    pub temporary: Option<Amount>,
    /// What was freed within a millisecond.
    pub short_lived: Amount,
    /// Steps.
    pub steps: u64,
    /// Memory by step; absent without steps.
    pub per_step: Option<MemoryPerStep>,
    /// Lines of the program, by bytes allocated: the first by each of allocated, peak, live and temporary.
    pub lines: Vec<MemoryLine>,
    /// Lines whose live memory goes on growing, by growth.
    pub leaks: Vec<LeakSummary>,
    /// Why none could be looked for: what there was and what is needed; absent where they were looked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leaks_untold: Option<String>,
    /// Lines that allocate again and again what lives but shortly, by what doing without would gain.
    pub churn: Vec<ChurnSummary>,
    /// Sizes of allocations.
    pub sizes: Vec<HeapSizeClass>,
    /// Share of the resident set's growth, mapped files left aside, that the recorded memory explains; absent where it grew too little.
    pub explained_share: Option<f64>,
    /// What it means, one sentence each.
    pub statements: Vec<String>,
    /// What a reader must know about the recording.
    pub notices: Vec<Notice>,
}

/// An amount of memory.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Amount {
    /// Bytes that were asked for.
    pub bytes: u64,
    /// 95 % interval of the bytes; its ends are equal where they are exact.
    pub bytes_interval: Bounds,
    /// Allocations.
    pub count: u64,
    /// 95 % interval of the count.
    pub count_interval: Bounds,
}

impl MemorySummary {
    /// What matters most, in a sentence: the first leak where there is one, else the whole.
    pub fn headline(&self) -> Option<String> {
        let leak = self.leaks.iter().find(|leak| leak.leaked_bytes() > 0);
        leak.map(sentences::leak_sentence).or_else(|| self.statements.first().cloned())
    }

    /// Whether no allocation was seen.
    pub(crate) fn is_unseen(&self) -> bool {
        self.allocated.count == 0
    }

    /// Whether what was seen explains too little of how the resident set grew.
    pub(crate) fn is_blind(&self) -> bool {
        self.explained_share.is_some_and(|share| share < sentences::BLIND)
    }
}

impl LeakSummary {
    /// The growth, where it is a leak: not what may be the population's, nor what is freed when the program ends.
    pub(super) fn leaked_bytes(&self) -> u64 {
        let leaks = self.verdict == "growing" && !self.freed_at_end;
        if leaks { self.growth_bytes.max(0.0).round() as u64 } else { 0 }
    }
}

impl Amount {
    /// An amount of a profile whose draws are so many bytes apart.
    fn new(amount: HeapAmount, interval_bytes: u64) -> Self {
        Self {
            bytes: amount.bytes,
            bytes_interval: analysis::bytes_interval(amount, interval_bytes),
            count: amount.count,
            count_interval: analysis::count_interval(amount, interval_bytes),
        }
    }
}

/// Memory by step. What was allocated between steps counts to the next.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MemoryPerStep {
    /// Bytes allocated in a step, the mean.
    pub allocated_bytes: f64,
    /// 95 % interval of that mean, as far as draws make it uncertain; its ends are equal where it is exact.
    pub allocated_bytes_interval: Bounds,
    /// Allocations in a step, the mean.
    pub allocations: f64,
    /// Bytes allocated and freed within a step, the mean.
    pub temporary_bytes: f64,
    /// Bytes allocated by step and living agent; absent where the target tells no population.
    pub allocated_bytes_per_agent: Option<f64>,
    /// Bytes alive for each agent at the end of the last step.
    pub live_bytes_per_agent: Option<f64>,
    /// 95 % interval of that, likewise.
    pub live_bytes_per_agent_interval: Option<Bounds>,
}

/// A line of the program, and what it and the libraries that it calls allocated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MemoryLine {
    /// The function that it stands in.
    pub function: String,
    /// Source file, where known.
    pub file: Option<String>,
    /// Line, from 1, where known.
    pub line: Option<u32>,
    /// Its source text, where the file could be read.
    pub text: Option<String>,
    /// All that it allocated.
    pub allocated: Amount,
    /// Its bytes of all bytes that were allocated, 0 to 1.
    pub allocated_share: f64,
    /// What of it was alive when most was.
    pub peak: Amount,
    /// What of it was alive at the end.
    pub live: Amount,
    /// What of it was freed in the step that allocated it; nothing without steps.
    pub temporary: Amount,
    /// Mean size of an allocation, bytes.
    pub mean_bytes: f64,
    /// Largest single allocation that was recorded, bytes.
    pub largest_bytes: u64,
    /// Allocations that were made larger or smaller.
    pub reallocations: u64,
    /// Bytes that it leaks: the growth of what is alive over the steps, where that goes on and most is not freed at the end; else 0.
    pub leaked_bytes: u64,
    /// What it calls to allocate.
    pub via: Vec<String>,
}

/// A line whose live memory goes on growing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LeakSummary {
    /// The function that it stands in.
    pub function: String,
    /// Source file, where known.
    pub file: Option<String>,
    /// Line, from 1, where known.
    pub line: Option<u32>,
    /// Its source text, where the file could be read.
    pub text: Option<String>,
    /// `growing`, or `confounded` where the population grows along with time.
    pub verdict: String,
    /// Whether most of it was freed when the program ended: a cache that fills, or what something global keeps.
    pub freed_at_end: bool,
    /// What the rate is per: `step` or `second`.
    pub per: String,
    /// Bytes more that are alive by step or second.
    pub rate_bytes: f64,
    /// 95 % interval of the rate.
    pub rate_interval: Bounds,
    /// Growth over the steps that were looked at, bytes.
    pub growth_bytes: f64,
    /// 95 % interval of the growth.
    pub growth_interval: Bounds,
    /// Bytes per agent that were taken out first; absent where no population was told.
    pub per_agent_bytes: Option<f64>,
    /// Readings that were looked at, the warm-up left out.
    pub readings: u64,
}

/// A line that allocates again and again what lives but shortly.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ChurnSummary {
    /// The function that it stands in.
    pub function: String,
    /// Source file, where known.
    pub file: Option<String>,
    /// Line, from 1, where known.
    pub line: Option<u32>,
    /// Its source text, where the file could be read.
    pub text: Option<String>,
    /// What of it lived shortly.
    pub short: Amount,
    /// That, of all allocations, 0 to 1.
    pub share_of_all: f64,
    /// Short-lived allocations by step; absent without steps.
    pub per_step: Option<f64>,
    /// Share of CPU time in the allocator on its behalf, 0 to 1; absent without a CPU profile.
    pub cpu_share: Option<f64>,
    /// How many times as fast the whole is without that share. No bound: blocks that other functions free are not in it.
    pub speed_up: Option<f64>,
}

/// Sums up a heap profile; a CPU profile of another run tells what churn costs. `text` gives the text of a line, where it can be read.
pub fn memory_summary(
    profile: &HeapProfile,
    cpu: Option<&Profile>,
    text: &dyn Fn(&str, u32) -> Option<String>,
) -> MemorySummary {
    let provenance = &profile.provenance;
    let LeakSearch { suspects, untold } = analysis::leak_suspects(profile);
    let lines = lines(profile, &suspects, text);
    let leaks: Vec<_> = suspects.iter().take(SUSPECTS).map(|leak| self::leak(leak, text)).collect();
    let churn: Vec<_> = analysis::churn(profile, cpu)
        .iter()
        .take(SUSPECTS)
        .map(|churn| self::churn(churn, profile, text))
        .collect();
    let total = |of: fn(&simprof_model::HeapSite) -> HeapAmount| {
        Amount::new(profile.total(of), provenance.interval_bytes)
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
        peak: total(|site| site.amounts.peak),
        peak_step: profile.peak_step,
        live: total(|site| site.amounts.live),
        temporary: (profile.steps > 0).then(|| total(|site| site.amounts.temporary)),
        short_lived: total(|site| site.amounts.short_lived),
        steps: profile.steps,
        per_step: per_step(profile),
        lines,
        leaks,
        leaks_untold: untold,
        churn,
        sizes: profile.sizes.clone(),
        explained_share: provenance.coverage.and_then(HeapCoverage::explained),
        statements: Vec::new(),
        notices: sentences::notices(profile),
    };
    summary.statements = sentences::statements(&summary);
    summary
}

fn per_step(profile: &HeapProfile) -> Option<MemoryPerStep> {
    let steps: u64 = profile.ticks.iter().map(|tick| tick.steps).sum();
    if steps == 0 {
        return None;
    }
    let sum =
        |of: fn(&simprof_model::HeapTick) -> u64| profile.ticks.iter().map(of).sum::<u64>() as f64;
    let allocated = sum(|tick| tick.allocated_bytes);
    let agent_steps: Option<u64> =
        profile.ticks.iter().map(|tick| Some(tick.population? * tick.steps)).sum();
    let last = profile.ticks.last()?;
    let alive = last.population.filter(|&population| population > 0);
    let interval_bytes = profile.provenance.interval_bytes;
    let of_step = drawn_interval(allocated, interval_bytes).map(|bytes| bytes / steps as f64);
    let per_agent = |bytes: f64| alive.map(|alive| bytes / alive as f64);
    let live = last.live_bytes as f64;
    let [least, most] = drawn_interval(live, interval_bytes).map(per_agent);
    Some(MemoryPerStep {
        allocated_bytes: allocated / steps as f64,
        allocated_bytes_interval: of_step,
        allocations: sum(|tick| tick.allocations) / steps as f64,
        temporary_bytes: sum(|tick| tick.temporary_bytes) / steps as f64,
        allocated_bytes_per_agent: agent_steps.filter(|&n| n > 0).map(|n| allocated / n as f64),
        live_bytes_per_agent: per_agent(live),
        live_bytes_per_agent_interval: least.zip(most).map(<[f64; 2]>::from),
    })
}

/// The first lines by each amount.
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
    for of in amounts {
        let mut order: Vec<usize> = (0..all.len()).filter(|&at| of(&all[at]).bytes > 0).collect();
        order.sort_by_key(|&at| std::cmp::Reverse(of(&all[at]).bytes));
        order.into_iter().take(MEMORY_LINES).for_each(|at| kept[at] = true);
    }
    let chosen = all.iter().zip(kept).filter(|(_, kept)| *kept);
    chosen.map(|(line, _)| memory_line(line, whole, interval_bytes, suspects, text)).collect()
}

fn memory_line(
    line: &HeapLine,
    whole: u64,
    interval_bytes: u64,
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
    let growing = leak.verdict == DriftVerdict::Growing;
    LeakSummary {
        function: leak.line.function.clone(),
        file: leak.line.file.clone(),
        line: leak.line.line,
        text: text_of(&leak.line, text),
        verdict: if growing { "growing" } else { "confounded" }.to_owned(),
        freed_at_end: leak.freed_at_end,
        per: if leak.per == GrowthPer::Step { "step" } else { "second" }.to_owned(),
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
        profile.ticks.iter_mut().for_each(|tick| tick.allocated_bytes = 50_000);
        profile
    }

    #[test]
    fn a_leak_is_told_with_its_place_and_rate() {
        let text = |file: &str, line: u32| Some(format!("{file} {line}"));
        let summary = memory_summary(&leaking(), None, &text);
        let words = "48.8 KiB in 0 allocations (what is made larger counts anew); 0 B of that are freed by its end";
        assert!(summary.statements[0].contains(words), "{}", summary.statements[0]);
        assert_eq!(summary.leaks.len(), 1);
        assert_eq!(summary.leaks[0].text.as_deref(), Some("src/sim.rs 5"));
        let told = summary.statements.iter().find(|sentence| sentence.contains("leaks"));
        let told = told.expect("it is told");
        assert!(told.starts_with("sim.rs:5 in s::leak leaks: 39.1 KiB more a step stay"), "{told}");
        let leaked: Vec<_> = summary.lines.iter().map(|line| line.leaked_bytes).collect();
        assert_eq!(leaked, [40_000 * 179, 0]);
        let per_step = summary.per_step.expect("there are steps");
        assert_eq!(per_step.allocated_bytes, 50_000.0);
        assert_eq!(per_step.allocated_bytes_per_agent, Some(500.0));
        assert_eq!(per_step.allocated_bytes_interval, [50_000.0, 50_000.0], "it is exact");
        let mut estimated = leaking();
        estimated.provenance.interval_bytes = 512 << 10;
        let per_step = memory_summary(&estimated, None, &text).per_step.expect("likewise");
        let half = 1.96 * (10e6_f64 * f64::from(512 << 10)).sqrt() / 200.0;
        let [least, most] = per_step.allocated_bytes_interval;
        assert!((50_000.0 - half - least).abs() < 1.0 && most > 50_000.0 + half, "few draws");
        let [low, high] = per_step.live_bytes_per_agent_interval.expect("agents are told");
        let live = per_step.live_bytes_per_agent.expect("likewise");
        assert!(low < live && live < high, "{low} {live} {high}");
    }

    #[test]
    fn a_cache_that_is_freed_at_the_end_leaks_nothing() {
        let mut profile = leaking();
        profile.sites[0].amounts.live.bytes = 0;
        let summary = memory_summary(&profile, None, &|_, _| None);
        assert!(summary.leaks[0].freed_at_end, "{summary:?}");
        let leaked: Vec<_> = summary.lines.iter().map(|line| line.leaked_bytes).collect();
        assert_eq!(leaked, [0, 0], "it is kept, and told as that");
        assert_eq!(summary.leaks[0].leaked_bytes(), 0, "nor is it beside the line's time");
    }

    #[test]
    fn what_was_not_drawn_may_be_there() {
        let mut profile = leaking();
        for (interval_bytes, most) in [(1, 0.0), (1 << 20, 3.689)] {
            profile.provenance.interval_bytes = interval_bytes;
            let temporary = memory_summary(&profile, None, &|_, _| None).temporary;
            let [low, high] = temporary.expect("there are steps").bytes_interval;
            assert!(low == 0.0 && (high / f64::from(1 << 20) - most).abs() < 0.001, "{high}");
        }
    }
}
