//! Work counters of a step or a run.

use std::ops::AddAssign;

use crate::action::ActionKind;

/// Work done in a step, or the sum over steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Spatial queries to both indexes.
    pub queries: u64,
    /// Entries returned by those queries.
    pub hits: u64,
    /// Observations.
    pub observations: u64,
    /// Attempted actions, in the order of [`ActionKind::ALL`].
    pub tried: [u64; ActionKind::COUNT],
    /// Successful actions, in the same order.
    pub succeeded: [u64; ActionKind::COUNT],
    /// Births.
    pub births: u64,
    /// Deaths.
    pub deaths: u64,
    /// Rows passed to the database.
    pub rows_written: u64,
    /// Complete rebuilds of an index.
    pub index_rebuilds: u64,
    /// Moves, births and deaths applied to an index.
    pub index_moves: u64,
    /// Batches applied to an index.
    pub index_flushes: u64,
    /// Regions that had queued changes, summed over those batches.
    pub dirty_regions: u64,
}

impl Counters {
    /// Returns how often an action was attempted.
    #[must_use]
    pub fn tried(&self, kind: ActionKind) -> u64 {
        self.tried[kind as usize]
    }

    /// Returns how often an action succeeded.
    #[must_use]
    pub fn succeeded(&self, kind: ActionKind) -> u64 {
        self.succeeded[kind as usize]
    }

    /// Returns all counters with their names, for example `queries`, `tried.move` or `succeeded.attack`.
    pub fn named(&self) -> impl Iterator<Item = (String, u64)> + '_ {
        let plain = [
            ("queries", self.queries),
            ("hits", self.hits),
            ("observations", self.observations),
            ("births", self.births),
            ("deaths", self.deaths),
            ("rows_written", self.rows_written),
            ("index_rebuilds", self.index_rebuilds),
            ("index_moves", self.index_moves),
            ("index_flushes", self.index_flushes),
            ("dirty_regions", self.dirty_regions),
        ];
        let tried = |kind: &ActionKind| (format!("tried.{kind}"), self.tried(*kind));
        let succeeded = |kind: &ActionKind| (format!("succeeded.{kind}"), self.succeeded(*kind));
        plain
            .into_iter()
            .map(|(name, count)| (name.to_owned(), count))
            .chain(ActionKind::ALL.iter().map(tried))
            .chain(ActionKind::ALL.iter().map(succeeded))
    }
}

impl AddAssign for Counters {
    fn add_assign(&mut self, step: Self) {
        self.queries += step.queries;
        self.hits += step.hits;
        self.observations += step.observations;
        for kind in 0..ActionKind::COUNT {
            self.tried[kind] += step.tried[kind];
            self.succeeded[kind] += step.succeeded[kind];
        }
        self.births += step.births;
        self.deaths += step.deaths;
        self.rows_written += step.rows_written;
        self.index_rebuilds += step.index_rebuilds;
        self.index_moves += step.index_moves;
        self.index_flushes += step.index_flushes;
        self.dirty_regions += step.dirty_regions;
    }
}
