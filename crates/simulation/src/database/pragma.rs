//! The four profiles of SQLite settings, and what each promises after a crash.

use rusqlite::Connection;

use crate::kinds::kinds;

kinds! {
    /// Settings of SQLite.
    ///
    /// Whatever the profile, a process killed at any moment leaves a database that opens, passes `PRAGMA integrity_check` and holds whole steps only. What
    /// it may lose differs:
    ///
    /// - `balanced` and `safety` keep a write-ahead log: a killed process loses the steps since the last commit. After a power cut `safety` loses no more than
    ///   that, `balanced` may lose some commits before it.
    /// - `performance` and `memory` keep their rollback journal in memory, with which a write cut short could not be undone. So they write beside
    ///   the named file, in one whose name ends in `.partial`, and put the whole database in its place at the end: a killed process loses the run, and the
    ///   named file holds no step. The next run to the same path removes what is left beside it.
    PragmaProfile, "pragma profile" {
        /// Write-ahead log, synchronous NORMAL, 200 MB of cache, pages of 4096 bytes.
        Balanced = "balanced",
        /// Journal in memory, synchronous OFF, 200 MB of cache, pages of 8192 bytes, 1 GiB of memory map.
        Performance = "performance",
        /// Write-ahead log, synchronous FULL, 100 MB of cache, pages of 4096 bytes.
        Safety = "safety",
        /// Journal in memory, synchronous NORMAL, 50 MB of cache, pages of 4096 bytes.
        Memory = "memory",
    }
}

/// The values behind a profile.
struct Settings {
    synchronous: &'static str,
    journal: &'static str,
    cache_mb: i64,
    page: i64,
    mmap_bytes: i64,
}

impl PragmaProfile {
    /// Whether the database must be written beside its path and put in place at the end.
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

    /// Applies the settings to a new database, before its first table.
    pub(crate) fn apply(self, connection: &Connection) -> rusqlite::Result<()> {
        let settings = self.settings();
        connection.pragma_update(None, "page_size", settings.page)?;
        connection.pragma_update(None, "journal_mode", settings.journal)?;
        connection.pragma_update(None, "synchronous", settings.synchronous)?;
        // A negative cache size counts KiB instead of pages.
        connection.pragma_update(None, "cache_size", -settings.cache_mb * 1000)?;
        connection.pragma_update(None, "mmap_size", settings.mmap_bytes)?;
        // Commits that copy the log back into the database wait for the disk: fewer of them.
        connection.pragma_update(None, "wal_autocheckpoint", 4000)?;
        // Indexes are made by sorting. With temporary storage in a file SQLite sorts in one buffer, up to the size of the
        // cache, before it writes any; with MEMORY it would allocate each row by itself.
        connection.pragma_update(None, "temp_store", "FILE")?;
        connection.pragma_update(None, "foreign_keys", true)
    }
}
