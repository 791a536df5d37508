//! The verdict on a figure: only if the spec sets a limit, and only if the whole interval agrees.

use simprof_report::summary::{Bounds, Growth, GrowthVerdict, ReadinessVerdict};

use crate::spec::Limits;

/// A verdict with the word for the quantity.
pub type Judged = (ReadinessVerdict, String);

/// The words for good, acceptable and poor values of a quantity.
pub type Words = [&'static str; 3];

/// Which values are better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Better {
    /// Large ones, such as speed.
    Larger,
    /// Small ones, such as memory.
    Smaller,
}

/// Returns the verdict on a value. Without limits there is none. If the ends of the interval get different verdicts, the
/// data do not decide.
pub fn judge(
    value: f64,
    interval: Option<Bounds>,
    limits: Option<Limits>,
    better: Better,
    words: Words,
) -> Judged {
    let Some(limits) = limits else { return not_asked() };
    let [low, high] = interval.unwrap_or([value, value]).map(|end| grade(end, limits, better));
    if low == high {
        return (low, words[place(low)].to_owned());
    }
    let (best, worst) = (place(low).min(place(high)), place(low).max(place(high)));
    (ReadinessVerdict::CannotTell, format!("{} or {}", words[best], words[worst]))
}

/// Returns the verdict on a quantity that the spec sets no limit for.
pub fn not_asked() -> Judged {
    (ReadinessVerdict::NotAsked, "no limit is set".to_owned())
}

fn grade(value: f64, limits: Limits, better: Better) -> ReadinessVerdict {
    let within = |limit: f64| match better {
        Better::Larger => value >= limit,
        Better::Smaller => value <= limit,
    };
    if within(limits.good) {
        ReadinessVerdict::Good
    } else if within(limits.acceptable) {
        ReadinessVerdict::Acceptable
    } else {
        ReadinessVerdict::Poor
    }
}

/// Returns the position of a grade in [`Words`].
fn place(verdict: ReadinessVerdict) -> usize {
    match verdict {
        ReadinessVerdict::Good => 0,
        ReadinessVerdict::Acceptable => 1,
        _ => 2,
    }
}

/// Returns the verdict on the growth of memory. Growth that is shown and continues is a leak, even if the spec sets no
/// limit. Without shown growth, the figure must be within the limit.
pub fn judge_growth(growth: &Growth, limits: Option<Limits>) -> Judged {
    let by_limits = judge(
        growth.kb_per_step,
        growth.interval,
        limits,
        Better::Smaller,
        ["stable", "watch", "leak"],
    );
    let cannot_tell = |why: &str| (ReadinessVerdict::CannotTell, why.to_owned());
    match growth.verdict {
        GrowthVerdict::Grows if limits.is_none() => (ReadinessVerdict::Poor, "leak".to_owned()),
        GrowthVerdict::Grows if by_limits.0 == ReadinessVerdict::Good => {
            (ReadinessVerdict::Good, "grows, within the limit".to_owned())
        }
        GrowthVerdict::Grows => by_limits,
        GrowthVerdict::Steady | GrowthVerdict::LevelledOff => match by_limits.0 {
            ReadinessVerdict::NotAsked => {
                (ReadinessVerdict::NotAsked, growth.verdict.describe().to_owned())
            }
            ReadinessVerdict::Good => by_limits,
            _ => cannot_tell("run longer"),
        },
        GrowthVerdict::RunLonger => cannot_tell("run longer"),
        GrowthVerdict::Inconclusive => cannot_tell("too noisy"),
        GrowthVerdict::Confounded => cannot_tell("grows along with the population"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ReadinessVerdict::{Acceptable, CannotTell, Good, NotAsked, Poor};

    const LIMITS: Option<Limits> = Some(Limits { good: 50.0, acceptable: 200.0 });

    #[test]
    fn the_whole_interval_decides() {
        let words = ["a", "b", "c"];
        for (value, interval, verdict, word) in [
            (40.0, Some([30.0, 50.0]), Good, "a"),
            (94.3, Some([85.3, 107.0]), Acceptable, "b"),
            (300.0, Some([201.0, 400.0]), Poor, "c"),
            (48.0, Some([40.0, 56.0]), CannotTell, "a or b"),
            (100.0, Some([10.0, 900.0]), CannotTell, "a or c"),
            (51.0, None, Acceptable, "b"),
        ] {
            let judged = judge(value, interval, LIMITS, Better::Smaller, words);
            assert_eq!(judged, (verdict, word.to_owned()), "{value} {interval:?}");
        }
        let rates = Some(Limits { good: 100.0, acceptable: 50.0 });
        for (value, interval, verdict) in [
            (150.0, Some([110.0, 170.0]), Good),
            (90.0, Some([80.0, 99.0]), Acceptable),
            (100.0, Some([90.0, 110.0]), CannotTell),
            (20.0, None, Poor),
        ] {
            assert_eq!(judge(value, interval, rates, Better::Larger, words).0, verdict, "{value}");
        }
        assert_eq!(judge(1.0, None, None, Better::Larger, words).0, NotAsked);
    }

    #[test]
    fn a_verdict_on_growth_never_contradicts_its_figure() {
        let growth = |verdict, kb_per_step: f64, interval| Growth {
            kb_per_step,
            interval: Some(interval),
            verdict,
            n: 40,
            evidence: String::new(),
        };
        use GrowthVerdict::{Confounded, Grows, Inconclusive, LevelledOff, RunLonger, Steady};
        for (growth, unasked, asked) in [
            (growth(Grows, 94.3, [85.3, 107.0]), Poor, Acceptable),
            (growth(Grows, 400.0, [390.0, 410.0]), Poor, Poor),
            (growth(Grows, 20.0, [18.0, 21.0]), Poor, Good),
            (growth(RunLonger, 94.3, [85.3, 107.0]), CannotTell, CannotTell),
            (growth(RunLonger, 10.0, [9.0, 11.0]), CannotTell, CannotTell),
            (growth(Steady, 0.0, [0.0, 0.0]), NotAsked, Good),
            (growth(Steady, 94.0, [-3.0, 120.0]), NotAsked, CannotTell),
            (growth(Steady, 94.0, [60.0, 120.0]), NotAsked, CannotTell),
            (growth(LevelledOff, 1.0, [-1.0, 3.0]), NotAsked, Good),
            (growth(Inconclusive, 1.0, [-900.0, 900.0]), CannotTell, CannotTell),
            (growth(Confounded, 1.0, [0.5, 2.0]), CannotTell, CannotTell),
        ] {
            assert_eq!(judge_growth(&growth, None).0, unasked, "{growth:?}");
            assert_eq!(judge_growth(&growth, LIMITS).0, asked, "{growth:?}");
        }
    }
}
