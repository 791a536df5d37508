//! A law in one sentence.

use simprof_stats::scaling::Term;

use super::Law;
use crate::format;

/// The metric of the CPU time of a step, which depends less on other programs than its wall time.
pub const STEP_CPU: &str = "cpu_ms_per_step";

impl Law {
    /// Returns what grows: `nearby_ns of spatial/nearby index=kdtree`, or `step time` for a run of the target.
    pub fn subject(&self) -> String {
        let arm = if self.arm.is_empty() { String::new() } else { format!(" {}", self.arm) };
        if self.component.is_some() {
            return format!("{} of {}{arm}", self.metric, self.operation_name());
        }
        let time = match self.metric.as_str() {
            STEP_CPU => Some("CPU time of a step".to_owned()),
            metric => metric.strip_suffix("_ms").map(|what| format!("{what} time")),
        };
        let metric = time.unwrap_or_else(|| self.metric.clone());
        if arm.is_empty() { metric } else { format!("{metric} with{arm}") }
    }

    /// Returns the best forms; if there are more than three, the first two and the number of the others. Empty if the data do
    /// not support a law: a form beside "cannot tell" would contradict it.
    pub fn forms(&self) -> String {
        if self.inadequate.is_some() {
            return String::new();
        }
        match self.models.as_slice() {
            [first, second, rest @ ..] if rest.len() > 1 => {
                format!("{first}, {second} or {} more", rest.len())
            }
            models => models.join(" or "),
        }
    }

    /// Returns the law as one sentence.
    pub fn sentence(&self) -> String {
        let sentence = self.describe();
        // Names of metrics keep their case.
        if self.component.is_some() { sentence } else { capitalised(&sentence) }
    }

    fn describe(&self) -> String {
        let (subject, parameter) = (self.subject(), &self.parameter);
        if let Some(why) = &self.inadequate {
            return format!("How {subject} grows with {parameter} is unknown: {why}.");
        }
        let (Some(_), Some([low, high])) = (self.exponent, self.exponent_interval) else {
            return format!("How {subject} grows with {parameter} is unknown.");
        };
        if self.did_no_work() {
            return format!("{subject} is 0 at every measured {parameter}: it did no work.");
        }
        if self.is_constant() {
            return format!(
                "{subject} shows no growth with {parameter}: {} at {}, {} at {} (exponent {low:.2} to {high:.2}, 95 % \
                 interval, n = {}).",
                self.end(0),
                self.sizes[0],
                self.end(self.sizes.len() - 1),
                self.sizes[self.sizes.len() - 1],
                self.n
            );
        }
        let growth = self.growth().unwrap_or_default();
        format!("{subject} {growth}, n = {}.", self.n)
    }

    /// Returns how the cost grows or falls: `grows as agents^1.92 (95 % interval 1.88 to 1.96; best described by a n^b)`. `None`
    /// without an exponent.
    ///
    /// If the interval contains the power of the best form, that power is shown, so that the reader sees one exponent.
    pub fn growth(&self) -> Option<String> {
        let (exponent, [low, high]) = (self.exponent?, self.exponent_interval?);
        let (parameter, forms) = (&self.parameter, self.forms());
        let best = if forms.is_empty() { forms } else { format!("; best described by {forms}") };
        let interval = format!("95 % interval {low:.2} to {high:.2}{best}");
        Some(match self.power().filter(|power| (low..=high).contains(power)) {
            Some(1.0) => format!(
                "grows about linearly with {parameter} (exponent {exponent:.2}, {interval})"
            ),
            Some(power) => {
                format!("grows about as {parameter}^{power} (exponent {exponent:.2}, {interval})")
            }
            None => {
                let verb = if exponent < 0.0 { "falls" } else { "grows" };
                format!("{verb} as {parameter}^{exponent:.2} ({interval})")
            }
        })
    }

    /// Returns the power of the best form if it has a fixed one.
    fn power(&self) -> Option<f64> {
        let name = self.models.first()?;
        Term::ALL.into_iter().find(|term| term.name() == name)?.power()
    }

    /// Whether the cost is 0 at every size.
    fn did_no_work(&self) -> bool {
        self.medians.iter().all(|&median| median == 0.0)
    }

    fn end(&self, index: usize) -> String {
        format::metric(&self.metric, self.medians[index])
    }
}

fn capitalised(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| {
        first.to_uppercase().collect::<String>() + characters.as_str()
    })
}
