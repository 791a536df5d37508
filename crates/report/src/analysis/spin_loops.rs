//! The known loops in which threads spin, and the known functions in which they wait for locks and barriers.

use std::sync::LazyLock;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a thread spins for.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum SpinKind {
    /// The other threads of a group.
    Barrier,
    /// A lock that another thread holds.
    Lock,
    /// Work for an idle thread of a pool.
    Work,
    /// Messages of other processes.
    Messages,
}

impl SpinKind {
    /// All kinds.
    pub const ALL: [Self; 4] = [Self::Barrier, Self::Lock, Self::Work, Self::Messages];

    /// Returns the name of the function that stands for spinning in profiles.
    pub fn name(self) -> &'static str {
        match self {
            Self::Barrier => "[spinning at a barrier]",
            Self::Lock => "[spinning for a lock]",
            Self::Work => "[spinning for work]",
            Self::Messages => "[spinning for messages]",
        }
    }

    /// Returns the kind that a function of a profile stands for.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Returns what the thread does, for sentences and tables.
    pub fn describe(self) -> &'static str {
        self.name().trim_matches(['[', ']'])
    }
}

use SpinKind::{Barrier, Lock, Messages, Work};

/// A row of [`TABLE`]: globs for the file name of the module and for the function, and what a thread does there. `None` is work,
/// which excepts functions from a later row.
type Row = (&'static str, &'static str, Option<SpinKind>);

// OpenMP runtimes do no work of the program, so any other function of theirs waits. Their internal functions often have no names.
const GNU: &str = "libgomp{.,-}*";
const LLVM: &str = "lib{omp,iomp5}{.,_,-}*";
const TBB: &str = "libtbb*";
const BLAS: &str = "lib*{blas,mkl}*";
const MPI: &str = "{mca_,lib{mpi,open-pal,mpich,ucp,uct,fabric,psm}}*";
const ANY: &str = "*";

/// The libraries that do nothing but coordinate threads or processes. What calls an internal function shows what it is for.
const COORDINATING: [&str; 3] = [GNU, LLVM, MPI];

/// The first row that matches decides. A row of a library in [`COORDINATING`] must match one of the frames from the leaf up to the
/// first frame of another module, any other row the leaf.
const TABLE: [Row; 66] = [
    // GNU OpenMP.
    (GNU, "GOMP_critical_*", Some(Lock)),
    (GNU, "GOMP_atomic_*", Some(Lock)),
    (GNU, "GOMP_ordered_*", Some(Lock)),
    (GNU, "GOMP_doacross_*", Some(Lock)),
    (GNU, "omp_*set_*lock*", Some(Lock)),
    (GNU, "gomp_mutex_lock*", Some(Lock)),
    (GNU, "gomp_*set_*lock*", Some(Lock)),
    (GNU, "GOMP_loop_end*", Some(Barrier)),
    (GNU, "GOMP_sections_end*", Some(Barrier)),
    (GNU, "GOMP_loop_*", None),
    (GNU, "GOMP_sections_*", None),
    (GNU, "GOMP_task", None),
    (GNU, "gomp_iter_*", None),
    (GNU, "gomp_malloc*", None),
    (GNU, "omp_get_*", None),
    (GNU, "GOMP_target*", None),
    (GNU, "*", Some(Barrier)),
    // LLVM and Intel OpenMP.
    (LLVM, "__kmpc_*critical*", Some(Lock)),
    (LLVM, "__kmpc_*lock*", Some(Lock)),
    (LLVM, "__kmpc_*ordered*", Some(Lock)),
    (LLVM, "__kmpc_*atomic*", Some(Lock)),
    (LLVM, "omp_*set_*lock*", Some(Lock)),
    (LLVM, "__kmp_acquire_*lock*", Some(Lock)),
    (LLVM, "__kmpc_dispatch_*", None),
    (LLVM, "__kmp_dispatch_*", None),
    (LLVM, "__kmpc_for_static_*", None),
    (LLVM, "__kmpc_omp_task*alloc*", None),
    (LLVM, "__kmp_*alloc*", None),
    (LLVM, "omp_get_*", None),
    (LLVM, "__tgt_*", None),
    (LLVM, "*", Some(Barrier)),
    // Numerical libraries with threads of their own.
    (BLAS, "blas_thread_server*", Some(Work)),
    (BLAS, "exec_blas_async_wait*", Some(Barrier)),
    (BLAS, "*_barrier*", Some(Barrier)),
    (BLAS, "*spin_lock*", Some(Lock)),
    // oneTBB.
    (TBB, "*mutex*lock*", Some(Lock)),
    (TBB, "*spin_wait*", Some(Lock)),
    (TBB, "*stealing_loop_backoff*", Some(Work)),
    (TBB, "*receive_or_steal_task*", Some(Work)),
    (TBB, "*wait_for_all*", Some(Work)),
    (TBB, "*waiter*", Some(Work)),
    (ANY, "tbb::*backoff::pause*", Some(Lock)),
    (ANY, "tbb::*spin*mutex::*lock*", Some(Lock)),
    (ANY, "tbb::*spin_wait*", Some(Lock)),
    // Message passing.
    (MPI, "opal_progress*", Some(Messages)),
    (MPI, "ompi_*wait*", Some(Messages)),
    (MPI, "ucp_worker_progress*", Some(Messages)),
    (MPI, "uct_*progress*", Some(Messages)),
    (MPI, "MPI*Progress*", Some(Messages)),
    (MPI, "{P,}MPI_{Barrier,Wait*,Recv,Sendrecv,Allreduce,Bcast,Reduce,Probe}", Some(Messages)),
    // The C library, C++ and compilers.
    (ANY, "{__,}pthread_spin_lock*", Some(Lock)),
    (ANY, "_mm_pause", Some(Lock)),
    (ANY, "__builtin_ia32_pause", Some(Lock)),
    (ANY, "std::__detail::__thread_yield*", Some(Lock)),
    (ANY, "boost::detail::spinlock::lock*", Some(Lock)),
    (ANY, "absl::*SpinLock::*Lock*", Some(Lock)),
    // Rust.
    (ANY, "core::hint::spin_loop", Some(Lock)),
    (ANY, "std::sys::sync::*::futex::*::spin*", Some(Lock)),
    (ANY, "std::sys_common::*::spin*", Some(Lock)),
    (ANY, "parking_lot_core::spinwait::*", Some(Lock)),
    (ANY, "*parking_lot::raw_*::*lock*_slow*", Some(Lock)),
    (ANY, "spin::{mutex,rwlock,once,barrier,relax}::*", Some(Lock)),
    (ANY, "*spinning_top::*::lock*", Some(Lock)),
    (ANY, "crossbeam_utils::backoff::Backoff::*", Some(Lock)),
    (ANY, "rayon_core::registry::WorkerThread::wait_until_cold*", Some(Work)),
    (ANY, "rayon_core::sleep::*", Some(Work)),
];

/// Functions in which blocked threads wait for a lock or at a barrier.
const BLOCKING: [(&str, SpinKind); 13] = [
    ("*pthread_barrier_wait*", Barrier),
    ("std::sync::*barrier::Barrier::wait*", Barrier),
    ("*pthread_mutex_*lock*", Lock),
    ("*pthread_rwlock_*lock*", Lock),
    ("*lll_lock_wait*", Lock),
    ("*mtx_lock*", Lock),
    ("*Mutex::lock*", Lock),
    ("*RwLock::{read,write}*", Lock),
    ("*::lock_contended*", Lock),
    ("*parking_lot::raw_*lock*", Lock),
    ("std::*mutex*::lock*", Lock),
    ("flock", Lock),
    ("lockf*", Lock),
];

/// The functions that start a parallel region of OpenMP: the program's line that calls one is the region.
const REGIONS: [(&str, &str); 4] = [
    (GNU, "GOMP_parallel*"),
    (GNU, "GOMP_teams*"),
    (LLVM, "__kmpc_fork_call*"),
    (LLVM, "__kmpc_fork_teams*"),
];

/// Functions of the C library that a spinning thread calls to give up its CPU or to ask for a wake-up.
pub(super) const YIELDS: [&str; 4] = ["sched_yield", "__sched_yield", "syscall", "usleep"];

/// The libraries of functions in profiles that have no modules, by the beginnings of the functions' names.
const LIBRARIES_BY_NAME: [(&str, &str); 14] = [
    ("GOMP_", "libgomp.so"),
    ("gomp_", "libgomp.so"),
    ("__kmp", "libomp.so"),
    ("blas_thread_server", "libopenblas.so"),
    ("exec_blas_async", "libopenblas.so"),
    ("tbb::", "libtbb.so"),
    ("opal_", "libopen-pal.so"),
    ("ompi_", "libmpi.so"),
    ("MPI_", "libmpi.so"),
    ("PMPI_", "libmpi.so"),
    ("MPID", "libmpi.so"),
    ("ucp_", "libucp.so"),
    ("uct_", "libuct.so"),
    ("omp_", "libgomp.so"),
];

/// Returns the file name of a library by the name of its function: by its beginning, or by the name that tools write for a
/// function without a symbol, such as `[libgomp.so.1.0.0]` or `libgomp.so.1+0x1c2`. Empty if the name shows no library.
pub(super) fn library_of(function: &str) -> &str {
    let known = LIBRARIES_BY_NAME.iter().find(|(start, _)| function.starts_with(start));
    let bare = function.trim_matches(['[', ']']);
    let is_library = bare.starts_with("lib") && bare.contains(".so");
    match known {
        Some((_, library)) => library,
        None if is_library => bare.split('+').next().unwrap_or(bare),
        None => "",
    }
}

/// What the tables say of a function. Bits stand for the rows of [`TABLE`].
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Facts {
    /// Rows whose module is that of the function.
    in_module: u128,
    /// Rows that match the function too.
    matches: u128,
    /// What a thread waits for that blocks in the function.
    blocks: Option<SpinKind>,
    /// Whether it starts a parallel region.
    pub starts_region: bool,
    is_c_library: bool,
}

/// A frame as the tables see it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Place {
    pub facts: Facts,
    /// Whether it is inlined into the next frame.
    pub inlined: bool,
}

/// The compiled tables.
pub(super) struct SpinLoops {
    modules: GlobSet,
    functions: GlobSet,
    /// Rows of libraries that only coordinate.
    coordinating: u128,
    /// Rows of any module.
    anywhere: u128,
    blocking: GlobSet,
    region_modules: GlobSet,
    region_functions: GlobSet,
}

/// The tables of this file.
pub(super) static SPIN_LOOPS: LazyLock<SpinLoops> = LazyLock::new(|| {
    let rows = |is: fn(&Row) -> bool| -> u128 {
        let rows = (0..).zip(&TABLE).filter(|(_, row)| is(row));
        rows.map(|(bit, _)| 1_u128 << bit).sum()
    };
    SpinLoops {
        modules: globs(TABLE.iter().map(|row| row.0)),
        functions: globs(TABLE.iter().map(|row| row.1)),
        coordinating: rows(|row| COORDINATING.contains(&row.0)),
        anywhere: rows(|row| row.0 == ANY),
        blocking: globs(BLOCKING.iter().map(|row| row.0)),
        region_modules: globs(REGIONS.iter().map(|row| row.0)),
        region_functions: globs(REGIONS.iter().map(|row| row.1)),
    }
});

const _: () = assert!(TABLE.len() <= 128);

fn globs(texts: impl Iterator<Item = &'static str>) -> GlobSet {
    let mut set = GlobSetBuilder::new();
    for text in texts {
        let glob = GlobBuilder::new(text).literal_separator(false).empty_alternates(true).build();
        set.add(glob.expect("a test compiles all globs of the tables"));
    }
    set.build().expect("a test compiles all globs of the tables")
}

fn bits(rows: &[usize]) -> u128 {
    rows.iter().map(|row| 1_u128 << row).sum()
}

impl SpinLoops {
    /// Looks a function up, given the file name of its module and its name.
    pub fn facts(&self, module: &str, function: &str) -> Facts {
        let in_module = bits(&self.modules.matches(module));
        let blocking = self.blocking.matches(function);
        let of_region = self.region_modules.matches(module);
        let starts = self.region_functions.matches(function);
        Facts {
            in_module,
            matches: in_module & bits(&self.functions.matches(function)),
            blocks: blocking.first().map(|&row| BLOCKING[row].1),
            starts_region: starts.iter().any(|row| of_region.contains(row)),
            is_c_library: is_c_library(module),
        }
    }

    /// Returns whether a function belongs to a library of the table.
    pub fn is_in_library(&self, facts: Facts) -> bool {
        facts.in_module & !self.anywhere != 0
    }

    /// Returns what a thread spins for on a stack, given leaf first without kernel frames; `None` if it does not spin.
    pub fn spins(&self, stack: impl IntoIterator<Item = Place>) -> Option<SpinKind> {
        let (mut possible, mut found) = (u128::MAX, 0);
        // A pause may be inlined into an inlined loop.
        let mut is_leaf = true;
        for place in stack {
            possible &= place.facts.in_module;
            if !is_leaf {
                possible &= self.coordinating;
            }
            if possible == 0 {
                break;
            }
            found |= possible & place.facts.matches;
            is_leaf &= place.inlined;
        }
        TABLE.get(found.trailing_zeros() as usize).and_then(|row| row.2)
    }

    /// Returns whether a blocked thread waits for a lock or at a barrier, by its innermost frames.
    pub fn blocks(&self, stack: &[Place]) -> Option<SpinKind> {
        let innermost = &stack[..stack.len().min(BLOCKING_FRAMES)];
        innermost.iter().find_map(|place| place.facts.blocks).or_else(|| {
            // Below system calls, the C library's functions hide the runtime that called them.
            let runtime = innermost.iter().position(|place| !place.facts.is_c_library)?;
            let kind = self.spins(stack[runtime..].iter().copied());
            kind.filter(|kind| matches!(kind, Barrier | Lock))
        })
    }
}

/// How many frames from the leaf may belong to the function that blocks.
const BLOCKING_FRAMES: usize = 8;

/// Returns whether a module, given by its file name, is the C library or its loader.
pub(super) fn is_c_library(module: &str) -> bool {
    ["libc.", "libc-", "libpthread", "ld-linux"].iter().any(|start| module.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parses `function~module`, leaf first; `+` marks an inlined function.
    fn stack(text: &str) -> Vec<Place> {
        let place = |text: &str| {
            let (text, inlined) = text.strip_prefix('+').map_or((text, false), |rest| (rest, true));
            let (function, module) = text.split_once('~').unwrap_or((text, "sim"));
            Place { facts: SPIN_LOOPS.facts(module, function), inlined }
        };
        text.split(" < ").map(place).collect()
    }

    #[test]
    fn known_loops_are_recognised_by_module_and_function() {
        for (text, expected) in [
            (
                "libgomp.so.1+0x1~libgomp.so.1.0.0 < GOMP_parallel~libgomp.so.1.0.0 < f",
                Some(Barrier),
            ),
            ("libgomp.so.1+0x1~libgomp.so.1.0.0 < start_thread~libc.so.6", Some(Barrier)),
            (
                "do_spin~libgomp-a34b3233.so.1 < gomp_thread_start~libgomp-a34b3233.so.1",
                Some(Barrier),
            ),
            ("x~libgomp.so.1 < GOMP_critical_start~libgomp.so.1 < f._omp_fn.0", Some(Lock)),
            ("x~libgomp.so.1 < omp_set_lock~libgomp.so.1 < f._omp_fn.0", Some(Lock)),
            ("x~libgomp.so.1 < GOMP_loop_dynamic_next~libgomp.so.1 < f._omp_fn.0", None),
            ("f._omp_fn.0 < GOMP_parallel~libgomp.so.1 < f", None),
            (
                "__kmp_hyper_barrier_release~libiomp5.so < __kmp_launch_thread~libiomp5.so",
                Some(Barrier),
            ),
            ("libomp.so.5+0x2~libomp.so.5 < __kmpc_fork_call~libomp.so.5 < f", Some(Barrier)),
            ("x~libomp.so < __kmpc_critical~libomp.so < f", Some(Lock)),
            ("x~libomp.so < __kmpc_dispatch_next_4~libomp.so < f", None),
            ("blas_thread_server~libopenblas.so.0 < start_thread~libc.so.6", Some(Work)),
            ("blas_thread_server~libscipy_openblas64_-ff651d7f.so", Some(Work)),
            ("dgemm_kernel~libopenblas.so.0 < blas_thread_server~libopenblas.so.0", None),
            ("tbb::detail::r1::market::stealing_loop_backoff::pause~libtbb.so.12", Some(Work)),
            ("poll~mca_btl_sm.so < opal_progress~libopen-pal.so.40 < f", Some(Messages)),
            ("pthread_spin_lock~libc.so.6 < work", Some(Lock)),
            ("pthread_mutex_lock~libc.so.6 < work", None),
            ("work < pthread_spin_lock", None),
            ("+core::core_arch::x86::sse2::_mm_pause < +core::hint::spin_loop < work", Some(Lock)),
            ("spin::mutex::spin::SpinMutex<T,R>::lock < work", Some(Lock)),
            ("rayon_core::sleep::Sleep::sleep < f", Some(Work)),
            ("gomp_like~sim", None),
        ] {
            assert_eq!(SPIN_LOOPS.spins(stack(text)), expected, "{text}");
        }
        assert_eq!(SPIN_LOOPS.spins([]), None);
    }

    #[test]
    fn names_show_the_library() {
        for (function, library) in [
            ("gomp_team_barrier_wait_end", "libgomp.so"),
            ("[libgomp.so.1.0.0]", "libgomp.so.1.0.0"),
            ("libomp.so.5+0x2", "libomp.so.5"),
            ("__kmp_hyper_barrier_release", "libomp.so"),
            ("blas_thread_server", "libopenblas.so"),
            ("library_of", ""),
            ("main", ""),
            ("[unknown]", ""),
        ] {
            assert_eq!(library_of(function), library, "{function}");
        }
    }

    #[test]
    fn locks_and_barriers_are_recognised_in_blocked_threads() {
        for (text, expected) in [
            ("?~libc.so.6 < pthread_mutex_lock~libc.so.6 < critical", Some(Lock)),
            ("?~libc.so.6 < pthread_barrier_wait~libc.so.6 < f", Some(Barrier)),
            ("syscall~libc.so.6 < ?~libgomp.so.1 < GOMP_parallel~libgomp.so.1 < f", Some(Barrier)),
            ("?~libgomp.so.1 < start_thread~libc.so.6", Some(Barrier)),
            ("pthread_cond_wait~libc.so.6 < f", None),
            (
                "syscall~libc.so.6 < std::sys::sync::mutex::futex::Mutex::lock_contended < f",
                Some(Lock),
            ),
            ("usleep~libc.so.6", None),
        ] {
            assert_eq!(SPIN_LOOPS.blocks(&stack(text)), expected, "{text}");
        }
    }
}
