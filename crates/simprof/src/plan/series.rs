//! The series of a measurement and its position in it, by which a limited run skips the largest sizes.

use simprof_measure::grid::{self, Axis, Parameters};
use simprof_model::Value;

use crate::spec::Benchmark;

/// Returns the series of a benchmark's point, which is its arm and its swept parameter, and its rank in it. A point that differs
/// from the baseline in no swept parameter belongs to the first sweep.
pub fn of_point(benchmark: &Benchmark, point: &Parameters, sweeps: &[Axis]) -> (String, usize) {
    let mut arm = point.clone();
    arm.retain(|name, _| benchmark.arms.contains_key(name));
    let series = format!("{} {}", benchmark.name(), grid::describe(&arm));
    let differs = |axis: &&Axis| point[&axis.name] != benchmark.baseline[&axis.name];
    match sweeps.iter().find(differs).or(sweeps.first()) {
        Some(axis) => (format!("{series} {}", axis.name), rank(&point[&axis.name], &axis.values)),
        None => (series, 0),
    }
}

/// Returns the number of smaller values in a sweep, or the position of the value if the values are not all numbers.
pub fn rank(value: &Value, values: &[Value]) -> usize {
    let numbers: Option<Vec<f64>> = values.iter().map(Value::as_number).collect();
    match (value.as_number(), numbers) {
        (Some(number), Some(numbers)) => numbers.iter().filter(|&&other| other < number).count(),
        _ => values.iter().position(|other| other == value).unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use crate::processes::fake::plan_for;

    #[test]
    fn points_are_ranked_by_size_within_arm_and_sweep() {
        let plan = plan_for(
            "[target]\ncommand = [\"./sim\", \"{n}\"]\n[parameters]\nn = { default = 1, sweep = [8, 2, 4] }\n\
             [[benchmark]]\ncomponent = \"c\"\noperation = \"o\"\ncommand = [\"./b\", \"{n}\", \"{m}\", \"{k}\"]\n\
             baseline = { n = 4, m = 1, k = \"a\" }\nsweep = { m = [1, 2], n = [2, 4, 8] }\n\
             arms = { k = [\"a\", \"b\"] }\nmetric = \"t_ns\"\n",
        );
        let ranks: Vec<usize> = plan.sweeps[0].planned.iter().map(|planned| planned.rank).collect();
        assert_eq!(ranks, [2, 0, 1]);
        let found: Vec<(String, &str, usize)> = plan.benchmarks[0]
            .planned
            .iter()
            .map(|planned| {
                (planned.name.replace("c/o ", ""), planned.series.as_str(), planned.rank)
            })
            .collect();
        let row = |name: &str, series, rank| (name.to_owned(), series, rank);
        assert_eq!(
            found,
            [
                row("k=a m=1 n=4", "c/o k=a m", 0),
                row("k=a m=2 n=4", "c/o k=a m", 1),
                row("k=a m=1 n=2", "c/o k=a n", 0),
                row("k=a m=1 n=8", "c/o k=a n", 2),
                row("k=b m=1 n=4", "c/o k=b m", 0),
                row("k=b m=2 n=4", "c/o k=b m", 1),
                row("k=b m=1 n=2", "c/o k=b n", 0),
                row("k=b m=1 n=8", "c/o k=b n", 2),
                row("k=a m=1 n=4 control", "c/o k=a m", 0),
            ]
        );
    }
}
