//! Programs with many threads and processes, and programs that load, replace or remove code.

use std::collections::BTreeSet;
use std::path::Path;

use simprof_record::sample::{SampleError, Sampler};
use simprof_testkit::TestFolder;

use crate::support::{Blocked, SAMPLING, explain, names, profile, samples_with};

/// A function that spins for the given number of million iterations.
const WORK: &str = r#"
#include <stdint.h>
static volatile uint64_t sink;
__attribute__((noinline)) void spin(uint64_t millions) {
    for (uint64_t i = 0; i < millions * 1000000; i++) sink += i;
}
"#;

fn source(rest: &str) -> String {
    format!("#define _GNU_SOURCE\n{WORK}\n{rest}")
}

#[test]
fn every_one_of_64_threads_is_seen() {
    let source = source(
        r#"
#include <pthread.h>
#include <stdio.h>
static void *start(void *number) {
    char name[16];
    snprintf(name, sizeof name, "worker-%d", (int)(intptr_t)number);
    pthread_setname_np(pthread_self(), name);
    spin(20);
    return 0;
}
int main(void) {
    pthread_t threads[64];
    for (intptr_t i = 0; i < 64; i++) pthread_create(&threads[i], 0, start, (void *)i);
    for (int i = 0; i < 64; i++) pthread_join(threads[i], 0);
    return 0;
}
"#,
    );
    let folder = TestFolder::new();
    let program = folder.compile_c("threads", &source, &["-O2", "-g", "-pthread"]);
    let Some(profile) = profile(&[&program]) else { return };
    let seen: BTreeSet<_> = samples_with(&profile, "spin")
        .iter()
        .map(|sample| profile.threads[sample.thread.index()].name.as_str())
        .collect();
    for number in 0..64 {
        let name = format!("worker-{number}");
        assert!(seen.contains(name.as_str()), "{name} is missing: {}", explain(&profile));
    }
    let ids: BTreeSet<_> = profile.threads.iter().map(|thread| thread.tid).collect();
    assert_eq!(ids.len(), 65, "{:?}", profile.threads);
}

#[test]
fn every_forked_child_is_seen() {
    let source = source(
        r#"
#include <sys/wait.h>
#include <unistd.h>
int main(void) {
    for (int i = 0; i < 10; i++) if (fork() == 0) { spin(30); _exit(0); }
    for (int i = 0; i < 10; i++) wait(0);
    return 0;
}
"#,
    );
    let folder = TestFolder::new();
    let program = folder.compile_c("forks", &source, &["-O2", "-g"]);
    let Some(profile) = profile(&[&program]) else { return };
    let children: BTreeSet<_> = samples_with(&profile, "spin")
        .iter()
        .map(|sample| profile.threads[sample.thread.index()].pid)
        .collect();
    assert_eq!(children.len(), 10, "{}", explain(&profile));
    let whole = samples_with(&profile, "spin").iter().all(|s| names(&profile, s).contains(&"main"));
    assert!(whole, "{}", explain(&profile));
}

#[test]
fn a_library_that_is_loaded_late_is_seen() {
    let folder = TestFolder::new();
    let library = WORK.replace("void spin", "void plugin_spin");
    let library = folder.compile_c("plugin.so", &library, &["-O2", "-g", "-shared", "-fPIC"]);
    let program = r#"
#include <dlfcn.h>
#include <stdint.h>
int main(int argc, char **argv) {
    void *library = dlopen(argv[argc - 1], RTLD_NOW);
    if (!library) return 1;
    void (*spin)(uint64_t) = (void (*)(uint64_t))dlsym(library, "plugin_spin");
    spin(200);
    return 0;
}
"#;
    let program = folder.compile_c("host", program, &["-O2", "-g", "-ldl"]);
    let Some(profile) = profile(&[&program, &library]) else { return };
    let samples = samples_with(&profile, "plugin_spin");
    assert!(samples.len() > 50, "{}", explain(&profile));
    for sample in samples {
        assert!(names(&profile, sample).contains(&"main"), "{}", explain(&profile));
    }
    let function = profile
        .functions
        .iter()
        .find(|function| profile.string(function.name) == "plugin_spin")
        .expect("it has samples");
    let module = &profile.modules[function.module.expect("a module").index()];
    assert!(profile.string(module.path).ends_with("/plugin.so"));
}

#[test]
fn a_program_reached_through_a_shell_is_seen() {
    let folder = TestFolder::new();
    let program = folder.compile_c(
        "last",
        &source("int main(void) { spin(200); return 0; }"),
        &["-O2", "-g"],
    );
    let script = format!("exec {program}");
    let Some(profile) = profile(&["/bin/sh", "-c", &script]) else { return };
    let samples = samples_with(&profile, "spin");
    assert!(samples.len() > 50, "{}", explain(&profile));
    let thread = &profile.threads[samples[0].thread.index()];
    assert_eq!(thread.name, "last");
    assert!(names(&profile, samples[0]).ends_with(&["_start"]), "{}", explain(&profile));
}

#[test]
fn functions_of_a_program_that_removes_itself_are_named() {
    let folder = TestFolder::new();
    let source = source(
        "#include <unistd.h>\nint main(int c, char **v) { unlink(v[c - 1]); spin(200); return 0; }",
    );
    let program = folder.compile_c("gone", &source, &["-O2", "-g"]);
    let Some(profile) = profile(&[&program]) else { return };
    assert!(!Path::new(&program).exists());
    assert!(samples_with(&profile, "spin").len() > 50, "{}", explain(&profile));
}

#[test]
fn a_program_that_ends_at_once_has_few_samples() {
    let folder = TestFolder::new();
    let program = folder.compile_c("empty", "int main(void) { return 0; }", &[]);
    let Some(profile) = profile(&[&program]) else { return };
    assert!(profile.samples.len() < 50, "{}", explain(&profile));
    assert!(profile.threads.iter().any(|thread| thread.name == "empty"), "{:?}", profile.threads);
}

#[test]
fn a_program_that_cannot_be_executed_has_no_samples() {
    let Some(profile) = profile(&["/nonexistent/program"]) else { return };
    assert!(profile.samples.is_empty(), "{}", explain(&profile));
}

#[test]
fn sampling_a_process_that_has_ended_is_an_error() {
    let child = Blocked::new(&["/bin/true"]);
    let pid = child.pid;
    child.run();
    match Sampler::open(pid, &SAMPLING) {
        Err(SampleError::NoSuchProcess { pid: named }) => assert_eq!(named, pid),
        Err(SampleError::Refused { .. }) => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_sampler_can_be_dropped_before_the_program_runs() {
    let child = Blocked::new(&["/bin/true"]);
    drop(Sampler::open(child.pid, &SAMPLING));
    child.run();
}
