//! Raw data as CSV: one line for each sample of each process.

use anyhow::Result;
use serde::Serialize;
use simprof_model::Measurement;

/// Returns a summary as indented JSON.
///
/// # Errors
/// Returns an error if it cannot be represented as JSON, which would be a bug in simprof.
pub fn json(summary: &impl Serialize) -> Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec_pretty(summary)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// Returns all samples of `measurements` as CSV: parameters, process, metric and value.
///
/// # Errors
/// Returns an error if a row cannot be written.
pub fn samples<'a>(measurements: impl IntoIterator<Item = &'a Measurement>) -> Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record([
        "measurement",
        "component",
        "operation",
        "parameters",
        "status",
        "seed",
        "order",
        "metric",
        "sample",
        "value",
    ])?;
    for measurement in measurements {
        write_measurement(&mut writer, measurement)?;
    }
    Ok(writer.into_inner()?)
}

fn write_measurement(writer: &mut csv::Writer<Vec<u8>>, measurement: &Measurement) -> Result<()> {
    let parameters = simprof_measure::grid::describe(&measurement.parameters);
    let component = measurement.component.as_deref().unwrap_or_default();
    let operation = measurement.operation.as_deref().unwrap_or_default();
    for replicate in &measurement.replicates {
        let (seed, order) = (replicate.seed.to_string(), replicate.order.to_string());
        let status = replicate.status.to_string();
        let start =
            [measurement.name.as_str(), component, operation, &parameters, &status, &seed, &order];
        for (name, metric) in &replicate.metrics {
            for (index, value) in metric.samples.iter().enumerate() {
                let (index, value) = (index.to_string(), value.to_string());
                writer.write_record(start.iter().copied().chain([
                    name.as_str(),
                    &index,
                    &value,
                ]))?;
            }
        }
        for (name, value) in &replicate.counters {
            let value = value.to_string();
            writer.write_record(start.iter().copied().chain([name.as_str(), "counter", &value]))?;
        }
        if replicate.metrics.is_empty() {
            let reason = replicate.reason.as_deref().unwrap_or_default();
            writer.write_record(start.iter().copied().chain(["", "", reason]))?;
        }
    }
    Ok(())
}
