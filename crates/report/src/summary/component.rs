//! Phase 2: why it is slow.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use simprof_model::{Measurement, Value};
use simprof_stats::{Comparison, MARGIN_FLOOR, margin_from_control};

use super::arms::{Arm, ArmPoint, Winner, arms, compare_measurements, winners};
use super::common::{Bounds, Head};
use super::counters::{Counter, counters};
use super::laws::{Law, laws};
use super::macro_::ComponentCost;

/// phase2_summary.json.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ComponentSummary {
    /// What every summary begins with.
    #[serde(flatten)]
    pub head: Head,
    /// How each metric grows.
    pub laws: Vec<Law>,
    /// Configurations side by side.
    pub arms: Vec<Arm>,
    /// Which configuration wins, for each operation and knob.
    pub winners: Vec<Winner>,
    /// The baseline against itself, for each operation that has arms: what the margins come from.
    pub controls: Vec<Control>,
    /// Distribution of times within a process, where a benchmark reports it.
    pub latencies: Vec<LatencySummary>,
    /// Work done, by operation.
    pub counters: Vec<OperationCounters>,
    /// Components that were asked to work and did none.
    pub idle: Vec<IdleComponent>,
    /// Shares in the recorded run, where there are no component benchmarks.
    pub in_situ: Option<InSitu>,
    /// What it means, one sentence each.
    pub statements: Vec<String>,
}

/// The baseline measured twice: a difference is noise or bias.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Control {
    /// `component/operation`.
    pub operation: String,
    /// What is compared.
    pub metric: String,
    /// Second over first; 1 but for noise.
    pub ratio: f64,
    /// 95 % interval of the ratio.
    pub interval: Option<Bounds>,
    /// Relative margin that verdicts on this operation need: the larger of 3 % and twice the interval's half-width.
    pub margin: f64,
    /// Pairs of processes.
    pub n: usize,
    /// True where the same program differs from itself by more than noise explains.
    pub biased: bool,
}

/// Component shares of the recorded run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct InSitu {
    /// Where they come from.
    pub source: String,
    /// By share.
    pub components: Vec<ComponentCost>,
}

/// Percentiles of one metric at one point, the median over processes.
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
    /// Counters.
    pub counters: Vec<Counter>,
}

/// A component that did no work.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct IdleComponent {
    /// `component/operation`.
    pub operation: String,
    /// The counters that are zero everywhere.
    pub counters: Vec<String>,
}

/// Figures of a whole process.
const PROCESS_METRICS: [&str; 3] = ["wall_ms", "cpu_ms", "peak_rss_bytes"];

/// What is needed of a benchmark to read its measurements.
#[derive(Debug, Clone)]
pub struct BenchmarkShape<'a> {
    /// Parameters that are swept.
    pub sweeps: Vec<String>,
    /// Parameters that tell arms apart; the first value of each is the baseline.
    pub arms: Vec<(String, Value)>,
    /// What arms are compared by.
    pub metric: String,
    /// True where arms must compute the same answer.
    pub same_answer: bool,
    /// The baseline measured once more, where there are arms.
    pub control: Option<&'a Measurement>,
    /// Its measurements.
    pub measurements: Vec<&'a Measurement>,
}

/// Reads the measurements of all benchmarks.
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
    for benchmark in benchmarks {
        summary.laws.extend(benchmark.laws());
        benchmark.compare(&mut summary);
        summary.latencies.extend(benchmark.measurements.iter().flat_map(|m| latencies(m)));
        benchmark.count(&mut summary);
    }
    summary.statements = statements(&summary);
    summary
}

impl BenchmarkShape<'_> {
    fn operation(&self) -> String {
        let name = self.measurements.first().map_or("", |measurement| measurement.name.as_str());
        name.split(' ').next().unwrap_or_default().to_owned()
    }

    /// The laws of every arm in every swept parameter, of what the benchmark itself reports: figures of
    /// its whole process are mostly those of starting it.
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

    /// Measurements that differ in `sweep` alone, by the arm that they share; groups of one size are left out.
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

    /// Compares the arms of every knob, and names the winner of each.
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
            summary.winners.extend(winners(&points, parameter, &self.metric, margin));
        }
    }

    /// The control against the baseline: the same program twice.
    fn compare_control(&self) -> Option<Comparison> {
        let control = self.control?;
        let same = |candidate: &&&Measurement| candidate.parameters == control.parameters;
        let baseline = *self.measurements.iter().find(same)?;
        compare_measurements(baseline, control, &self.metric, MARGIN_FLOOR)
    }

    /// Every arm of a knob beside the baseline with the same other parameters.
    fn points(&self, parameter: &str, baseline: &Value) -> Vec<ArmPoint<'_>> {
        let is_baseline =
            |candidate: &Measurement| candidate.parameters.get(parameter) == Some(baseline);
        let arms = self.measurements.iter().filter(|measurement| !is_baseline(measurement));
        arms.filter_map(|arm| {
            let others = without(arm, parameter);
            let beside = self.measurements.iter().find(|candidate| {
                is_baseline(candidate) && without(candidate, parameter) == others
            })?;
            Some(ArmPoint { baseline: beside, arm, at: self.place(arm), size: self.size(arm) })
        })
        .collect()
    }

    /// The first swept parameter's value at this point.
    fn size(&self, measurement: &Measurement) -> Option<(String, f64)> {
        self.sweeps.iter().find_map(|sweep| {
            Some((sweep.clone(), measurement.parameters.get(sweep)?.as_number()?))
        })
    }

    /// The swept parameters' values: `entities=1000 queries=100`.
    fn place(&self, measurement: &Measurement) -> String {
        let value =
            |sweep: &String| Some(format!("{sweep}={}", measurement.parameters.get(sweep)?));
        let parts: Vec<String> = self.sweeps.iter().filter_map(value).collect();
        parts.join(" ")
    }

    /// Work done, and whether there was any.
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

fn without(
    measurement: &Measurement,
    parameter: &str,
) -> std::collections::BTreeMap<String, Value> {
    let mut others = measurement.parameters.clone();
    others.remove(parameter);
    others
}

/// Metrics that come as `NAME_p50_ns`, `NAME_p95_ns` and `NAME_p99_ns`.
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

fn statements(summary: &ComponentSummary) -> Vec<String> {
    let winners =
        summary.winners.iter().map(|winner| format!("{}: {}.", winner.component, winner.statement));
    let inert = summary.arms.iter().filter(|arm| arm.inert).map(|arm| {
        format!(
            "{}/{}: {} {} is inert against {}{}: neither the time nor the work done differs at any size measured.",
            arm.component,
            arm.operation,
            arm.parameter,
            arm.arm,
            arm.baseline,
            place(&arm.at)
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
            place(&arm.at)
        )
    });
    let idle = summary.idle.iter().map(|idle| {
        format!("{} did no work: {} stayed at 0.", idle.operation, idle.counters.join(", "))
    });
    let biased = summary.controls.iter().filter(|control| control.biased).map(|control| {
        format!(
            "{}: the baseline differs from itself by {:.1} %: something on this machine favours one of two equal runs, \
             so read its verdicts with care.",
            control.operation,
            (control.ratio - 1.0) * 100.0
        )
    });
    winners.chain(wrong).chain(inert).chain(idle).chain(biased).collect()
}

fn place(at: &str) -> String {
    if at.is_empty() { String::new() } else { format!(" at {at}") }
}
