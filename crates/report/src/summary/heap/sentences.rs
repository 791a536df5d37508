//! The findings of a memory summary, as sentences.

use simprof_model::{HeapProfile, Notice, NoticeId};

use super::{ChurnSummary, LeakSummary, LeakVerdict, MemoryLine, MemorySummary};
use crate::format;

/// Share of the growth of the resident set that the recorded memory must explain.
pub(super) const EXPLAINED_MIN: f64 = 0.5;
/// Share of CPU time from which short-lived allocations are worth avoiding.
const NOTABLE_GAIN: f64 = 0.005;
/// Reallocations per block from which a line grows its blocks in many small steps.
const REGROWTH: f64 = 2.0;

/// Returns the notices about the recording.
pub(super) fn notices(profile: &HeapProfile) -> Vec<Notice> {
    let recorded = profile.provenance.notices.iter().cloned();
    recorded.chain(unexplained_growth(profile)).chain(growth_of_files(profile)).collect()
}

/// Returns a notice if no allocation was recorded, or too few to explain how the resident set grew.
pub fn unexplained_growth(profile: &HeapProfile) -> Option<Notice> {
    const UNSEEN: &str = "in ways that simprof cannot record: an allocator of the program's own without the shim of \
                          simprof-probe, static memory, or libraries that call the kernel directly";
    let notice = |text| Some(Notice::new(NoticeId::HeapGrowthUnexplained, text));
    let provenance = &profile.provenance;
    if let Some(coverage) = provenance.coverage
        && let Some(share) = coverage.explained().filter(|share| *share < EXPLAINED_MIN)
    {
        return notice(format!(
            "The recorded allocations explain {} of the {} by which the resident set grew (mapped files not counted). The rest \
             was allocated {UNSEEN}.",
            format::share(share),
            format::bytes(coverage.growth_without_files() as f64)
        ));
    }
    if profile.sites.iter().any(|site| site.amounts.records > 0) {
        return None;
    }
    notice(match provenance.interval_bytes {
        0 | 1 => {
            format!(
                "No allocation was recorded: the target makes none, or makes all of them {UNSEEN}."
            )
        }
        bytes => format!(
            "No allocation was sampled, with one sample per {} on average: the target allocates little, or allocates {UNSEEN}. A smaller \
             --memory-interval samples more.",
            format::bytes(bytes as f64)
        ),
    })
}

/// Returns a notice if most of the growth of the resident set is not allocations but pages of files.
fn growth_of_files(profile: &HeapProfile) -> Option<Notice> {
    let coverage = profile.provenance.coverage?;
    let (growth, files) = (coverage.rss_growth_bytes, coverage.rss_file_growth_bytes);
    (files as f64 > EXPLAINED_MIN * growth as f64).then(|| {
        let text = format!(
            "Of the {} by which the resident set grew, {} are pages of mapped files and shared memory, which are not allocations.",
            format::bytes(growth as f64),
            format::bytes(files as f64)
        );
        Notice::new(NoticeId::HeapGrowthOfFiles, text)
    })
}

/// Returns the findings, the most important first.
pub(super) fn statements(summary: &MemorySummary) -> Vec<String> {
    if summary.is_unseen() {
        return vec!["Memory was not recorded: no allocation was seen.".to_owned()];
    }
    let mut sentences = vec![whole(summary)];
    if let Some(line) = summary.lines.iter().max_by_key(|line| line.peak.bytes) {
        sentences.push(format!(
            "{} has the most live memory at the peak: {} of {}.",
            location(&line.function, line.file.as_deref(), line.line),
            format::bytes(line.peak.bytes as f64),
            format::bytes(summary.peak.bytes as f64)
        ));
    }
    sentences.extend(summary.leaks.iter().take(3).map(leak_sentence));
    sentences.extend(
        summary.leaks_untold.iter().map(|reason| format!("Leaks: cannot tell ({reason}).")),
    );
    let notable = |churn: &&ChurnSummary| churn.cpu_share.is_none_or(|share| share >= NOTABLE_GAIN);
    let mut churn: Vec<_> = summary.churn.iter().filter(notable).take(3).collect();
    if churn.is_empty() {
        churn.extend(summary.churn.first());
    }
    sentences.extend(churn.into_iter().map(churn_sentence));
    sentences.extend(summary.lines.iter().filter_map(regrowth).take(2));
    sentences
}

/// Share of the allocated bytes from which a sentence names those outside of steps.
const OUTSIDE_MIN: f64 = 0.01;

fn whole(summary: &MemorySummary) -> String {
    let mut sentence = format!(
        "{}{} were allocated in {} allocation{}; at most {} were live{}.",
        match (summary.is_blind(), summary.unrecorded) {
            (true, _) => "Most memory was not recorded. Of the recorded memory, ".to_owned(),
            (false, 0) => String::new(),
            (false, 1) => "Not counting 1 process that was not recorded, ".to_owned(),
            (false, many) => format!("Not counting {many} processes that were not recorded, "),
        },
        format::bytes(summary.allocated.bytes as f64),
        format::count(summary.allocated.count as f64),
        if summary.allocated.count == 1 { "" } else { "s" },
        format::bytes(summary.peak.bytes as f64),
        summary.peak_step.map_or_else(String::new, |step| format!(", in step {step}"))
    );
    if let (Some(in_steps), true) = (summary.in_steps, summary.allocated.bytes > 0) {
        let outside = summary.allocated.bytes.saturating_sub(in_steps.bytes);
        let share = outside as f64 / summary.allocated.bytes as f64;
        if share >= OUTSIDE_MIN {
            sentence.push_str(&format!(
                " {} ({} of all) was allocated outside of steps.",
                format::bytes(outside as f64),
                format::share(share)
            ));
        }
    }
    if let Some(step) = summary.per_step {
        sentence.push_str(&format!(
            " Each step allocates {} in {} allocations (counting reallocations), and frees {} of that before it ends.",
            format::bytes(step.allocated_bytes),
            format::count(step.allocations),
            format::bytes(step.temporary_bytes)
        ));
    }
    sentence
}

pub(super) fn leak_sentence(leak: &LeakSummary) -> String {
    let location = location(&leak.function, leak.file.as_deref(), leak.line);
    let rate = format!(
        "{} per {}",
        format::with_interval(leak.rate_bytes, leak.rate_interval, format::bytes),
        leak.per
    );
    let corrected = leak.per_agent_bytes.map_or("", |_| ", corrected for the population");
    match leak.verdict {
        LeakVerdict::Growing if leak.freed_at_end => format!(
            "{location} grows by {rate}{corrected}, and is freed when the program ends: probably a cache, or a global container."
        ),
        LeakVerdict::Growing => format!("{location} leaks {rate}{corrected}."),
        LeakVerdict::Confounded => format!(
            "{location} grows by {rate}, but the population grows too, so it is unknown whether it leaks. Profile a run with a \
             constant population to find out."
        ),
    }
}

fn churn_sentence(churn: &ChurnSummary) -> String {
    let location = location(&churn.function, churn.file.as_deref(), churn.line);
    let per_step = churn
        .per_step
        .map_or_else(String::new, |per_step| format!(", {} per step", format::count(per_step)));
    let gain = match (churn.cpu_share, churn.speed_up) {
        (Some(share), Some(times)) if share >= NOTABLE_GAIN => format!(
            ". The allocator takes {} of CPU time for them: reusing the memory would make the program about {} faster, or more \
             if other functions free it",
            format::share(share),
            format::share(times - 1.0)
        ),
        (Some(share), _) => format!(
            ". The allocator takes {} of CPU time for them: there is little to gain",
            format::share(share)
        ),
        _ => String::new(),
    };
    format!(
        "{location} makes {} short-lived allocations{per_step} ({} of all){gain}.",
        format::count(churn.short.count as f64),
        format::share(churn.share_of_all)
    )
}

/// Returns a sentence on a line that grows its blocks in many small steps.
fn regrowth(line: &MemoryLine) -> Option<String> {
    let blocks = line.allocated.count.saturating_sub(line.reallocations);
    let grows = line.reallocations as f64 >= REGROWTH * blocks.max(1) as f64;
    (grows && line.allocated_share >= 0.01).then(|| {
        format!(
            "{} grows its memory in small steps: {} of its {} allocations are reallocations. Allocating the final size at once \
             avoids them.",
            location(&line.function, line.file.as_deref(), line.line),
            format::count(line.reallocations as f64),
            format::count(line.allocated.count as f64)
        )
    })
}

fn location(function: &str, file: Option<&str>, line: Option<u32>) -> String {
    match (file, line) {
        (Some(file), Some(line)) => {
            let short = file.rsplit('/').next().unwrap_or(file);
            format!("{short}:{line} in {function}")
        }
        _ => function.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use simprof_model::{HeapAmount, HeapCoverage, has_notice};

    use super::super::tests::leaking;
    use super::super::{Amount, memory_summary};
    use super::*;
    use crate::testing::heap;

    #[test]
    fn a_recording_that_explains_little_has_a_notice() {
        let mut profile = leaking();
        for (live_mib, file_mib, blind) in
            [(49, 0, true), (51, 0, false), (29, 40, true), (31, 40, false), (1, 80, false)]
        {
            profile.provenance.coverage = Some(HeapCoverage {
                rss_growth_bytes: 100 << 20,
                rss_file_growth_bytes: file_mib << 20,
                live_bytes: live_mib << 20,
            });
            let summary = memory_summary(&profile, None, &|_, _| None);
            let warned = has_notice(&summary.notices, NoticeId::HeapGrowthUnexplained);
            assert_eq!(warned, blind, "{live_mib} MiB of 100, {file_mib} of files");
            let files = summary.notices.iter().find(|n| n.id == NoticeId::HeapGrowthOfFiles);
            assert_eq!(files.is_some(), file_mib == 80, "{:?}", summary.notices);
            assert!(files.is_none_or(|notice| notice.text.contains("80 MiB are pages")));
            let limited = summary.statements[0].starts_with("Most memory was not recorded.");
            assert_eq!(limited, blind, "{:?}", summary.statements);
        }
    }

    #[test]
    fn a_recording_without_allocations_has_a_notice() {
        let mut profile = heap(&[]);
        for (interval_bytes, words) in [(1, "makes none"), (4096, "one sample per 4 KiB")] {
            profile.provenance.interval_bytes = interval_bytes;
            let summary = memory_summary(&profile, None, &|_, _| None);
            assert_eq!(summary.statements, ["Memory was not recorded: no allocation was seen."]);
            assert_eq!(summary.notices[0].id, NoticeId::HeapGrowthUnexplained);
            assert!(summary.notices[0].text.contains(words), "{:?}", summary.notices);
        }
        assert_eq!(unexplained_growth(&leaking()), None);
    }

    #[test]
    fn the_gain_of_avoiding_churn_is_not_an_upper_bound() {
        let churn = ChurnSummary {
            function: "s::f".to_owned(),
            file: None,
            line: None,
            text: None,
            short: Amount::new(HeapAmount { count: 5000, ..HeapAmount::default() }, 1),
            share_of_all: 0.5,
            per_step: None,
            cpu_share: Some(0.2),
            speed_up: Some(1.25),
        };
        let sentence = churn_sentence(&churn);
        assert!(
            sentence.contains("about 25 % faster") && !sentence.contains("at most"),
            "{sentence}"
        );
        let unknown = churn_sentence(&ChurnSummary { cpu_share: None, speed_up: None, ..churn });
        assert!(!unknown.contains("CPU time") && !unknown.contains("little to gain"), "{unknown}");
    }

    #[test]
    fn blocks_that_grow_in_small_steps_are_reported() {
        let mut profile = heap(&[("main@1 > s::push@5 > realloc", 1000)]);
        profile.sites[0].amounts.allocated.count = 9;
        profile.sites[0].amounts.reallocations = 8;
        let summary = memory_summary(&profile, None, &|_, _| None);
        assert!(
            summary.statements.iter().any(|s| s.contains("8 of its 9 allocations")),
            "{summary:?}"
        );
    }
}
