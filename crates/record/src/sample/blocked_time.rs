//! When a thread waited, coarsely: for waits whose places are not known one by one.

/// Spans that are kept per thread. When there are more, they become twice as wide.
const MAX_SPANS: usize = 128;

/// Width of the spans at first, ns.
const FIRST_WIDTH_NS: u64 = 1_000_000;

/// A span of time in which a thread waited once or several times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    end_ns: u64,
    blocked_ns: u64,
}

/// The time that a thread waited, over the run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BlockedTime {
    /// In order of time. Waits that end in the same multiple of `width_ns` share a span.
    spans: Vec<Span>,
    width_ns: u64,
}

impl Default for BlockedTime {
    fn default() -> Self {
        Self { spans: Vec::new(), width_ns: FIRST_WIDTH_NS }
    }
}

impl BlockedTime {
    /// Adds a wait of `blocked_ns` that ended at `end_ns`, after all earlier ones.
    pub fn add(&mut self, end_ns: u64, blocked_ns: u64) {
        if blocked_ns == 0 {
            return;
        }
        push(&mut self.spans, self.width_ns, Span { end_ns, blocked_ns });
        while self.spans.len() > MAX_SPANS {
            self.width_ns *= 2;
            let mut wider = Vec::with_capacity(MAX_SPANS);
            self.spans.iter().for_each(|&span| push(&mut wider, self.width_ns, span));
            self.spans = wider;
        }
    }

    /// Divides `rest_ns` of waiting among the spans, in proportion to the waiting in them that `located` does not explain:
    /// the ends and durations of waits whose place is known. Returns ends and durations.
    pub fn divide(&self, rest_ns: u64, located: &[(u64, u64)]) -> Vec<(u64, u64)> {
        let mut spans = self.spans.clone();
        for &(end_ns, weight_ns) in located {
            let at = spans.partition_point(|span| span.end_ns < end_ns);
            if let Some(span) = spans.get_mut(at) {
                span.blocked_ns = span.blocked_ns.saturating_sub(weight_ns);
            }
        }
        let whole: u64 = spans.iter().map(|span| span.blocked_ns).sum();
        let part = |span: &Span| {
            let weight = rest_ns as f64 * span.blocked_ns as f64 / whole.max(1) as f64;
            (span.end_ns, weight.round() as u64)
        };
        spans.iter().map(part).filter(|&(_, weight_ns)| weight_ns > 0).collect()
    }
}

/// Appends a span, or merges it with the last one if both end in the same multiple of `width_ns`.
fn push(spans: &mut Vec<Span>, width_ns: u64, span: Span) {
    match spans.last_mut() {
        Some(last) if last.end_ns / width_ns == span.end_ns / width_ns => {
            last.end_ns = span.end_ns;
            last.blocked_ns += span.blocked_ns;
        }
        _ => spans.push(span),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn the_rest_is_where_no_wait_is_located() {
        let mut blocked = BlockedTime::default();
        for (end_ns, blocked_ns) in [(100, 50), (200, 50), (250, 0), (300, 100)] {
            blocked.add(end_ns * MS, blocked_ns);
        }
        let divide = |rest_ns, located: &[(u64, u64)]| -> Vec<(u64, u64)> {
            let located: Vec<_> = located.iter().map(|&(ms, ns)| (ms * MS, ns)).collect();
            let parts = blocked.divide(rest_ns, &located);
            parts.into_iter().map(|(end_ns, ns)| (end_ns / MS, ns)).collect()
        };
        assert_eq!(divide(200, &[]), [(100, 50), (200, 50), (300, 100)]);
        assert_eq!(divide(60, &[(100, 20), (260, 90)]), [(100, 20), (200, 33), (300, 7)]);
        assert_eq!(divide(60, &[(100, 50), (200, 60), (300, 100)]), []);
        assert_eq!(BlockedTime::default().divide(60, &[]), []);
    }

    #[test]
    fn many_waits_share_spans_of_equal_width() {
        let mut blocked = BlockedTime::default();
        for wait in 1..=10_000 {
            blocked.add(wait * MS, 2);
        }
        assert!(blocked.spans.len() <= MAX_SPANS);
        let parts = blocked.divide(20_000, &[]);
        assert!(parts.is_sorted());
        assert_eq!(parts.iter().map(|part| part.1).sum::<u64>(), 20_000);
        assert!(parts.iter().all(|&(_, ns)| ns <= 2 * 256), "{parts:?}");
        assert_eq!(parts.last().map(|part| part.0), Some(10_000 * MS));
    }
}
