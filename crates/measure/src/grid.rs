//! The parameter points of a measurement: one parameter varied at a time, in every arm.

use std::collections::BTreeMap;

use simprof_model::Value;

/// The values of all parameters, by name.
pub type Parameters = BTreeMap<String, Value>;

/// A parameter and its values.
#[derive(Debug, Clone, PartialEq)]
pub struct Axis {
    /// Name of the parameter.
    pub name: String,
    /// Values, in the order of the report.
    pub values: Vec<Value>,
}

/// Returns the points of a star design around `baseline`: each parameter of `sweeps` is varied alone, in every arm.
///
/// The parameters of `arms` are varied one at a time too. An arm is another configuration, not another size. Of equal points,
/// only the first is kept. Without axes, the result is the baseline.
pub fn star(baseline: &Parameters, sweeps: &[Axis], arms: &[Axis]) -> Vec<Parameters> {
    let mut points = Vec::new();
    for arm in one_at_a_time(baseline, arms) {
        for point in one_at_a_time(&arm, sweeps) {
            if !points.contains(&point) {
                points.push(point);
            }
        }
    }
    points
}

/// Returns `baseline` with one parameter changed, for each value of each axis. Without axes, returns `baseline`.
fn one_at_a_time(baseline: &Parameters, axes: &[Axis]) -> Vec<Parameters> {
    if axes.is_empty() {
        return vec![baseline.clone()];
    }
    let mut points = Vec::new();
    for axis in axes {
        for value in &axis.values {
            let mut point = baseline.clone();
            point.insert(axis.name.clone(), value.clone());
            points.push(point);
        }
    }
    points
}

/// Returns the name of a point, for example `agents=50 index=kdtree`. The parameters are sorted by name.
pub fn describe(point: &Parameters) -> String {
    let parts: Vec<String> = point.iter().map(|(name, value)| format!("{name}={value}")).collect();
    parts.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(name: &str, values: &[i64]) -> Axis {
        Axis {
            name: name.into(),
            values: values.iter().map(|&value| Value::Integer(value)).collect(),
        }
    }

    fn point(entries: &[(&str, i64)]) -> Parameters {
        entries.iter().map(|&(name, value)| (name.to_owned(), Value::Integer(value))).collect()
    }

    #[test]
    fn without_axes_the_result_is_the_baseline() {
        assert_eq!(star(&point(&[("a", 1)]), &[], &[]), [point(&[("a", 1)])]);
    }

    #[test]
    fn each_parameter_is_varied_alone_without_duplicate_points() {
        let points =
            star(&point(&[("a", 1), ("b", 1)]), &[axis("a", &[1, 2]), axis("b", &[1, 3])], &[]);
        let expected = [
            point(&[("a", 1), ("b", 1)]),
            point(&[("a", 2), ("b", 1)]),
            point(&[("a", 1), ("b", 3)]),
        ];
        assert_eq!(points, expected);
    }

    #[test]
    fn every_arm_has_the_complete_sweep() {
        let points = star(
            &point(&[("n", 1), ("arm", 0)]),
            &[axis("n", &[1, 2, 4])],
            &[axis("arm", &[0, 1])],
        );
        assert_eq!(points.len(), 6);
        assert_eq!(describe(&points[5]), "arm=1 n=4");
    }
}
