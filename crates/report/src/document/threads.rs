//! The sections of phase 1's report on what threads do.

use std::fmt::Write;

use super::parts::{location, waits};
use crate::format;
use crate::markdown::{Align, Table, code, escape};
use crate::summary::{CaseSummary, SpinningLine, ThreadSummary, TimeShares, cause_name};

/// Groups of threads in the table; the JSON summary has all.
const SHOWN: usize = 20;

/// Lines in the table of spinning; the JSON summary has all.
const SPINNING_LINES: usize = 20;

/// Returns the sections on the time of threads, on spinning and on waiting.
pub fn threads(case: &CaseSummary) -> String {
    let mut text = String::new();
    if let Some(time) = &case.thread_time {
        let _ = write!(text, "## How threads spend their time\n\n{}\n{TIME}", time_table(time));
        if let Some(idle) = &case.idle_threads {
            let _ = write!(
                text,
                "Not included: idle threads, which run for less than 5 % of their time while others work ({}). Together they spend {} \
                 per run: {}.\n\n",
                format::threads(idle.threads),
                format::duration_ns(idle.time.thread_s * 1e9),
                escape(&idle.time.describe())
            );
        }
        if case.threads.len() > 1 || case.threads.iter().any(|group| group.threads > 1.0) {
            let is_python = time.native_name() == "native";
            let python = if is_python { " `user` includes the interpreter." } else { "" };
            let _ = write!(text, "{}\n{GROUPS}{python}\n\n", group_table(&case.threads));
        }
    }
    if !case.spinning.is_empty() {
        let _ = write!(text, "## Where threads spin\n\n{}\n{SPINNING}", spinning(&case.spinning));
    }
    if !case.waits.is_empty() {
        let _ = write!(text, "## Where threads wait\n\n{}\n{WAITS}", waits(&case.waits));
    }
    text
}

const TIME: &str = "Shares are of the time of all threads together; with steps, only of their time inside steps. `in the interpreter` is bytecode and the interpreter's own functions. \
    `in native code` and `in user code` are compiled programs, modules and libraries, including the C library functions that they call. \
    `in the kernel` is work of the kernel for a thread, such as copying a file from the page cache. `ready to run, without a CPU` is \
    time in which a thread could have run, but another thread or program had the CPU, or a CPU quota was used up. Only the rest is \
    waiting.\n\n";

const GROUPS: &str = "Each row is the threads with the same name and the same start function.";

const SPINNING: &str = "Spinning threads use a CPU but do no work: they wait in a loop for other threads or processes. Known loops are those of \
    OpenMP runtimes, OpenBLAS, oneTBB, MPI libraries, and spin locks. Their time is not included in the bottlenecks; in other tables it \
    has names such as `[spinning at a barrier]`. The line is the line of the program that waits. A worker thread of OpenMP has no \
    function of the program on its stack while it waits, so it counts for the parallel region that was sampled last.\n\n";

const WAITS: &str = "A wait is listed at the line of the program that called the waiting function, directly or through libraries. If no line of the \
    program is on the stack, as in a thread of a library, it is listed at the library. In Python, waits for \
    locks count as waits for other threads. Idle threads are not included.\n\n";

fn time_table(time: &TimeShares) -> Table {
    let mut table = Table::new(&[
        ("time", Align::Left),
        ("share", Align::Right),
        ("per run", Align::Right),
        ("", Align::Left),
    ]);
    let mut row = |name: &str, share: f64| {
        let seconds = format::duration_ns(share * time.thread_s * 1e9);
        table.row([name, &format::share(share), &seconds, &format::bar(share, 20)]);
    };
    let is_python = time.native_name() == "native";
    if is_python {
        row("in the interpreter", time.interpreter_share);
    }
    row(if is_python { "in native code" } else { "in user code" }, time.native_share);
    row("in the kernel", time.kernel_share);
    for part in &time.spinning {
        row(part.kind.describe(), part.share);
    }
    row("ready to run, without a CPU", time.runnable_share);
    if is_python {
        row("waiting for the interpreter's lock (GIL)", time.gil_share);
    }
    for part in &time.causes {
        row(&format!("waiting: {}", cause_name(part.cause)), part.share);
    }
    if time.unknown_share > 0.0 {
        row("unknown: records of the scheduler are missing", time.unknown_share);
    }
    table
}

fn group_table(groups: &[ThreadSummary]) -> Table {
    let mut table = Table::new(&[
        ("threads", Align::Left),
        ("number per run", Align::Right),
        ("time per run", Align::Right),
        ("user", Align::Right),
        ("kernel", Align::Right),
        ("spinning", Align::Right),
        ("ready", Align::Right),
        ("waiting", Align::Right),
        ("mostly for", Align::Left),
    ]);
    for group in groups.iter().take(SHOWN) {
        let time = &group.time;
        table.markdown_row([
            group_name(group),
            format::count(group.threads),
            format::duration_ns(time.thread_s * 1e9),
            format::share(time.interpreter_share + time.native_share),
            format::share(time.kernel_share),
            format::share(time.spinning_share()),
            format::share(time.runnable_share),
            format::share(time.gil_share + time.waiting_share),
            escape(&causes(time)),
        ]);
    }
    table
}

fn group_name(group: &ThreadSummary) -> String {
    let start = if group.function.is_empty() || group.main {
        String::new()
    } else {
        format!(" in {}", code(&group.function))
    };
    let kind = match (group.main, group.idle) {
        (true, _) => ", main thread",
        (false, true) => ", idle",
        (false, false) => "",
    };
    format!("{}{start}{kind}", code(&group.name))
}

/// Returns the two longest waits: `lock 75 %, sleep 25 %`.
fn causes(time: &TimeShares) -> String {
    let mut parts = vec![(time.gil_share, "GIL")];
    parts.extend(time.causes.iter().map(|part| (part.share, cause_name(part.cause))));
    parts.retain(|(share, _)| *share >= 0.005);
    parts.sort_by(|a, b| b.0.total_cmp(&a.0));
    let parts =
        parts.iter().take(2).map(|(share, name)| format!("{name} {}", format::share(*share)));
    parts.collect::<Vec<_>>().join(", ")
}

fn spinning(lines: &[SpinningLine]) -> Table {
    let mut table = Table::new(&[
        ("share of CPU time", Align::Right),
        ("", Align::Left),
        ("line", Align::Left),
        ("function", Align::Left),
    ]);
    for line in lines.iter().take(SPINNING_LINES) {
        table.markdown_row([
            format::share(line.cpu_share),
            line.kind.describe().to_owned(),
            code(&location(line.file.as_deref(), line.line)),
            match (&line.library, line.function.as_str()) {
                (Some(library), _) => format!("in {}", code(library)),
                (None, "") if line.line.is_none() => "place unknown".to_owned(),
                (None, "") => String::new(),
                (None, function) => code(function),
            },
        ]);
    }
    table
}
