//! Allocations of programs whose totals are known.

use std::time::Duration;

use simprof_model::{HeapAmount, HeapCoverage, HeapProfile, HeapSite, NoticeId};
use simprof_record::heap::{HeapRefusal, HeapSampling, symbolise};
use simprof_record::{Launch, Outcome, RecordError, Recording};

use crate::support::{Fixture, record};

/// Returns the number of the line of `allocations.c` that ends with the comment `mark`.
fn line_of(mark: &str) -> u32 {
    let source = include_str!("../../programs/allocations.c");
    let at = source.lines().position(|line| line.ends_with(&format!("/* {mark} */")));
    u32::try_from(at.expect("the source has such a line") + 1).expect("a short source")
}

fn plan(folder: &Fixture, argv: &[&str], interval_bytes: u64) -> Launch {
    let heap = Some(HeapSampling { interval_bytes, seed: 1 });
    Launch { heap, marks: true, ..folder.plan(argv) }
}

fn heap(recording: Recording) -> HeapProfile {
    symbolise(recording.heap.expect("allocations were recorded"))
}

fn recorded(interval_bytes: u64) -> HeapProfile {
    let folder = Fixture::new();
    let program = folder.program("allocations");
    let recording = record(&plan(&folder, &[&program], interval_bytes));
    assert_eq!(recording.outcome, Outcome::Exited(0));
    assert_eq!(recording.steps.steps.len(), 200);
    heap(recording)
}

/// Returns how much of a program's growth the recorded allocations explain. The program must grow.
fn coverage(folder: &Fixture, argv: &[&str]) -> HeapCoverage {
    let resources = Some(Duration::from_millis(10));
    let plan = Launch { resources, ..plan(folder, argv, 1) };
    heap(record(&plan)).provenance.coverage.expect("it grew")
}

/// Returns all sites whose stack contains the marked line of the program.
fn at<'p>(profile: &'p HeapProfile, mark: &str) -> Vec<&'p HeapSite> {
    let line = line_of(mark);
    let has = |site: &&HeapSite| {
        profile.tables.frames_from_leaf(site.stack).any(|id| {
            let frame = profile.tables.frame(id);
            let file = frame.file.map(|file| profile.tables.string(file)).unwrap_or_default();
            frame.line == Some(line) && file.ends_with("allocations.c")
        })
    };
    profile.sites.iter().filter(has).collect()
}

fn sum(sites: &[&HeapSite], amount: impl Fn(&HeapSite) -> HeapAmount) -> HeapAmount {
    sites.iter().map(|site| amount(site)).sum()
}

fn exact(bytes: u64, count: u64) -> HeapAmount {
    HeapAmount { bytes, count, bytes_error: 0, count_error: 0 }
}

#[test]
fn every_allocation_is_counted_to_the_byte() {
    let profile = recorded(1);
    let from = &profile.provenance;
    assert_eq!((from.lost, from.processes), (0, 2), "{from:?}");
    assert!(from.is_exact() && from.notices.is_empty(), "{from:?}");

    let leak = at(&profile, "leak");
    assert_eq!(sum(&leak, |site| site.amounts.allocated), exact(200 * 40960, 200));
    assert_eq!(sum(&leak, |site| site.amounts.live), exact(200 * 40960, 200));
    assert_eq!(sum(&leak, |site| site.amounts.peak), exact(121 * 40960, 121));
    let rising: Vec<u64> = (1..=200).map(|step| step * 40960).collect();
    assert_eq!(leak[0].amounts.live_at_ticks, rising);

    let temporary = at(&profile, "temporary");
    let bytes = 200 * (0..50).map(|i| 1000 + i).sum::<u64>();
    assert_eq!(sum(&temporary, |site| site.amounts.allocated), exact(bytes, 10_000));
    assert_eq!(sum(&temporary, |site| site.amounts.temporary), exact(bytes, 10_000));
    assert_eq!(sum(&temporary, |site| site.amounts.live), exact(0, 0));

    let grows = at(&profile, "grows");
    assert_eq!(sum(&grows, |site| site.amounts.allocated), exact(200 * 8160, 1600));
    assert_eq!(grows.iter().map(|site| site.amounts.reallocations).sum::<u64>(), 1600);
    assert_eq!(sum(&grows, |site| site.amounts.temporary), exact(200 * 4096, 200));

    let peak = at(&profile, "peak");
    assert_eq!(sum(&peak, |site| site.amounts.peak), exact(64 << 20, 1));
    assert_eq!(profile.peak_step, Some(120));

    let across = at(&profile, "across");
    assert_eq!(sum(&across, |site| site.amounts.allocated), exact(4000 * 777, 4000));
    assert_eq!(sum(&across, |site| site.amounts.live), exact(0, 0));
    assert_eq!(sum(&at(&profile, "child"), |site| site.amounts.live), exact(30_000, 1));
    assert_eq!((profile.steps, profile.ticks.len()), (200, 200));
    assert!(profile.ticks.iter().all(|tick| tick.population == Some(1000)));
}

#[test]
fn estimates_lie_in_their_intervals() {
    let profile = recorded(16 << 10);
    assert_eq!((profile.provenance.lost, profile.provenance.is_exact()), (0, false));
    let table = [
        ("leak", 200 * 40960, 200),
        ("temporary", 200 * (0..50).map(|i| 1000 + i).sum::<u64>(), 10_000),
        ("across", 4000 * 777, 4000),
        ("peak", 64 << 20, 1),
    ];
    for (mark, bytes, count) in table {
        let found = sum(&at(&profile, mark), |site| site.amounts.allocated);
        // Four standard errors: about one seed in ten thousand exceeds them.
        let within = |found: u64, error: u64, truth: u64| found.abs_diff(truth) <= 4 * error + 1;
        assert!(within(found.bytes, found.bytes_error, bytes), "{mark}: {found:?} for {bytes}");
        assert!(within(found.count, found.count_error, count), "{mark}: {found:?} for {count}");
    }
}

#[test]
fn a_killed_target_keeps_its_allocations() {
    let folder = Fixture::new();
    let program = folder.program("allocations");
    let recording = record(&plan(&folder, &[&program, "killed"], 1));
    assert!(matches!(recording.outcome, Outcome::Signalled { signal: 9, .. }));
    let profile = heap(recording);
    assert_eq!(sum(&at(&profile, "leak"), |site| site.amounts.live), exact(200 * 40960, 200));
    assert_eq!(
        sum(&at(&profile, "across"), |site| site.amounts.allocated),
        exact(4000 * 777, 4000)
    );
}

#[test]
fn targets_that_cannot_be_recorded_are_refused_with_the_fix() {
    let folder = Fixture::new();
    let table = [
        ("-static", HeapRefusal::Static, "link it dynamically"),
        ("-fsanitize=address", HeapRefusal::Sanitizer, "without `-fsanitize`"),
    ];
    for (flag, expected, fix) in table {
        let program = folder.compile_c(flag, "int main(void) { return 0; }\n", &[flag]);
        let refused = simprof_record::launch(&plan(&folder, &[&program], 1), &Default::default());
        let error = refused.expect_err("it cannot be recorded");
        assert!(error.to_string().contains(fix), "{error}");
        assert!(matches!(error, RecordError::HeapRefused { refusal, .. } if refusal == expected));
    }
}

#[test]
fn stacks_and_allocations_are_not_recorded_together() {
    let folder = Fixture::new();
    let sampling = simprof_record::sample::Sampling {
        rate_hz: 100,
        stack_bytes: 4096,
        kernel: false,
        recorder: simprof_record::sample::Recorder::Auto,
    };
    let both = Launch { sampling: Some(sampling), ..plan(&folder, &["true"], 1) };
    let error = simprof_record::launch(&both, &Default::default()).expect_err("never both");
    assert!(matches!(error, RecordError::HeapAndStacks), "{error}");
}

#[test]
fn memory_of_the_library_in_the_target_is_not_counted() {
    let folder = Fixture::new();
    // The library's data about these small allocations is larger than they are. The pause gives time to read the resources.
    let text = "#include <stdlib.h>\n#include <unistd.h>\n\
        int main(void) {\n\
            for (int i = 0; i < 1500000; i++) if (!malloc(24)) return 1;\n\
            return usleep(300000);\n\
        }\n";
    let program = folder.compile_c("many", text, &["-fno-builtin"]);
    let coverage = coverage(&folder, &[&program]);
    // The allocator adds 8 bytes to each block. The tolerance is for other growth, such as pages of the C library.
    let expected = 24.0 / 32.0;
    assert!((coverage.explained().expect("it grew") - expected).abs() < 0.2, "{coverage:?}");
}

#[test]
fn file_backed_pages_are_distinguished() {
    let folder = Fixture::new();
    let data = folder.path("data");
    let file = std::fs::File::create(&data).expect("created");
    file.set_len(96 << 20).expect("a sparse file");
    // The pauses give time to read the resources before and after the growth.
    let text = "#include <fcntl.h>\n#include <stdlib.h>\n#include <string.h>\n#include <sys/mman.h>\n#include <unistd.h>\n\
        int main(int count, char **arguments) {\n\
            int fd = open(arguments[count - 1], O_RDONLY);\n\
            const volatile char *file = mmap(NULL, 96 << 20, PROT_READ, MAP_SHARED, fd, 0);\n\
            if (file == MAP_FAILED) return 1;\n\
            usleep(300000);\n\
            int sum = 0;\n\
            for (int i = 0; i < 96 << 20; i += 4096) sum += file[i];\n\
            char *own = malloc(64 << 20);\n\
            memset(own, 1, 64 << 20);\n\
            usleep(300000);\n\
            return sum + own[5] - 1;\n\
        }\n";
    let program = folder.compile_c("maps", text, &[]);
    let coverage = coverage(&folder, &[&program, &folder.text_path("data")]);
    let mib = |bytes: u64| bytes as f64 / (1 << 20) as f64;
    assert!((mib(coverage.rss_growth_bytes) - 160.0).abs() < 5.0, "{coverage:?}");
    assert!((mib(coverage.rss_file_growth_bytes) - 96.0).abs() < 5.0, "{coverage:?}");
    assert!((coverage.explained().expect("it grew") - 1.0).abs() < 0.1, "{coverage:?}");
}

#[test]
fn inherited_memory_is_not_growth_of_forked_processes() {
    let folder = Fixture::new();
    // Each child inherits 64 MiB and allocates another 16 MiB. One executes another program, which allocates little.
    let text = "#include <stdlib.h>\n#include <string.h>\n#include <sys/wait.h>\n#include <unistd.h>\n\
        static char *filled(size_t bytes) {\n\
            char *made = malloc(bytes);\n\
            memset(made, 1, bytes);\n\
            return made;\n\
        }\n\
        int main(void) {\n\
            char *all = filled(64 << 20);\n\
            for (int i = 0; i < 4; i++) {\n\
                if (fork()) continue;\n\
                usleep(200000);\n\
                if (i == 3) execlp(\"sleep\", \"sleep\", \"0.5\", NULL);\n\
                char *own = filled(16 << 20);\n\
                usleep(500000);\n\
                _exit(all[7] - own[7]);\n\
            }\n\
            while (wait(NULL) > 0);\n\
            return 0;\n\
        }\n";
    let program = folder.compile_c("forks", text, &[]);
    let coverage = coverage(&folder, &[&program]);
    let own = (64.0 + 3.0 * 16.0) * f64::from(1 << 20);
    assert!((coverage.growth_without_files() as f64 / own - 1.0).abs() < 0.1, "{coverage:?}");
    assert!((coverage.explained().expect("it grew") - 1.0).abs() < 0.1, "{coverage:?}");
}

#[test]
fn stacks_that_are_cut_are_counted_and_reported() {
    let folder = Fixture::new();
    let program = folder.program("hidden_caller");
    let profile = heap(record(&plan(&folder, &[&program], 1)));
    let functions = |site: &HeapSite| -> Vec<&str> {
        let frames = profile.tables.frames_from_leaf(site.stack);
        let function = |id| profile.tables.function_name(profile.tables.frame(id).function);
        frames.map(function).collect()
    };
    let (hidden, others): (Vec<&HeapSite>, Vec<&HeapSite>) =
        profile.sites.iter().partition(|site| functions(site).contains(&"hidden_allocate"));
    assert_eq!(sum(&hidden, |site| site.amounts.allocated), exact(500 * 100, 500));
    assert!(hidden.iter().all(|site| !functions(site).contains(&"main")), "{hidden:?}");
    let whole: Vec<&HeapSite> =
        others.into_iter().filter(|site| functions(site).contains(&"main")).collect();
    assert_eq!(sum(&whole, |site| site.amounts.allocated), exact(500 * 300, 500));
    let from = &profile.provenance;
    assert_eq!(from.stacks_cut, 500, "{from:?}");
    let [notice] = from.notices.as_slice() else { panic!("one notice: {from:?}") };
    assert_eq!(notice.id, NoticeId::HeapStacksMissing);
    assert!(notice.text.starts_with("500 "), "{notice}");
}

#[test]
fn unrecorded_processes_are_reported() {
    let folder = Fixture::new();
    let text = "#include <unistd.h>\nint main(void) { return (int)sleep(1); }\n";
    let program = folder.compile_c("still", text, &["-static"]);
    let shell = format!(
        "env -i sleep 1 & LD_PRELOAD= tail -f --pid $! /dev/null & {program}; wait; exec {program}"
    );
    let from = heap(record(&plan(&folder, &["/bin/sh", "-c", &shell], 1))).provenance;
    assert_eq!(
        (from.unrecorded, from.unrecorded_names.join(" ")),
        (4, "sleep still tail".to_owned())
    );
    let [notice] = from.notices.as_slice() else { panic!("one notice: {from:?}") };
    assert_eq!(notice.id, NoticeId::HeapProcessesUnrecorded);
    assert!(notice.text.starts_with("4 processes "), "{notice}");
}

#[test]
fn programs_about_to_start_are_not_reported() {
    let folder = Fixture::new();
    let shell = "i=0; while [ $i -lt 300 ]; do /bin/true & /bin/true; i=$((i + 1)); done; wait";
    let from = heap(record(&plan(&folder, &["/bin/sh", "-c", shell], 1))).provenance;
    assert_eq!((from.unrecorded, &from.notices), (0, &Vec::new()), "{from:?}");
    assert!(from.processes > 1, "{from:?}");
}
