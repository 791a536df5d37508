//! What to run, how often and in what order: benchmark harness, sweeps, schedules.
