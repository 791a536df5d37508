//! The law of time that leads a report: of CPU time or of wall time.

use super::{FittedLaw, Law, STEP_CPU};

/// The laws of time in one parameter, in the order in which they are reported.
#[derive(Debug, Clone, Copy)]
pub struct TimeLaws<'a> {
    /// The law that headlines, predictions, checks and charts use.
    pub first: &'a FittedLaw,
    /// The other one, if it was measured.
    pub second: Option<&'a FittedLaw>,
    /// On a busy machine, the law of CPU time that could not be used although it is the better measure.
    pub unusable_cpu: Option<&'a Law>,
}

impl<'a> TimeLaws<'a> {
    /// Returns the laws of time of an arm (empty for the defaults), the more certain one first. On a machine that other programs use
    /// too, that is the CPU time of a step. If its law is unknown there, wall time is first nevertheless.
    ///
    /// Wall time is that of a step if there are steps, else that of the run. `None` if neither has a law.
    pub fn new(
        fits: impl IntoIterator<Item = &'a FittedLaw>,
        parameter: &str,
        arm: &str,
        is_machine_busy: bool,
    ) -> Option<Self> {
        let fits: Vec<&FittedLaw> = fits
            .into_iter()
            .filter(|(law, _)| law.parameter == parameter && law.arm == arm)
            .filter(|(law, _)| law.component.is_none())
            .collect();
        let of = |metric: &str| fits.iter().copied().find(|(law, _)| law.metric == metric);
        let cpu = of(STEP_CPU);
        let Some(wall) = of("step_ms").or_else(|| of("wall_ms")) else {
            return cpu.map(|first| Self { first, second: None, unusable_cpu: None });
        };
        Some(match cpu {
            Some(cpu) if is_machine_busy && cpu.0.exponent.is_some() => {
                Self { first: cpu, second: Some(wall), unusable_cpu: None }
            }
            Some(cpu) => {
                let unusable_cpu = is_machine_busy.then_some(&cpu.0);
                Self { first: wall, second: Some(cpu), unusable_cpu }
            }
            None => Self { first: wall, second: None, unusable_cpu: None },
        })
    }

    /// Returns why wall time is used on a busy machine. `None` if that is not the case.
    pub fn reason(&self) -> Option<String> {
        let why = self.unusable_cpu?.inadequate.as_deref().unwrap_or("it has no exponent");
        Some(format!("wall time, because how CPU time grows is unknown: {why}"))
    }

    /// Returns one sentence per law. The reason for wall time stands for the law of CPU time that is unknown.
    pub fn sentences(&self) -> Vec<String> {
        let Some(reason) = self.reason() else {
            let laws = std::iter::once(self.first).chain(self.second);
            return laws.map(|(law, _)| law.sentence()).collect();
        };
        let first = self.first.0.sentence();
        vec![format!("{} ({reason}).", first.trim_end_matches('.'))]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn law(metric: &str, exponent: Option<f64>) -> FittedLaw {
        let law = Law {
            component: None,
            operation: None,
            arm: String::new(),
            metric: metric.to_owned(),
            parameter: "agents".to_owned(),
            exponent,
            exponent_interval: exponent.map(|exponent| [exponent - 0.1, exponent + 0.1]),
            models: vec!["a n^b".to_owned()],
            formula: String::new(),
            sizes: vec![1.0, 2.0, 4.0, 8.0, 16.0],
            medians: vec![1.0, 2.0, 4.0, 8.0, 16.0],
            n: 30,
            inadequate: exponent.is_none().then(|| "4 sizes were measured".to_owned()),
            skipped_sizes: Vec::new(),
            missing_sizes: Vec::new(),
        };
        (law, None)
    }

    #[test]
    fn a_busy_machine_prefers_cpu_time_if_its_law_is_known() {
        let metrics = |laws: &TimeLaws<'_>| {
            let second = laws.second.map(|law| law.0.metric.clone());
            (laws.first.0.metric.clone(), second, laws.unusable_cpu.is_some())
        };
        let (step, wall) = (law("step_ms", Some(1.0)), law("wall_ms", Some(0.9)));
        let (cpu, unknown) = (law(STEP_CPU, Some(1.1)), law(STEP_CPU, None));
        for (fits, busy, first, second, unusable) in [
            (vec![&wall, &cpu, &step], false, "step_ms", Some(STEP_CPU), false),
            (vec![&wall, &cpu, &step], true, STEP_CPU, Some("step_ms"), false),
            (vec![&wall, &unknown, &step], true, "step_ms", Some(STEP_CPU), true),
            (vec![&wall, &unknown, &step], false, "step_ms", Some(STEP_CPU), false),
            (vec![&wall], true, "wall_ms", None, false),
            (vec![&cpu], true, STEP_CPU, None, false),
        ] {
            let laws = TimeLaws::new(fits, "agents", "", busy).expect("a law of time");
            let expected = (first.to_owned(), second.map(str::to_owned), unusable);
            assert_eq!(metrics(&laws), expected);
            assert_eq!(laws.reason().is_some(), unusable);
            assert_eq!(laws.sentences().len(), 1 + usize::from(second.is_some() && !unusable));
        }
        assert!(TimeLaws::new([&step], "agents", "index=grid", true).is_none());
        assert!(TimeLaws::new([&step], "steps", "", true).is_none());
        assert!(TimeLaws::new([], "agents", "", true).is_none());
    }
}
