//! The few functions that a person should look at first.

use serde::Serialize;

use super::functions::{FunctionCost, sort_by_charged, sort_by_self, sort_by_total};
use super::origin::Origin;

/// Share of all weight from which a function that does nothing itself is only the way to the work.
const PASSAGE_TOTAL: f64 = 0.95;
/// Share of all weight below which a function does nothing itself.
const PASSAGE_SELF: f64 = 0.01;
/// Share of all weight from which a function that is not the author's is named beside the author's.
const FOREIGN_SHARE: f64 = 0.01;

/// Three short tables of the same profile.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Bottlenecks {
    /// Where the processor was: any function, by falling self share.
    pub by_self: Vec<FunctionCost>,
    /// Which functions answer for it: those of the author with what libraries, the runtime and the
    /// kernel did for them, by falling [`FunctionCost::charged_share`]. The one to show first.
    pub by_charged: Vec<FunctionCost>,
    /// Which of the author's functions cost most with all they call, libraries and kernel included,
    /// by falling total share.
    pub by_total: Vec<FunctionCost>,
}

/// The first `limit` functions of each table.
///
/// The tables by self share and by charged share hold every function that was executing, or that answers for others. The table by total share holds
/// functions whose origin is [`Origin::Own`] (all functions where none is), without those that are
/// only the way to the work: 95 % of the total or more, and less than 1 % by themselves, such as
/// `main` and what starts it. Where the author has any, a function of somebody else's that answers for less than 1 %
/// is not in the table by charged share: it is mostly the start and the end of the process.
pub fn bottlenecks(costs: &[FunctionCost], limit: usize) -> Bottlenecks {
    let has_own = costs.iter().any(is_own_work);
    let is_shown =
        |cost: &FunctionCost| if has_own { is_own_work(cost) } else { !is_passage(cost) };
    Bottlenecks {
        by_self: first(costs, limit, sort_by_self, |cost| cost.self_weight > 0),
        by_charged: first(costs, limit, sort_by_charged, |cost| {
            let is_own = cost.origin == Origin::Own || !has_own;
            cost.charged_weight > 0 && (is_own || cost.charged_share >= FOREIGN_SHARE)
        }),
        by_total: first(costs, limit, sort_by_total, is_shown),
    }
}

fn first(
    costs: &[FunctionCost],
    limit: usize,
    sort: fn(&mut [FunctionCost]),
    is_shown: impl Fn(&FunctionCost) -> bool,
) -> Vec<FunctionCost> {
    let mut shown: Vec<FunctionCost> =
        costs.iter().filter(|cost| is_shown(cost)).cloned().collect();
    sort(&mut shown);
    shown.truncate(limit);
    shown
}

fn is_own_work(cost: &FunctionCost) -> bool {
    cost.origin == Origin::Own && !is_passage(cost)
}

fn is_passage(cost: &FunctionCost) -> bool {
    cost.total_share >= PASSAGE_TOTAL && cost.self_share < PASSAGE_SELF
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::functions;
    use crate::testing::profile;

    fn names(costs: &[FunctionCost]) -> Vec<&str> {
        costs.iter().map(|cost| cost.name.as_str()).collect()
    }

    #[test]
    fn the_way_to_the_work_and_libraries_are_not_bottlenecks_by_total() {
        let lib = "/home/me/.cargo/registry/src/kd-1/lib.rs";
        let nearest = format!("main > sim::run > sim::look > kd::nearest%{lib}");
        let profile = profile(&[(&nearest, 60), ("main > sim::run > sim::move", 38), ("main", 2)]);
        let found = bottlenecks(&functions(&profile), 10);
        assert_eq!(names(&found.by_self), ["kd::nearest", "sim::move", "main"]);
        assert_eq!(names(&found.by_charged), ["sim::look", "sim::move", "main"]);
        assert_eq!(names(&found.by_total), ["main", "sim::look", "sim::move"]);
    }

    #[test]
    fn a_single_function_that_works_is_listed() {
        let found = bottlenecks(&functions(&profile(&[("main", 1)])), 10);
        assert_eq!(names(&found.by_total), ["main"]);
    }

    #[test]
    fn without_own_code_the_rest_is_shown_and_limits_hold() {
        let profile = profile(&[("k:entry > k:a", 1), ("k:entry > k:b", 2), ("k:entry > k:c", 3)]);
        let found = bottlenecks(&functions(&profile), 2);
        assert_eq!(names(&found.by_total), ["c", "b"]);
        assert_eq!(names(&found.by_self), ["c", "b"]);
        assert_eq!(bottlenecks(&[], 3).by_total, []);
    }
}
