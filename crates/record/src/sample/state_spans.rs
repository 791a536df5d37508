//! What a thread did over time, in spans of equal width: how much of its time is inside steps is known only after the run.

use std::ops::Range;

use simprof_model::StateSpan;

/// Spans that are kept per thread. When there are more, they become twice as wide.
const MAX_SPANS: u64 = 256;

/// Width of the spans at first, ns.
const FIRST_WIDTH_NS: u64 = 1_000_000;

/// What a thread does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Running,
    Runnable,
    Blocked,
    Unknown,
}

/// What a thread did over time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StateSpans {
    /// In order of time. Each is within one multiple of `width_ns`.
    spans: Vec<StateSpan>,
    width_ns: u64,
}

impl Default for StateSpans {
    fn default() -> Self {
        Self { spans: Vec::new(), width_ns: FIRST_WIDTH_NS }
    }
}

impl StateSpans {
    /// Adds what the thread did in a range of time after all earlier ones.
    pub fn add(&mut self, range: Range<u64>, kind: Kind) {
        if range.is_empty() {
            return;
        }
        let first_ns = self.spans.first().map_or(range.start, |span| span.begin_ns);
        while (range.end - 1) / self.width_ns - first_ns / self.width_ns >= MAX_SPANS {
            self.widen();
        }
        let mut begin_ns = range.start;
        while begin_ns < range.end {
            let end_ns = range.end.min((begin_ns / self.width_ns + 1) * self.width_ns);
            push(&mut self.spans, self.width_ns, span(begin_ns..end_ns, kind));
            begin_ns = end_ns;
        }
    }

    /// Removes waiting that is not the target's in a range of time.
    pub fn remove_blocked(&mut self, range: &Range<u64>) {
        remove_blocked(&mut self.spans, range, range.end - range.start);
    }

    /// Returns the spans. `waiting` is the part of the recorded blocked time that was waiting, 0 to 1; in the rest the thread
    /// was ready to run.
    pub fn finish(self, waiting: f64) -> Vec<StateSpan> {
        let divided = |span: StateSpan| {
            let blocked_ns = (span.blocked_ns as f64 * waiting).round() as u64;
            let runnable_ns = span.runnable_ns + span.blocked_ns.saturating_sub(blocked_ns);
            StateSpan { runnable_ns, blocked_ns, ..span }
        };
        self.spans.into_iter().map(divided).collect()
    }

    fn widen(&mut self) {
        self.width_ns *= 2;
        let mut wider = Vec::with_capacity(self.spans.len() / 2 + 1);
        self.spans.iter().for_each(|&span| push(&mut wider, self.width_ns, span));
        self.spans = wider;
    }
}

/// Divides `rest_ns` of waiting among spans, in proportion to the waiting in them that `located` does not explain: the waits
/// whose places are known, with the waiting time that each represents. Returns the end of each span and its part, ns.
pub(super) fn divide(
    spans: &[StateSpan],
    rest_ns: u64,
    located: &[(Range<u64>, u64)],
) -> Vec<(u64, u64)> {
    let mut spans = spans.to_vec();
    for (range, weight_ns) in located {
        remove_blocked(&mut spans, range, *weight_ns);
    }
    let whole: u64 = spans.iter().map(|span| span.blocked_ns).sum();
    let part = |span: &StateSpan| {
        let weight = rest_ns as f64 * span.blocked_ns as f64 / whole.max(1) as f64;
        (span.end_ns, weight.round() as u64)
    };
    spans.iter().map(part).filter(|&(_, weight_ns)| weight_ns > 0).collect()
}

/// Subtracts `weight_ns` of waiting, evenly over a range of time.
fn remove_blocked(spans: &mut [StateSpan], range: &Range<u64>, weight_ns: u64) {
    let share = weight_ns as f64 / range.end.saturating_sub(range.start).max(1) as f64;
    let first = spans.partition_point(|span| span.end_ns <= range.start);
    for span in spans[first..].iter_mut().take_while(|span| span.begin_ns < range.end) {
        let overlap_ns = span.end_ns.min(range.end) - span.begin_ns.max(range.start);
        let removed_ns = (overlap_ns as f64 * share).round() as u64;
        span.blocked_ns = span.blocked_ns.saturating_sub(removed_ns);
    }
}

fn span(range: Range<u64>, kind: Kind) -> StateSpan {
    let of = |wanted| if kind == wanted { range.end - range.start } else { 0 };
    StateSpan {
        begin_ns: range.start,
        end_ns: range.end,
        running_ns: of(Kind::Running),
        runnable_ns: of(Kind::Runnable),
        blocked_ns: of(Kind::Blocked),
        unknown_ns: of(Kind::Unknown),
    }
}

/// Appends a span, or merges it with the last one if both are in the same multiple of `width_ns`.
fn push(spans: &mut Vec<StateSpan>, width_ns: u64, span: StateSpan) {
    match spans.last_mut() {
        Some(last) if last.begin_ns / width_ns == span.begin_ns / width_ns => {
            last.end_ns = span.end_ns;
            last.running_ns += span.running_ns;
            last.runnable_ns += span.runnable_ns;
            last.blocked_ns += span.blocked_ns;
            last.unknown_ns += span.unknown_ns;
        }
        _ => spans.push(span),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: u64 = 1_000_000;

    fn sum(span: &StateSpan) -> u64 {
        span.running_ns + span.runnable_ns + span.blocked_ns + span.unknown_ns
    }

    #[test]
    fn a_range_is_divided_among_spans() {
        let mut spans = StateSpans::default();
        spans.add(MS / 2..MS + 10, Kind::Running);
        spans.add(MS + 10..MS + 10, Kind::Unknown);
        spans.add(MS + 10..MS + 50, Kind::Blocked);
        spans.add(5 * MS..5 * MS + 1, Kind::Runnable);
        spans.remove_blocked(&(MS + 40..9 * MS));
        let spans: Vec<_> = spans
            .finish(0.5)
            .iter()
            .map(|at| (at.begin_ns, at.end_ns, at.running_ns, at.runnable_ns, at.blocked_ns))
            .collect();
        assert_eq!(
            spans,
            [(MS / 2, MS, MS / 2, 0, 0), (MS, MS + 50, 10, 15, 15), (5 * MS, 5 * MS + 1, 0, 1, 0)]
        );
    }

    #[test]
    fn the_rest_is_where_no_wait_is_located() {
        let mut spans = StateSpans::default();
        for end_ms in [100, 200, 300] {
            spans.add(end_ms * MS - 50..end_ms * MS, Kind::Blocked);
        }
        // Waits across the ends of spans.
        spans.add(400 * MS - 100..400 * MS + 100, Kind::Blocked);
        let own = 100 * MS - 20..100 * MS + 5;
        spans.remove_blocked(&own);
        let spans = spans.finish(1.0);
        let divide = |rest_ns, located: &[(Range<u64>, u64)]| -> Vec<(u64, u64)> {
            divide(&spans, rest_ns, located)
        };
        let ends = [100 * MS, 200 * MS, 300 * MS, 400 * MS, 400 * MS + 100];
        let expect = |weights: [u64; 5]| -> Vec<(u64, u64)> {
            ends.into_iter().zip(weights).filter(|&(_, weight_ns)| weight_ns > 0).collect()
        };
        assert_eq!(divide(330, &[]), expect([30, 50, 50, 100, 100]));
        let first = (100 * MS - 50..100 * MS - 20, 30);
        // It represents a part of the other waits in its span.
        let second = (200 * MS - 10..200 * MS, 40);
        let third = (400 * MS - 50..400 * MS + 50, 100);
        let located = [first, second, third];
        assert_eq!(divide(320, &located), expect([0, 20, 100, 100, 100]));
        let all = [located[0].clone(), (0..401 * MS, 401 * MS)];
        assert_eq!(divide(60, &all), []);
        assert_eq!(super::divide(&[], 60, &[]), []);
    }

    proptest! {
        #[test]
        fn spans_are_disjoint_few_and_complete(
            parts in prop::collection::vec((0..40 * MS, 0..5_usize), 1..200),
            waiting in 0.0..=1.0,
        ) {
            let mut spans = StateSpans::default();
            // The thread may not exist all the time.
            let kinds = [Kind::Running, Kind::Runnable, Kind::Blocked, Kind::Unknown];
            let (mut now_ns, mut observed_ns) = (7 * MS + 3, 0);
            for (length_ns, kind) in parts {
                if let Some(&kind) = kinds.get(kind) {
                    spans.add(now_ns..now_ns + length_ns, kind);
                    observed_ns += length_ns;
                }
                now_ns += length_ns;
            }
            let spans = spans.finish(waiting);
            prop_assert!(spans.len() as u64 <= MAX_SPANS);
            prop_assert!(spans.is_sorted_by(|a, b| a.end_ns <= b.begin_ns));
            prop_assert!(spans.iter().all(|span| sum(span) <= span.end_ns - span.begin_ns));
            prop_assert_eq!(spans.iter().map(sum).sum::<u64>(), observed_ns);
        }
    }
}
