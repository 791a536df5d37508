//! A law in one sentence.

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

    /// Returns the best forms; if there are more than three, the first two and the number of the others.
    pub fn forms(&self) -> String {
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
        let (Some(exponent), Some([low, high])) = (self.exponent, self.exponent_interval) else {
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
        let verb = if exponent < 0.0 { "falls" } else { "grows" };
        format!(
            "{subject} {verb} as {parameter}^{exponent:.2} (95 % interval {low:.2} to {high:.2}), best described by {}, n = {}.",
            self.forms(),
            self.n
        )
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
