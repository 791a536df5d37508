//! The four profiles of SQLite settings, and their guarantees after a crash.

use rusqlite::Connection;

use crate::kinds::kinds;

kinds! {
    /// A profile of SQLite settings.
    ///
    /// With every profile, a process that is killed at any time leaves a database that opens, passes `PRAGMA integrity_check` and
    /// contains complete steps only. The profiles differ in how much is lost:
    ///
    /// - `balanced` and `safety` use a write-ahead log. A killed process loses the steps since the last commit. A power failure loses
    ///   no more than that with `safety`; with `balanced` it can also lose earlier commits.
    /// - `performance` and `memory` keep the rollback journal in memory, so an interrupted write could not be rolled back. They therefore
    ///   write to a file whose name ends in `.partial`, and rename it when the database is complete. A killed process loses the run:
    ///   the database at the given path then contains no steps. The next run with the same path removes the partial file.
    PragmaProfile, "pragma profile" {
        /// Write-ahead log, synchronous NORMAL, cache of 200 MB, pages of 4096 bytes.
        Balanced = "balanced",
        /// Journal in memory, synchronous OFF, cache of 200 MB, pages of 8192 bytes, memory map of 1 GiB.
        Performance = "performance",
        /// Write-ahead log, synchronous FULL, cache of 100 MB, pages of 4096 bytes.
        Safety = "safety",
        /// Journal in memory, synchronous NORMAL, cache of 50 MB, pages of 4096 bytes.
        Memory = "memory",
    }
}

/// The settings of a profile.
struct Settings {
    synchronous: &'static str,
    journal: &'static str,
    cache_mb: i64,
    page: i64,
    mmap_bytes: i64,
}

impl PragmaProfile {
    /// Returns whether the database must be written to a partial file and renamed at the end.
    #[must_use]
    pub(crate) fn staged(self) -> bool {
        matches!(self, Self::Performance | Self::Memory)
    }

    fn settings(self) -> Settings {
        let (synchronous, journal, cache_mb, page, mmap_bytes) = match self {
            Self::Balanced => ("NORMAL", "WAL", 200, 4096, 0),
            Self::Performance => ("OFF", "MEMORY", 200, 8192, 1 << 30),
            Self::Safety => ("FULL", "WAL", 100, 4096, 0),
            Self::Memory => ("NORMAL", "MEMORY", 50, 4096, 0),
        };
        Settings { synchronous, journal, cache_mb, page, mmap_bytes }
    }

    /// Applies the settings to a new database. The database must not have tables yet.
    pub(crate) fn apply(self, connection: &Connection) -> rusqlite::Result<()> {
        let settings = self.settings();
        connection.pragma_update(None, "page_size", settings.page)?;
        connection.pragma_update(None, "journal_mode", settings.journal)?;
        connection.pragma_update(None, "synchronous", settings.synchronous)?;
        // A negative cache size counts KiB instead of pages.
        connection.pragma_update(None, "cache_size", -settings.cache_mb * 1000)?;
        connection.pragma_update(None, "mmap_size", settings.mmap_bytes)?;
        // A commit that copies the log into the database waits for the disk. A larger log makes such commits rarer.
        connection.pragma_update(None, "wal_autocheckpoint", 4000)?;
        // SQLite creates indexes by sorting. With FILE it sorts in one buffer of up to the cache size before it writes to the file. With
        // MEMORY it would allocate each row separately.
        connection.pragma_update(None, "temp_store", "FILE")?;
        connection.pragma_update(None, "foreign_keys", true)
    }
}
