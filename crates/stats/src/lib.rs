//! Pure statistics of performance: intervals, comparison, scaling laws, drift, cliffs.
