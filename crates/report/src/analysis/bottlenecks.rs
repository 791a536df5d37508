//! The functions to look at first.

use serde::Serialize;

use super::functions::{FunctionCost, sort_by_charged, sort_by_self, sort_by_total};
use super::origin::Origin;

/// Total share from which a function may only call the work, such as `main`.
const PASSAGE_TOTAL: f64 = 0.95;
/// Self share below which such a function is omitted.
const PASSAGE_SELF: f64 = 0.01;
/// Charged share from which a function that the author did not write is listed together with the author's own.
const FOREIGN_SHARE: f64 = 0.01;

/// Three rankings of the functions of one profile.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Bottlenecks {
    /// Functions of any origin, by decreasing self share.
    pub by_self: Vec<FunctionCost>,
    /// The author's functions, charged with the libraries, the runtime and the kernel that they called, by decreasing
    /// [`FunctionCost::charged_share`]. Show this ranking first.
    pub by_charged: Vec<FunctionCost>,
    /// The author's functions by decreasing total share: with all they call, libraries and kernel included.
    pub by_total: Vec<FunctionCost>,
}

/// Returns the first `limit` functions of each ranking.
///
/// Spinning is in none of them. `by_self` and `by_charged` have every function with weight of that kind. If the profile has code of the author's,
/// `by_charged` omits other functions with a charged share below 1 %: mostly the start and the end of the process.
/// `by_total` has functions whose origin is [`Origin::Own`], or all functions if none is. It omits functions that
/// only call the work, such as `main` and its callers: a total share of 95 % or more and a self share below 1 %.
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
        costs.iter().filter(|cost| !cost.is_marker && is_shown(cost)).cloned().collect();
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
    fn passages_and_libraries_are_not_bottlenecks_by_total() {
        let lib = "/home/me/.cargo/registry/src/kd-1/lib.rs";
        let nearest = format!("main > sim::run > sim::look > kd::nearest%{lib}");
        let profile = profile(&[(&nearest, 60), ("main > sim::run > sim::move", 38), ("main", 2)]);
        let found = bottlenecks(&functions(&profile), 10);
        assert_eq!(names(&found.by_self), ["kd::nearest", "sim::move", "main"]);
        assert_eq!(names(&found.by_charged), ["sim::look", "sim::move", "main"]);
        assert_eq!(names(&found.by_total), ["main", "sim::look", "sim::move"]);
    }

    #[test]
    fn a_single_function_with_self_time_is_listed() {
        let found = bottlenecks(&functions(&profile(&[("main", 1)])), 10);
        assert_eq!(names(&found.by_total), ["main"]);
    }

    #[test]
    fn without_own_code_all_functions_are_ranked_up_to_the_limit() {
        let profile = profile(&[("k:entry > k:a", 1), ("k:entry > k:b", 2), ("k:entry > k:c", 3)]);
        let found = bottlenecks(&functions(&profile), 2);
        assert_eq!(names(&found.by_total), ["c", "b"]);
        assert_eq!(names(&found.by_self), ["c", "b"]);
        assert_eq!(bottlenecks(&[], 3).by_total, []);
    }
}
