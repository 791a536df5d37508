//! The summary of phase 2: component benchmarks.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use simprof_model::{Measurement, Replicate, Status, Value};
use simprof_stats::{Comparison, MARGIN_FLOOR, margin_from_control};

use super::arms::{Arm, ArmPoint, arms, compare_measurements};
use super::common::{Bounds, Head};
use super::counters::{Counter, counters};
use super::laws::{Law, laws};
use super::macro_::ComponentCost;
use super::winner::{Winner, winner};

/// phase2_summary.json.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ComponentSummary {
    /// Fields common to all summaries.
    #[serde(flatten)]
    pub head: Head,
    /// The scaling law of each metric.
    pub laws: Vec<Law>,
    /// Arms compared with their baselines.
    pub arms: Vec<Arm>,
    /// The best arm for each operation and parameter.
    pub winners: Vec<Winner>,
    /// The baseline compared with itself, for each operation that has arms; the margins come from these.
    pub controls: Vec<Control>,
    /// Distribution of times within a process, if a benchmark reports it.
    pub latencies: Vec<LatencySummary>,
    /// Work done, by operation.
    pub counters: Vec<OperationCounters>,
    /// Components that did no work.
    pub idle: Vec<IdleComponent>,
    /// Component shares of the recorded run; only without component benchmarks.
    pub in_situ: Option<InSitu>,
    /// Findings, one sentence each.
    pub statements: Vec<String>,
}

/// The baseline measured twice: any difference is noise or bias.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Control {
    /// `component/operation`.
    pub operation: String,
    /// Metric that is compared.
    pub metric: String,
    /// Second measurement divided by the first; 1 without noise.
    pub ratio: f64,
    /// 95 % interval of the ratio.
    pub interval: Option<Bounds>,
    /// Relative margin of the verdicts on this operation: 3 %, or twice the half-width of the interval if that is larger.
    pub margin: f64,
    /// Pairs of processes.
    pub n: usize,
    /// Whether the two differ by more than noise explains.
    pub biased: bool,
}

/// Component shares of the recorded run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct InSitu {
    /// The recording that they come from.
    pub source: String,
    /// The components by share.
    pub components: Vec<ComponentCost>,
}

/// Percentiles of one metric at one point, each the median over processes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LatencySummary {
    /// The measurement.
    pub name: String,
    /// Stem of the metric: `nearby` for `nearby_p50_ns`.
    pub metric: String,
    /// Median, ns.
    pub p50_ns: f64,
    /// 95th percentile, ns.
    pub p95_ns: f64,
    /// 99th percentile, ns.
    pub p99_ns: f64,
}

/// Work done by one operation over all its points.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct OperationCounters {
    /// `component/operation`.
    pub operation: String,
    /// Its counters.
    pub counters: Vec<Counter>,
}

/// A component that did no work.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct IdleComponent {
    /// `component/operation`.
    pub operation: String,
    /// Its counters, which are all zero.
    pub counters: Vec<String>,
}

/// Metrics of a whole process.
const PROCESS_METRICS: [&str; 3] = ["wall_ms", "cpu_ms", "peak_rss_bytes"];

/// A benchmark: its parameters and its measurements.
#[derive(Debug, Clone)]
pub struct BenchmarkShape<'a> {
    /// Swept parameters.
    pub sweeps: Vec<String>,
    /// Parameters that distinguish arms, each with its value in the baseline.
    pub arms: Vec<(String, Value)>,
    /// Metric that arms are compared by.
    pub metric: String,
    /// Whether arms must compute the same answer.
    pub same_answer: bool,
    /// The second measurement of the baseline, if there are arms.
    pub control: Option<&'a Measurement>,
    /// All measurements but the control.
    pub measurements: Vec<&'a Measurement>,
}

/// Summarises the measurements of all benchmarks.
pub fn component_summary(head: Head, benchmarks: &[BenchmarkShape<'_>]) -> ComponentSummary {
    let mut summary = ComponentSummary {
        head,
        laws: Vec::new(),
        arms: Vec::new(),
        winners: Vec::new(),
        controls: Vec::new(),
        latencies: Vec::new(),
        counters: Vec::new(),
        idle: Vec::new(),
        in_situ: None,
        statements: Vec::new(),
    };
    let mut main_laws = Vec::new();
    for benchmark in benchmarks {
        let laws = benchmark.laws();
        match benchmark.missing_metric() {
            Some(reason) => main_laws.push(reason),
            None => main_laws
                .extend(laws.iter().filter(|law| benchmark.is_main(law)).map(Law::sentence)),
        }
        summary.laws.extend(laws);
        benchmark.compare(&mut summary);
        summary.latencies.extend(benchmark.measurements.iter().flat_map(|m| latencies(m)));
        benchmark.count(&mut summary);
    }
    summary.statements = statements(&summary, main_laws);
    summary
}

impl BenchmarkShape<'_> {
    fn operation(&self) -> String {
        let name = self.measurements.first().map_or("", |measurement| measurement.name.as_str());
        name.split(' ').next().unwrap_or_default().to_owned()
    }

    /// Returns the laws of every arm in every swept parameter. Metrics of the whole process are omitted unless arms are
    /// compared by them: they mostly measure the start of the process.
    fn laws(&self) -> Vec<Law> {
        let mut found = Vec::new();
        for sweep in &self.sweeps {
            for (arm, measurements) in self.groups(sweep) {
                found.extend(laws(&measurements, sweep, &arm).into_iter().map(|(law, _)| law));
            }
        }
        found.retain(|law| {
            law.metric == self.metric || !PROCESS_METRICS.contains(&law.metric.as_str())
        });
        found
    }

    /// Returns a sentence on why there is no value of the metric that the spec names; `None` if there is one, or no process
    /// ran.
    fn missing_metric(&self) -> Option<String> {
        let succeeded =
            self.measurements.iter().flat_map(|measurement| measurement.ok_replicates());
        let mut metrics: BTreeMap<&str, bool> = BTreeMap::new();
        for (name, metric) in succeeded.flat_map(|replicate| &replicate.metrics) {
            *metrics.entry(name.as_str()).or_default() |= !metric.samples.is_empty();
        }
        let text = match metrics.get(self.metric.as_str()) {
            _ if metrics.is_empty() => self.failure()?,
            Some(true) => return None,
            Some(false) => format!("the metric {} has no samples", self.metric),
            None => format!(
                "no process reported the metric {} that the spec names; reported: {}",
                self.metric,
                metrics.into_keys().collect::<Vec<_>>().join(", ")
            ),
        };
        Some(format!("{}: {text}.", self.operation()))
    }

    /// Returns how many of the processes that ran failed, and why the first did; `None` if none did.
    fn failure(&self) -> Option<String> {
        let processes = self.measurements.iter().flat_map(|measurement| &measurement.replicates);
        let processes: Vec<&Replicate> =
            processes.filter(|one| one.status != Status::Skipped).collect();
        let is_failure =
            |one: &&&Replicate| matches!(one.status, Status::Failed | Status::TimedOut);
        let failed: Vec<&&Replicate> = processes.iter().filter(is_failure).collect();
        let reason = failed.first()?.reason.as_deref().unwrap_or("the reason is not known");
        let processes = match (failed.len(), processes.len()) {
            (1, 1) => "the only process".to_owned(),
            (number, all) if number == all => format!("all {number} processes"),
            (number, all) => format!("{number} of {all} processes"),
        };
        Some(format!("{processes} failed: {}", reason.trim_end_matches('.')))
    }

    /// Whether a law is the main result on its parameter: that of the baseline, for the metric that the spec names.
    fn is_main(&self, law: &Law) -> bool {
        let baseline: Vec<String> =
            self.arms.iter().map(|(name, value)| format!("{name}={value}")).collect();
        law.metric == self.metric && law.arm == baseline.join(" ")
    }

    /// Returns groups of measurements that differ only in `sweep`, with the arm that they share. Groups with a single
    /// measurement are omitted.
    fn groups(&self, sweep: &str) -> Vec<(String, Vec<&Measurement>)> {
        let mut groups: Vec<(Vec<(String, Value)>, Vec<&Measurement>)> = Vec::new();
        for measurement in &self.measurements {
            let rest: Vec<(String, Value)> = measurement
                .parameters
                .clone()
                .into_iter()
                .filter(|(name, _)| name != sweep)
                .collect();
            match groups.iter_mut().find(|group| group.0 == rest) {
                Some(group) => group.1.push(measurement),
                None => groups.push((rest, vec![measurement])),
            }
        }
        groups.retain(|group| group.1.len() > 1);
        groups.into_iter().map(|(rest, group)| (self.arm_name(&rest), group)).collect()
    }

    fn arm_name(&self, parameters: &[(String, Value)]) -> String {
        let arm = |name: &str| self.arms.iter().any(|arm| arm.0 == name);
        let parts: Vec<String> = parameters
            .iter()
            .filter(|(name, _)| arm(name))
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        parts.join(" ")
    }

    /// Compares the arms of every parameter, and determines the winner of each.
    fn compare(&self, summary: &mut ComponentSummary) {
        let control = self.compare_control();
        let from_control = control.as_ref().and_then(|control| margin_from_control(control).ok());
        let margin = from_control.unwrap_or(MARGIN_FLOOR);
        summary.controls.extend(control.map(|control| Control {
            operation: self.operation(),
            metric: self.metric.clone(),
            ratio: control.ratio,
            interval: control.interval.map(|interval| [interval.lo, interval.hi]),
            margin,
            n: control.n,
            biased: control.excludes_one() && (control.ratio.ln().abs() > MARGIN_FLOOR),
        }));
        for (parameter, baseline) in &self.arms {
            let points = self.points(parameter, baseline);
            let mut compared = arms(&points, parameter, &self.metric, margin);
            if !self.same_answer {
                compared.iter_mut().for_each(|arm| arm.same_answer = None);
            }
            summary.arms.extend(compared);
            summary.winners.extend(winner(&points, parameter, &self.metric, margin));
        }
    }

    /// Compares the control with the baseline: the same program twice.
    fn compare_control(&self) -> Option<Comparison> {
        let control = self.control?;
        let same = |candidate: &&&Measurement| candidate.parameters == control.parameters;
        let baseline = *self.measurements.iter().find(same)?;
        compare_measurements(baseline, control, &self.metric, MARGIN_FLOOR)
    }

    /// Returns every arm of a parameter with the baseline that has the same other parameters.
    fn points(&self, parameter: &str, baseline: &Value) -> Vec<ArmPoint<'_>> {
        let is_baseline =
            |candidate: &Measurement| candidate.parameters.get(parameter) == Some(baseline);
        let arms = self.measurements.iter().filter(|measurement| !is_baseline(measurement));
        arms.filter_map(|arm| {
            let others = without(arm, parameter);
            let beside = self.measurements.iter().find(|candidate| {
                is_baseline(candidate) && without(candidate, parameter) == others
            })?;
            Some(ArmPoint { baseline: beside, arm, at: self.point_name(arm), size: self.size(arm) })
        })
        .collect()
    }

    /// Returns the first swept parameter with its value at this point.
    fn size(&self, measurement: &Measurement) -> Option<(String, f64)> {
        self.sweeps.iter().find_map(|sweep| {
            Some((sweep.clone(), measurement.parameters.get(sweep)?.as_number()?))
        })
    }

    /// Returns the values of the swept parameters: `entities=1000 queries=100`.
    fn point_name(&self, measurement: &Measurement) -> String {
        let value =
            |sweep: &String| Some(format!("{sweep}={}", measurement.parameters.get(sweep)?));
        let parts: Vec<String> = self.sweeps.iter().filter_map(value).collect();
        parts.join(" ")
    }

    /// Adds the work done to the summary, and the component to the idle ones if it did none.
    fn count(&self, summary: &mut ComponentSummary) {
        let counters = counters(self.measurements.iter().copied());
        let operation = self.operation();
        let zero: Vec<String> = counters
            .iter()
            .filter(|counter| counter.most == 0.0)
            .map(|counter| counter.name.clone())
            .collect();
        if !counters.is_empty() && zero.len() == counters.len() {
            summary.idle.push(IdleComponent { operation: operation.clone(), counters: zero });
        }
        if !counters.is_empty() {
            summary.counters.push(OperationCounters { operation, counters });
        }
    }
}

fn without(measurement: &Measurement, parameter: &str) -> BTreeMap<String, Value> {
    let mut others = measurement.parameters.clone();
    others.remove(parameter);
    others
}

/// Returns the metrics that come as `NAME_p50_ns`, `NAME_p95_ns` and `NAME_p99_ns`.
fn latencies(measurement: &Measurement) -> Vec<LatencySummary> {
    let value = |stem: &str, percentile: &str| {
        let medians = measurement.replicate_medians(&format!("{stem}_{percentile}_ns"));
        simprof_stats::median(&medians).ok()
    };
    let stems =
        measurement.metric_names().into_iter().filter_map(|name| name.strip_suffix("_p50_ns"));
    stems
        .filter_map(|stem| {
            Some(LatencySummary {
                name: measurement.name.clone(),
                metric: stem.to_owned(),
                p50_ns: value(stem, "p50")?,
                p95_ns: value(stem, "p95")?,
                p99_ns: value(stem, "p99")?,
            })
        })
        .collect()
}

fn statements(summary: &ComponentSummary, laws: Vec<String>) -> Vec<String> {
    let winners =
        summary.winners.iter().map(|winner| format!("{}: {}.", winner.component, winner.statement));
    let inert = summary.arms.iter().filter(|arm| arm.inert).map(|arm| {
        format!(
            "{}/{}: {} {} is inert compared with {}{}: neither the time nor the work differs at any measured size.",
            arm.component,
            arm.operation,
            arm.parameter,
            arm.arm,
            arm.baseline,
            at_point(&arm.at)
        )
    });
    let wrong = summary.arms.iter().filter(|arm| arm.same_answer == Some(false)).map(|arm| {
        format!(
            "{}/{}: {} {} does not compute the same answer as {}{}.",
            arm.component,
            arm.operation,
            arm.parameter,
            arm.arm,
            arm.baseline,
            at_point(&arm.at)
        )
    });
    let idle = summary.idle.iter().map(|idle| {
        format!("{} did no work: {} remained 0.", idle.operation, idle.counters.join(", "))
    });
    let biased = summary.controls.iter().filter(|control| control.biased).map(|control| {
        format!(
            "{}: two measurements of the baseline differ by {:.1} %. Something on this machine favours one of two equal \
             runs, so the verdicts on this operation are unreliable.",
            control.operation,
            (control.ratio - 1.0).abs() * 100.0
        )
    });
    winners.chain(laws).chain(wrong).chain(inert).chain(idle).chain(biased).collect()
}

fn at_point(at: &str) -> String {
    if at.is_empty() { String::new() } else { format!(" at {at}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use simprof_model::Metric;

    /// Returns a measurement at size `n` whose only metric is `t_ns`.
    fn measurement(n: i64) -> Measurement {
        let replicate = |seed: u64| Replicate {
            seed,
            order: 0,
            status: Status::Ok,
            reason: None,
            metrics: [("t_ns".to_owned(), Metric::single(29.0 * n as f64 + 7.0))].into(),
            counters: [].into(),
            digest: None,
            load: None,
        };
        Measurement {
            name: format!("c/o n={n}"),
            component: Some("c".to_owned()),
            operation: Some("o".to_owned()),
            parameters: [("n".to_owned(), Value::Integer(n))].into(),
            status: Status::Ok,
            reason: None,
            replicates: (0..3).map(replicate).collect(),
        }
    }

    fn statements_for(metric: &str) -> Vec<String> {
        statements_of(metric, |_| {})
    }

    /// Returns the statements on five measurements whose processes were changed.
    fn statements_of(metric: &str, change: impl Fn(&mut Replicate)) -> Vec<String> {
        let mut measurements: Vec<Measurement> = [1, 2, 4, 8, 16].map(measurement).into();
        measurements.iter_mut().flat_map(|one| &mut one.replicates).for_each(change);
        let benchmark = BenchmarkShape {
            sweeps: vec!["n".to_owned()],
            arms: Vec::new(),
            metric: metric.to_owned(),
            same_answer: false,
            control: None,
            measurements: measurements.iter().collect(),
        };
        let head = Head {
            schema: String::new(),
            status: Status::Ok,
            target: String::new(),
            command: Vec::new(),
            mode: simprof_model::Mode::Quick,
            budget_s: None,
            measurements: Vec::new(),
            notices: Vec::new(),
        };
        component_summary(head, &[benchmark]).statements
    }

    #[test]
    fn the_law_of_a_benchmark_without_arms_is_a_result() {
        let statements = statements_for("t_ns");
        assert_eq!(statements.len(), 1, "{statements:?}");
        assert!(statements[0].contains("exponent 1.00"), "{statements:?}");
    }

    #[test]
    fn a_metric_that_no_process_reports_is_named() {
        let statements = statements_for("time_ns");
        assert_eq!(statements.len(), 1, "{statements:?}");
        assert!(statements[0].contains("time_ns") && statements[0].contains("t_ns"));
    }

    #[test]
    fn the_failure_of_all_processes_is_named_in_place_of_the_metric() {
        let statements = statements_of("t_ns", |replicate| {
            replicate.status = Status::Failed;
            replicate.reason = Some("exited with status 3".to_owned());
        });
        assert_eq!(statements.len(), 1, "{statements:?}");
        assert!(statements[0].contains("15") && statements[0].contains("exited with status 3"));
        assert!(!statements[0].contains("t_ns"), "{statements:?}");
    }

    #[test]
    fn a_metric_without_samples_is_named() {
        let statements = statements_of("t_ns", |replicate| {
            replicate.metrics.insert("t_ns".to_owned(), Metric { samples: Vec::new() });
        });
        assert_eq!(statements.len(), 1, "{statements:?}");
        assert!(statements[0].contains("t_ns"), "{statements:?}");
    }
}
