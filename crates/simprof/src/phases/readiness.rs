//! Readiness for production: the verdict of each check with its evidence, or "not measured".

use simprof_report::summary::{Check, GrowthVerdict, Law, ReadinessVerdict, TimelineSummary};
use simprof_stats::scaling::ScalingFit;

use crate::plan::Plan;
use crate::session::Session;
use crate::spec::Readiness;

/// Returns the parameter that is the model's size: the one in the spec, or else `agents`, or else the
/// first that is swept.
pub fn size_parameter(plan: &Plan) -> Option<String> {
    let swept: Vec<&String> = plan.sweeps.iter().map(|sweep| &sweep.parameter).collect();
    let named = plan.spec.readiness.size.clone();
    let agents = swept.iter().find(|name| name.as_str() == "agents").map(|name| (*name).clone());
    named.or(agents).or_else(|| swept.first().map(|name| (*name).clone()))
}

/// Returns true if a law describes the time of a step, or the time of a run of the target.
pub fn is_time(law: &Law) -> bool {
    law.metric == "step_ms" || (law.metric == "wall_ms" && law.component.is_none())
}

/// Returns the law of time in a parameter: that of a step if there is one, else that of the run.
fn time_law<'a>(fits: &[&'a (Law, ScalingFit)], parameter: &str) -> Option<&'a (Law, ScalingFit)> {
    let law_of = |metric: &str| {
        fits.iter().copied().find(|(law, _)| {
            law.parameter == parameter && law.metric == metric && law.arm.is_empty()
        })
    };
    law_of("step_ms").or_else(|| law_of("wall_ms"))
}

/// Returns all checks.
pub fn checks(
    session: &Session<'_>,
    fits: &[&(Law, ScalingFit)],
    size: Option<&str>,
    timelines: &[TimelineSummary],
) -> Vec<Check> {
    let limits = &session.plan.spec.readiness;
    vec![
        speed(session, limits),
        memory(limits, fits, size),
        growth(limits, timelines),
        exponent(limits, fits, size),
    ]
}

fn not_measured(check: &str, threshold: f64, why: &str) -> Check {
    Check {
        check: check.to_owned(),
        value: None,
        interval: None,
        threshold,
        verdict: ReadinessVerdict::NotMeasured,
        word: "not measured".to_owned(),
        evidence: why.to_owned(),
    }
}

/// Returns the verdict on a value, and its word. Smaller values are better.
fn judge(value: f64, good: f64, poor: f64, words: [&str; 3]) -> (ReadinessVerdict, String) {
    let (verdict, word) = if value <= good {
        (ReadinessVerdict::Good, words[0])
    } else if value <= poor {
        (ReadinessVerdict::Acceptable, words[1])
    } else {
        (ReadinessVerdict::Poor, words[2])
    };
    (verdict, word.to_owned())
}

/// Checks the steps per second of the runs of phase 4 with the default parameters, which are not
/// sampled.
fn speed(session: &Session<'_>, limits: &Readiness) -> Check {
    const CHECK: &str = "steps per second";
    let record = session.folder.run().phase(simprof_model::Phase::System);
    let defaults = &session.plan.target.defaults;
    let measurements = record.map(|record| record.measurements.as_slice()).unwrap_or_default();
    let rates: Vec<f64> = measurements
        .iter()
        .filter(|measurement| &measurement.parameters == defaults)
        .flat_map(|measurement| measurement.replicate_medians("steps_per_second"))
        .collect();
    let Ok(rate) = simprof_stats::median(&rates) else {
        return sampled_speed(session, limits).unwrap_or_else(|| {
            let why = "the target has no steps, or no run with the default parameters succeeded";
            not_measured(CHECK, limits.steps_per_second, why)
        });
    };
    let interval = simprof_stats::median_interval(&rates, 0.95).ok().filter(|_| rates.len() >= 6);
    let (verdict, word) = judge_rate(rate, limits);
    Check {
        check: CHECK.to_owned(),
        value: Some(rate),
        interval: interval.map(|interval| [interval.lo, interval.hi]),
        threshold: limits.steps_per_second,
        verdict,
        word: word.to_owned(),
        evidence: format!(
            "median of {} runs with the default parameters, not sampled",
            rates.len()
        ),
    }
}

fn judge_rate(rate: f64, limits: &Readiness) -> (ReadinessVerdict, &'static str) {
    if rate >= limits.steps_per_second {
        (ReadinessVerdict::Good, "on target")
    } else if rate >= limits.steps_per_second_acceptable {
        (ReadinessVerdict::Acceptable, "acceptable")
    } else {
        (ReadinessVerdict::Poor, "slow")
    }
}

/// Checks the steps per second of the runs of phase 1, which are sampled. Returns `None` without
/// phase 1 or without steps.
fn sampled_speed(session: &Session<'_>, limits: &Readiness) -> Option<Check> {
    let (summary, _) = session.evidence.macro_.as_ref()?;
    let steps = summary.default.steps.as_ref()?;
    let (verdict, word) = judge_rate(steps.per_second, limits);
    Some(Check {
        check: "steps per second".to_owned(),
        value: Some(steps.per_second),
        interval: None,
        threshold: limits.steps_per_second,
        verdict,
        word: word.to_owned(),
        evidence: format!("median of phase 1's runs, which were sampled ({} steps)", steps.count),
    })
}

/// Checks the memory of each additional agent: the slope of the peak resident set against the size.
fn memory(limits: &Readiness, fits: &[&(Law, ScalingFit)], size: Option<&str>) -> Check {
    let check = format!("KB per {}", size.map_or("agent", |size| size.trim_end_matches('s')));
    let is_memory = |fit: &&&(Law, ScalingFit)| {
        Some(fit.0.parameter.as_str()) == size && fit.0.metric == "peak_rss_bytes"
    };
    let Some((law, _)) = fits.iter().find(is_memory) else {
        return not_measured(&check, limits.kb_per_agent, "the model's size is not swept");
    };
    let Some(slope) = slope(&law.sizes, &law.medians) else {
        return not_measured(
            &check,
            limits.kb_per_agent,
            "too few sizes to separate memory that grows with the model's size from memory that does not",
        );
    };
    let kb = slope.value / 1024.0;
    let (verdict, word) =
        judge(kb, limits.kb_per_agent, limits.kb_per_agent_high, ["good", "acceptable", "high"]);
    Check {
        check,
        value: Some(kb),
        interval: slope.interval.map(|bounds| bounds.map(|bytes| bytes / 1024.0)),
        threshold: limits.kb_per_agent,
        verdict,
        word,
        evidence: format!(
            "slope of the peak resident set over {} sizes, {} runs",
            law.sizes.len(),
            law.n
        ),
    }
}

/// A slope, and its interval if there are enough points.
struct Slope {
    value: f64,
    interval: Option<[f64; 2]>,
}

/// Returns the median of the slopes between all pairs of points (Theil 1950), with the range of the
/// central 95 % of them. Fewer than five points have no interval.
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
    Some(Slope { value, interval })
}

/// Checks the growth of memory with steps.
fn growth(limits: &Readiness, timelines: &[TimelineSummary]) -> Check {
    const CHECK: &str = "memory growth, KB per step";
    let grown = timelines.iter().filter_map(|timeline| Some((timeline, timeline.growth.as_ref()?)));
    let worst = grown.max_by(|a, b| a.1.kb_per_step.total_cmp(&b.1.kb_per_step));
    let Some((timeline, growth)) = worst else {
        let why = if timelines.iter().any(|timeline| timeline.steps > 0) {
            "the run is too short to measure growth; make it longer with [phase4] timelines"
        } else {
            "the target has no steps"
        };
        return not_measured(CHECK, limits.growth_kb_per_step, why);
    };
    let judged = judge(
        growth.kb_per_step,
        limits.growth_kb_per_step,
        limits.growth_kb_per_step_leak,
        ["stable", "watch", "leak"],
    );
    let (verdict, word) = match growth.verdict {
        GrowthVerdict::Steady | GrowthVerdict::LevelledOff => {
            (ReadinessVerdict::Good, "stable".to_owned())
        }
        GrowthVerdict::Grows => judged,
        _ if judged.0 == ReadinessVerdict::Good => judged,
        _ => (ReadinessVerdict::Acceptable, "cannot tell".to_owned()),
    };
    Check {
        check: CHECK.to_owned(),
        value: Some(growth.kb_per_step),
        interval: growth.interval,
        threshold: limits.growth_kb_per_step,
        verdict,
        word,
        evidence: format!("{}: {}; {}", timeline.case, growth.verdict.describe(), growth.evidence),
    }
}

/// Checks the exponent of time in the size.
fn exponent(limits: &Readiness, fits: &[&(Law, ScalingFit)], size: Option<&str>) -> Check {
    let check = format!("exponent of time in {}", size.unwrap_or("the size"));
    let Some((law, _)) = size.and_then(|size| time_law(fits, size)) else {
        return not_measured(&check, limits.exponent_linear, "no parameter is swept");
    };
    let Some(exponent) = law.exponent else {
        let why = law
            .inadequate
            .clone()
            .unwrap_or_else(|| "the data do not determine an exponent".to_owned());
        return not_measured(&check, limits.exponent_linear, &why);
    };
    let (verdict, word) = judge(
        exponent,
        limits.exponent_linear,
        limits.exponent_poor,
        ["linear or less", "sub-quadratic", "poor"],
    );
    Check {
        check,
        value: Some(exponent),
        interval: law.exponent_interval,
        threshold: limits.exponent_linear,
        verdict,
        word,
        evidence: format!(
            "{} over {} sizes, {} runs: {}",
            law.metric,
            law.sizes.len(),
            law.n,
            law.models.join(" or ")
        ),
    }
}

/// Returns sentences on the scaling laws, the size up to which the target is fast enough, and its
/// use of resources.
pub fn statements(
    session: &Session<'_>,
    fits: &[&(Law, ScalingFit)],
    size: Option<&str>,
    timelines: &[TimelineSummary],
) -> Vec<String> {
    let parameters: Vec<&str> = session
        .plan
        .sweeps
        .iter()
        .filter(|sweep| sweep.arm.is_empty())
        .map(|sweep| sweep.parameter.as_str())
        .collect();
    let extra = fits.iter().filter(|(law, _)| !law.arm.is_empty() && law.metric == "step_ms");
    let extra: Vec<String> = extra
        .filter_map(|(law, _)| Some(format!("With {}: {}", law.arm, law_sentence(law)?)))
        .collect();
    let mut sentences: Vec<String> = parameters
        .iter()
        .filter_map(|parameter| law_sentence(&time_law(fits, parameter)?.0))
        .collect();
    sentences.extend(extra);
    sentences.extend(size.and_then(|size| capacity(session, time_law(fits, size)?)));
    sentences.extend(timelines.iter().take(1).map(|timeline| {
        format!(
            "Case {}: {:.2} cores used on average, peak memory {}.",
            timeline.case,
            timeline.cpu_s / timeline.wall_s.max(f64::MIN_POSITIVE),
            simprof_report::format::bytes(timeline.peak_rss_bytes as f64)
        )
    }));
    sentences
}

fn law_sentence(law: &Law) -> Option<String> {
    let what = law.metric.trim_end_matches("_ms");
    let flat = law.is_constant();
    match (law.exponent, law.exponent_interval, &law.inadequate) {
        (Some(_), Some([low, high]), None) if flat => Some(format!(
            "{what} time shows no growth with {} (exponent {low:.2} to {high:.2}, 95 % interval, n = {}).",
            law.parameter, law.n
        )),
        (_, _, Some(why)) => {
            Some(format!("The growth of {what} time with {} is unknown: {why}.", law.parameter))
        }
        (Some(exponent), Some([low, high]), None) => Some(format!(
            "{what} time grows as {}^{exponent:.2} (95 % interval {low:.2} to {high:.2}), best described by {}, n = {}.",
            law.parameter,
            law.models.join(" or "),
            law.n
        )),
        _ => None,
    }
}

/// Returns a sentence on the largest size at which the target is fast enough.
fn capacity(session: &Session<'_>, (law, fit): &(Law, ScalingFit)) -> Option<String> {
    if law.metric != "step_ms" {
        return None;
    }
    let wanted = session.plan.spec.readiness.steps_per_second;
    Some(match fit.capacity(1e3 / wanted, session.plan.seed) {
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
