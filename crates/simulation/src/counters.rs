//! Counts of the work that a step or a run did.

use std::ops::AddAssign;

use crate::action::ActionKind;

/// Work done in a step, or summed over steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Spatial queries answered, by both indexes.
    pub queries: u64,
    /// Entries those queries returned.
    pub hits: u64,
    /// Observations made.
    pub observations: u64,
    /// Actions tried, in the order of [`ActionKind::ALL`].
    pub tried: [u64; ActionKind::COUNT],
    /// Actions that succeeded, in the same order.
    pub succeeded: [u64; ActionKind::COUNT],
    /// Agents born.
    pub births: u64,
    /// Agents that died.
    pub deaths: u64,
    /// Rows handed to the database.
    pub rows_written: u64,
    /// Whole rebuilds of an index.
    pub index_rebuilds: u64,
    /// Moves, births and deaths applied to an index.
    pub index_moves: u64,
    /// Batches applied to an index.
    pub index_flushes: u64,
    /// Dirty regions that those batches touched.
    pub dirty_regions: u64,
}

impl Counters {
    /// How often an action was tried.
    #[must_use]
    pub fn tried(&self, kind: ActionKind) -> u64 {
        self.tried[kind as usize]
    }

    /// How often an action succeeded.
    #[must_use]
    pub fn succeeded(&self, kind: ActionKind) -> u64 {
        self.succeeded[kind as usize]
    }

    /// Every counter with a name, for reports: `queries`, `tried.move`, `succeeded.attack` and so on.
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
