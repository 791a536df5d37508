//! Readiness for production: the verdict of each check with its evidence, or "not measured".

mod verdict;

use simprof_model::{Measurement, NoticeId, Phase};
use simprof_report::summary::{
    Bounds, Check, FittedLaw, Growth, GrowthVerdict, RESIDENT_GRANULE, ReadinessVerdict, STEP_CPU,
    TimeLaws, TimelineSummary,
};

use self::verdict::{Better, Judged, judge, judge_growth};
use crate::plan::{Plan, Sweep};
use crate::session::Session;
use crate::spec::Limits;
use crate::text::counted;
use simprof_report::format::{bytes, duration_ns, three_digits};

/// Returns the parameter that is the model's size: the one in the spec, or else `agents`, or else the
/// first that is swept.
pub fn size_parameter(plan: &Plan) -> Option<String> {
    let swept: Vec<&String> = plan.sweeps.iter().map(|sweep| &sweep.parameter).collect();
    let named = plan.spec.readiness.size.clone();
    let agents = swept.iter().find(|name| name.as_str() == "agents").map(|name| (*name).clone());
    named.or(agents).or_else(|| swept.first().map(|name| (*name).clone()))
}

/// Returns the laws of time of a sweep, the one to use first.
pub fn time_laws<'a>(
    session: &Session<'_>,
    fits: impl IntoIterator<Item = &'a FittedLaw>,
    sweep: &Sweep,
) -> Option<TimeLaws<'a>> {
    TimeLaws::new(fits, &sweep.parameter, &sweep.arm, session.is_machine_busy())
}

/// Returns the laws of time in a parameter with the defaults of the others.
fn default_laws<'a>(
    session: &Session<'_>,
    fits: &[&'a FittedLaw],
    parameter: &str,
) -> Option<TimeLaws<'a>> {
    TimeLaws::new(fits.iter().copied(), parameter, "", session.is_machine_busy())
}

/// Returns all checks.
pub fn checks(
    session: &Session<'_>,
    fits: &[&FittedLaw],
    size: Option<&str>,
    timelines: &[TimelineSummary],
) -> Vec<Check> {
    let limits = &session.plan.spec.readiness;
    vec![
        speed(session, limits.speed()),
        memory(limits.memory(), fits, size),
        growth(session, limits.growth(), timelines),
        exponent(session, limits.exponent(), fits, size),
    ]
}

fn not_measured(check: &str, limits: Option<Limits>, why: &str) -> Check {
    let verdict = (ReadinessVerdict::NotMeasured, "not measured".to_owned());
    Check { value: None, ..check_of(check, 0.0, None, limits, verdict, why.to_owned()) }
}

fn check_of(
    check: &str,
    value: f64,
    interval: Option<Bounds>,
    limits: Option<Limits>,
    (verdict, word): Judged,
    evidence: String,
) -> Check {
    Check {
        check: check.to_owned(),
        value: Some(value),
        interval,
        threshold: limits.map(|limits| limits.good),
        verdict,
        word,
        evidence,
    }
}

/// Returns why there are no figures per step, if the target prints its steps in groups.
fn untimed(session: &Session<'_>) -> Option<&'static str> {
    let has = session.has_notice(Phase::System, NoticeId::StepOutputBuffered);
    has.then_some("the steps that the target prints could not be timed")
}

/// Checks the steps per second of the runs of phase 4 with the default parameters, which are not
/// sampled; without such runs those of phase 1.
fn speed(session: &Session<'_>, limits: Option<Limits>) -> Check {
    const CHECK: &str = "steps per second";
    let record = session.folder.run().phase(Phase::System);
    let defaults = &session.plan.target.defaults;
    let measurements = record.map(|record| record.measurements.as_slice()).unwrap_or_default();
    let rates: Vec<f64> = measurements
        .iter()
        .filter(|measurement| &measurement.parameters == defaults)
        .flat_map(|measurement| measurement.replicate_medians("steps_per_second"))
        .collect();
    let measured = simprof_stats::median(&rates).ok().map(|rate| {
        let interval = simprof_stats::median_interval(&rates, 0.95).ok();
        let interval = interval.filter(|_| rates.len() >= 6).map(|it| [it.lo, it.hi]);
        let runs = counted(rates.len(), "run");
        let cpu = step_cpu(session, measurements);
        (rate, interval, format!("median of {runs} with the default parameters, not sampled{cpu}"))
    });
    let sampled = || {
        let (summary, _) = session.evidence.macro_.as_ref()?;
        let steps = summary.default.steps.as_ref()?;
        let evidence = format!(
            "median of phase 1's runs, which were sampled ({} steps); a step takes {} of CPU time",
            steps.count,
            duration_ns(steps.cpu_ms_per_step * 1e6)
        );
        Some((steps.per_second, None, evidence))
    };
    match measured.or_else(sampled) {
        Some((rate, interval, evidence)) => {
            let words = ["on target", "acceptable", "slow"];
            let judged = judge(rate, interval, limits, Better::Larger, words);
            check_of(CHECK, rate, interval, limits, judged, evidence)
        }
        None => {
            let why = "the target has no steps, or no run with the default parameters succeeded";
            not_measured(CHECK, limits, untimed(session).unwrap_or(why))
        }
    }
}

/// Returns the CPU time of a step in the runs with the default parameters, as the end of the evidence.
fn step_cpu(session: &Session<'_>, measurements: &[Measurement]) -> String {
    let defaults = &session.plan.target.defaults;
    let of_defaults = measurements.iter().filter(|measured| &measured.parameters == defaults);
    let cpu_ms: Vec<f64> =
        of_defaults.flat_map(|measured| measured.replicate_medians(STEP_CPU)).collect();
    let Ok(ms) = simprof_stats::median(&cpu_ms) else { return String::new() };
    let busy = if session.is_machine_busy() { "; other programs used the machine too" } else { "" };
    format!("{busy}; a step takes {} of CPU time", duration_ns(ms * 1e6))
}

/// Checks the memory of each additional unit of the size: the slope of the peak resident set.
fn memory(limits: Option<Limits>, fits: &[&FittedLaw], size: Option<&str>) -> Check {
    let Some(size) = size else {
        return not_measured("peak memory, KiB per unit of size", limits, "no parameter is swept");
    };
    let check = format!("peak memory, KiB per unit of {size}");
    let is_memory = |fit: &&&FittedLaw| fit.0.parameter == size && fit.0.metric == "peak_rss_bytes";
    let Some((law, _)) = fits.iter().find(is_memory) else {
        return not_measured(&check, limits, "this parameter is not swept");
    };
    let Some(slope) = slope(&law.sizes, &law.medians) else {
        let why =
            "too few sizes to separate memory that grows with the size from memory that does not";
        return not_measured(&check, limits, why);
    };
    let interval = slope.interval.map(|bounds| bounds.map(|bytes| bytes / 1024.0));
    let falls = interval.map_or(slope.value, |[_, high]| high) < 0.0;
    let judged = match limits {
        Some(_) if falls => {
            (ReadinessVerdict::CannotTell, format!("memory does not grow with {size}"))
        }
        _ => judge(
            slope.value / 1024.0,
            interval,
            limits,
            Better::Smaller,
            ["good", "acceptable", "high"],
        ),
    };
    let evidence =
        format!("slope of the peak resident set over {} sizes, {} runs", law.sizes.len(), law.n);
    check_of(&check, slope.value / 1024.0, interval, limits, judged, evidence)
}

/// A slope, and its interval if there are enough points.
struct Slope {
    value: f64,
    interval: Option<[f64; 2]>,
}

/// Returns the median of the slopes of resident memory between all pairs of points (Theil 1950), with
/// the range of the central 95 % of them, widened by the granule of resident memory. Fewer than five
/// points have no interval.
fn slope(x: &[f64], y: &[f64]) -> Option<Slope> {
    if x.len() < 3 {
        return None;
    }
    let pairs = (0..x.len()).flat_map(|i| (i + 1..x.len()).map(move |j| (i, j)));
    let slopes: Vec<f64> =
        pairs.filter(|&(i, j)| x[i] != x[j]).map(|(i, j)| (y[j] - y[i]) / (x[j] - x[i])).collect();
    let value = simprof_stats::median(&slopes).ok()?;
    let end = |percentile: f64| simprof_stats::percentile(&slopes, percentile).ok();
    let interval =
        if x.len() >= 5 { end(2.5).zip(end(97.5)).map(|(low, high)| [low, high]) } else { None };
    let span =
        x.iter().copied().fold(0.0, f64::max) - x.iter().copied().fold(f64::INFINITY, f64::min);
    let granule = RESIDENT_GRANULE / span;
    let interval = interval.map(|[low, high]| [low - granule, high + granule]);
    Some(Slope { value, interval })
}

/// Checks the growth of memory with steps, in the run in which it is worst.
fn growth(session: &Session<'_>, limits: Option<Limits>, timelines: &[TimelineSummary]) -> Check {
    const CHECK: &str = "memory growth, KiB per step";
    let rank = |growth: &Growth| (growth.verdict == GrowthVerdict::Grows, growth.kb_per_step);
    let grown = timelines.iter().filter_map(|timeline| Some((timeline, timeline.growth.as_ref()?)));
    let worst = grown.max_by(|a, b| {
        let (a, b) = (rank(a.1), rank(b.1));
        a.0.cmp(&b.0).then(a.1.total_cmp(&b.1))
    });
    let Some((timeline, growth)) = worst else {
        let why = if timelines.iter().any(|timeline| timeline.steps > 0) {
            "the run is too short to measure growth; make it longer with [phase4] timelines"
        } else {
            untimed(session).unwrap_or("the target has no steps")
        };
        return not_measured(CHECK, limits, why);
    };
    let judged = judge_growth(growth, limits);
    let evidence = format!("{}: {}; {}", timeline.case, growth.verdict.describe(), growth.evidence);
    check_of(CHECK, growth.kb_per_step, growth.interval, limits, judged, evidence)
}

/// Checks the exponent of time in the size.
fn exponent(
    session: &Session<'_>,
    limits: Option<Limits>,
    fits: &[&FittedLaw],
    size: Option<&str>,
) -> Check {
    let check = format!("exponent of time in {}", size.unwrap_or("the size"));
    let Some(laws) = size.and_then(|size| default_laws(session, fits, size)) else {
        return not_measured(&check, limits, "no parameter is swept");
    };
    let (law, _) = laws.first;
    let Some(exponent) = law.exponent else {
        let why = law.inadequate.as_deref().unwrap_or("the data do not determine an exponent");
        let unknown = not_measured(&check, limits, why);
        let (verdict, word) = (ReadinessVerdict::CannotTell, "cannot tell".to_owned());
        return if limits.is_some() { Check { verdict, word, ..unknown } } else { unknown };
    };
    let words = ["linear or less", "sub-quadratic", "poor"];
    let judged = judge(exponent, law.exponent_interval, limits, Better::Smaller, words);
    let reason = laws.reason().map(|reason| format!("; {reason}")).unwrap_or_default();
    let evidence = format!(
        "{} over {} sizes, {} runs: {}{reason}",
        law.metric,
        law.sizes.len(),
        law.n,
        law.forms()
    );
    check_of(&check, exponent, law.exponent_interval, limits, judged, evidence)
}

/// Returns sentences on the scaling laws, the size up to which the target is fast enough, and its
/// use of resources.
pub fn statements(
    session: &Session<'_>,
    fits: &[&FittedLaw],
    size: Option<&str>,
    timelines: &[TimelineSummary],
) -> Vec<String> {
    let limits = session.plan.spec.readiness.growth();
    let is_leak = |growth: &Growth| judge_growth(growth, limits).0 == ReadinessVerdict::Poor;
    let mut sentences: Vec<String> = growing(timelines, is_leak);
    let (with_arm, default): (Vec<&Sweep>, Vec<&Sweep>) =
        session.plan.sweeps.iter().partition(|sweep| !sweep.arm.is_empty());
    let laws = |sweep: &&Sweep| time_laws(session, fits.iter().copied(), sweep);
    sentences.extend(default.iter().filter_map(laws).flat_map(|laws| laws.sentences()));
    let main = with_arm.iter().filter_map(laws).map(|laws| laws.first.0.sentence());
    sentences.extend(main);
    sentences.extend(size.and_then(|size| capacity(session, fits, size)));
    sentences.extend(timelines.iter().take(1).map(|timeline| {
        let ms = |ms: f64| duration_ns(ms * 1e6);
        let per_step = match (timeline.wall_ms_per_step, timeline.cpu_ms_per_step) {
            (Some(wall), Some(cpu)) => {
                format!(", {} of wall time and {} of CPU time per step", ms(wall), ms(cpu))
            }
            (Some(wall), None) => format!(", {} of wall time per step", ms(wall)),
            (None, _) => String::new(),
        };
        format!(
            "Case {}: {} cores used on average, peak memory {}{per_step}.",
            timeline.case,
            three_digits(timeline.cpu_s / timeline.wall_s.max(f64::MIN_POSITIVE)),
            bytes(timeline.peak_rss_bytes as f64)
        )
    }));
    sentences.extend(growing(timelines, |growth| !is_leak(growth)));
    sentences
}

/// Returns sentences on the runs whose memory grows, of those that are selected.
fn growing(timelines: &[TimelineSummary], is_selected: impl Fn(&Growth) -> bool) -> Vec<String> {
    let selected =
        timelines.iter().filter(|timeline| timeline.growth.as_ref().is_some_and(&is_selected));
    selected.filter_map(growth_sentence).collect()
}

/// Returns a sentence on the growth of memory in a run, if there is growth.
fn growth_sentence(timeline: &TimelineSummary) -> Option<String> {
    let growth = timeline.growth.as_ref()?;
    let (case, evidence) = (&timeline.case, &growth.evidence);
    match growth.verdict {
        GrowthVerdict::Grows => {
            Some(format!("Case {case}: memory grows with every step, {evidence}."))
        }
        GrowthVerdict::RunLonger => Some(format!(
            "Case {case}: whether memory keeps growing needs a longer run: {evidence}."
        )),
        _ => None,
    }
}

/// Returns a sentence on the largest size at which the target is as fast as the spec asks.
/// The limit is one of wall time, so this uses its law also on a busy machine.
fn capacity(session: &Session<'_>, fits: &[&FittedLaw], size: &str) -> Option<String> {
    let laws = default_laws(session, fits, size)?;
    let mut both = std::iter::once(laws.first).chain(laws.second);
    let (law, fit) = both.find(|(law, _)| law.metric == "step_ms")?;
    let wanted = session.plan.spec.readiness.speed()?.good;
    Some(match fit.as_ref()?.capacity(1e3 / wanted, session.plan.seed) {
        Ok(capacity) => format!(
            "{wanted} steps/s are reached up to about {:.0} {} (95 % interval {:.0} to {:.0}{}).",
            capacity.x,
            law.parameter,
            capacity.interval.lo,
            capacity.interval.hi,
            if capacity.open_above { " or beyond" } else { "" }
        ),
        Err(refusal) => {
            format!("The largest {} with {wanted} steps/s is unknown: {refusal}.", law.parameter)
        }
    })
}

#[cfg(test)]
mod tests {
    use simprof_report::summary::Law;

    use super::*;
    use crate::processes::fake::{FakeProcesses, FakeSession, plan_for};

    /// Returns the law of peak memory at five sizes, with `kb` more for each of `threads`.
    fn memory_law(kb: f64) -> FittedLaw {
        let sizes = vec![1.0, 100.0, 200.0, 400.0, 800.0];
        let law = Law {
            component: None,
            operation: None,
            arm: String::new(),
            metric: "peak_rss_bytes".to_owned(),
            parameter: "threads".to_owned(),
            exponent: None,
            exponent_interval: None,
            models: Vec::new(),
            formula: String::new(),
            medians: sizes.iter().map(|size| 1e8 + kb * 1024.0 * size).collect(),
            sizes,
            n: 30,
            inadequate: None,
            skipped_sizes: Vec::new(),
            missing_sizes: Vec::new(),
        };
        (law, None)
    }

    #[test]
    fn without_limits_nothing_is_judged() {
        let plan = plan_for("[target]\ncommand = [\"./sim\"]\n");
        let fake = FakeSession::new(&plan, &FakeProcesses::default());
        let law = memory_law(3.0);
        let checks = checks(&fake.session, &[&law], Some("threads"), &[]);
        assert_eq!(checks.len(), 4);
        for check in &checks {
            let verdicts = [ReadinessVerdict::NotAsked, ReadinessVerdict::NotMeasured];
            assert!(verdicts.contains(&check.verdict), "{check:?}");
            assert_eq!(check.threshold, None);
        }
        assert_eq!(checks[1].verdict, ReadinessVerdict::NotAsked);
        assert!((checks[1].value.expect("measured") - 3.0).abs() < 0.01);
        assert!(checks[1].check.contains("threads"), "{}", checks[1].check);
    }

    #[test]
    fn an_unknown_exponent_is_judged_as_unknown_only_if_it_is_asked() {
        let (law, fit) = memory_law(3.0);
        let law = (Law { metric: "step_ms".to_owned(), ..law }, fit);
        let limits = Some(Limits { good: 1.1, acceptable: 1.6 });
        let plan = plan_for("[target]\ncommand = [\"./sim\"]\n");
        let fake = FakeSession::new(&plan, &FakeProcesses::default());
        for (limits, verdict) in
            [(limits, ReadinessVerdict::CannotTell), (None, ReadinessVerdict::NotMeasured)]
        {
            let check = exponent(&fake.session, limits, &[&law], Some("threads"));
            assert_eq!(check.verdict, verdict);
        }
    }

    #[test]
    fn memory_that_falls_with_the_size_is_not_good() {
        let limits = Some(Limits { good: 10.0, acceptable: 50.0 });
        for (kb, verdict) in [
            (-8.0, ReadinessVerdict::CannotTell),
            (0.0, ReadinessVerdict::Good),
            (9.0, ReadinessVerdict::Good),
            (10.0, ReadinessVerdict::CannotTell),
            (30.0, ReadinessVerdict::Acceptable),
            (90.0, ReadinessVerdict::Poor),
        ] {
            let law = memory_law(kb);
            assert_eq!(memory(limits, &[&law], Some("threads")).verdict, verdict, "{kb}");
        }
    }
}
