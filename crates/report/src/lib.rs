//! Findings drawn from a run, and the files that show them.
