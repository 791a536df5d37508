//! Stacks of programs that switch stacks, handle signals, replace their code or have code without unwind tables.

use simprof_model::{NoticeId, Profile, has_notice};
use simprof_testkit::TestFolder;

use super::support::{explain, names, profile, samples_with};

/// A loop of about 0.2 s that ends after a fixed number of rounds.
const BURN: &str = r#"
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>
#define NOINLINE __attribute__((noinline))
static volatile unsigned long sink = 1;
#define BURN() do { unsigned long x_ = sink | 1; \
    for (unsigned long i_ = 0; i_ < 100000000; i_++) x_ = x_ * 2862933555777941757UL + 3037000493UL; \
    sink = x_; } while (0)
"#;

/// Compiles and profiles a program. Returns `None` if this system does not allow sampling.
fn profile_c(source: &str, options: &[&str], arguments: &[&str]) -> Option<Profile> {
    let folder = TestFolder::new();
    let options = [&["-O2", "-g", "-pthread"], options].concat();
    let program = folder.compile_c("program", &format!("{BURN}{source}"), &options);
    profile(&[&[program.as_str()], arguments].concat())
}

/// Asserts that the stacks with a function start at one of these functions and that few are truncated.
#[track_caller]
fn assert_whole(profile: &Profile, function: &str, roots: &[&str]) {
    let samples = samples_with(profile, function);
    assert!(samples.len() > 20, "{function}: {}", explain(profile));
    for sample in samples {
        let names = names(profile, sample);
        let root = names.last().expect("not empty");
        assert!(roots.contains(root), "{function}: {}", explain(profile));
    }
    assert_cut(profile, 0);
}

/// Asserts the number of truncated stacks. Stacks in the loader may be truncated.
#[track_caller]
fn assert_cut(profile: &Profile, expected: usize) {
    let cut = profile.provenance.truncated as usize;
    assert!(cut >= expected && cut <= expected + 10, "{cut}, not {expected}: {}", explain(profile));
}

#[test]
fn stacks_of_coroutines_are_complete() {
    let source = r#"
static ucontext_t home, context;
static void *sp_home, *sp;
static int own;
void swap_sp(void **from, void *to);
__asm__(".text\n.type swap_sp,@function\nswap_sp: push %rbp\npush %rbx\npush %r12\npush %r13\npush %r14\npush %r15\n"
        "mov %rsp,(%rdi)\nmov %rsi,%rsp\npop %r15\npop %r14\npop %r13\npop %r12\npop %rbx\npop %rbp\nret\n");
NOINLINE static void inner(void) { BURN(); sink++; }
NOINLINE static void fiber(void) {
    for (;;) { inner(); if (own) swap_sp(&sp, sp_home); else swapcontext(&context, &home); }
}
int main(int argc, char **argv) {
    own = argv[1][0] != 'u';
    char *stack = mmap(0, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(stack, 0x5a, 65536);
    /* "garbage" is followed by the end of the memory, "middle" by more garbage. */
    void **top = (void **)(stack + (argv[1][0] == 'm' ? 32768 : 65536)) - 8;
    top[6] = (void *)fiber; top[7] = argv[1][0] == 'z' ? NULL : (void *)0x5a5a5a5a5a5aUL; sp = top;
    getcontext(&context);
    context.uc_stack.ss_sp = stack; context.uc_stack.ss_size = 65536; context.uc_link = 0;
    if (!own) makecontext(&context, fiber, 0);
    for (int round = 0; round < 2; round++) if (own) swap_sp(&sp_home, sp); else swapcontext(&home, &context);
    return argc != 2;
}
"#;
    for kind in ["ucontext", "garbage", "middle", "zero"] {
        let Some(profile) = profile_c(source, &[], &[kind]) else { return };
        assert_whole(&profile, "inner", &["fiber"]);
    }
}

#[test]
fn code_without_unwind_tables_is_followed_to_its_return() {
    // `plain` saves registers and uses %rbp as a counter; `outer` calls it with an odd stack; both have no unwind tables.
    let source = r#"
unsigned long outer(unsigned long n);
__asm__(".text\n.type plain,@function\nplain: push %rbx\npush %rbp\nsub $40,%rsp\nmov %rdi,%rbp\nmov $1,%eax\n"
        "1: imul $7,%rax,%rax\ndec %rbp\njnz 1b\nadd $40,%rsp\npop %rbp\npop %rbx\nret\n.size plain,.-plain\n"
        ".globl outer\n.type outer,@function\nouter: push %r12\nsub $24,%rsp\ncall plain\ntest %rax,%rax\njz 2f\n"
        "2: add $24,%rsp\npop %r12\nret\n.size outer,.-outer\n");
NOINLINE static void caller(void) { sink = outer(200000000); sink++; }
int main(void) { caller(); return 0; }
"#;
    let Some(profile) = profile_c(source, &[], &[]) else { return };
    assert_whole(&profile, "plain", &["_start"]);
    for sample in samples_with(&profile, "plain") {
        let names = names(&profile, sample);
        let frames = ["plain", "outer", "caller", "main"];
        assert!(names.windows(4).any(|window| window == frames), "{}", explain(&profile));
    }
}

#[test]
fn a_wrong_unwind_table_invents_no_callers_and_is_counted() {
    // The table of `wrong` does not state that the function moves the stack pointer.
    let source = r#"
unsigned long wrong(unsigned long n);
__asm__(".text\n.globl wrong\n.type wrong,@function\nwrong: .cfi_startproc\nsub $88,%rsp\nmovq $1,(%rsp)\nmov $1,%eax\n"
        "1: imul $7,%rax,%rax\ndec %rdi\njnz 1b\nadd $88,%rsp\nret\n.cfi_endproc\n.size wrong,.-wrong\n");
NOINLINE static void caller(void) { sink = wrong(200000000); sink++; }
int main(void) { caller(); return 0; }
"#;
    let Some(profile) = profile_c(source, &[], &[]) else { return };
    let samples = samples_with(&profile, "wrong");
    assert!(samples.len() > 20, "{}", explain(&profile));
    let alone = samples.iter().filter(|sample| names(&profile, sample).len() == 1).count();
    assert!(alone + 5 > samples.len(), "{}", explain(&profile));
    assert_cut(&profile, alone);
}

#[test]
fn a_signal_handler_is_called_by_what_it_interrupted() {
    let source = r#"
NOINLINE static void in_handler(void) { BURN(); sink++; }
static void handler(int number) { in_handler(); sink += number; }
NOINLINE static void interrupted(void) { raise(SIGUSR1); sink++; }
static void *thread(void *alternate) {
    if (alternate) {
        stack_t stack = {.ss_sp = malloc(65536), .ss_size = 65536};
        sigaltstack(&stack, NULL);
    }
    interrupted();
    return NULL;
}
int main(int argc, char **argv) {
    (void)argv;
    struct sigaction action = {.sa_handler = handler, .sa_flags = argc > 1 ? SA_ONSTACK : 0};
    sigaction(SIGUSR1, &action, NULL);
    pthread_t id;
    pthread_create(&id, NULL, thread, argc > 1 ? &id : NULL);
    pthread_join(id, NULL);
    return 0;
}
"#;
    let Some(same) = profile_c(source, &[], &[]) else { return };
    let samples = samples_with(&same, "in_handler");
    assert!(samples.len() > 20, "{}", explain(&same));
    for sample in &samples {
        let names = names(&same, sample);
        let expected = ["in_handler", "handler", "interrupted", "thread"];
        let found: Vec<_> = names.iter().filter(|name| expected.contains(name)).collect();
        assert_eq!(found, expected.iter().collect::<Vec<_>>(), "{}", explain(&same));
    }
    assert_cut(&same, 0);
    // The interrupted stack is not copied: what is known is kept, and the loss is counted.
    let Some(other) = profile_c(source, &[], &["alternate"]) else { return };
    let samples = samples_with(&other, "in_handler");
    assert!(samples.len() > 20, "{}", explain(&other));
    assert!(samples_with(&other, "interrupted").is_empty(), "{}", explain(&other));
    assert_cut(&other, samples.len());
}

#[test]
fn replaced_code_keeps_its_functions() {
    let source = r#"
#define HOT NOINLINE __attribute__((section("moved"), aligned(4096)))
extern char __start_moved[], __stop_moved[];
HOT void hot(void) { BURN(); sink++; }
int main(int argc, char **argv) {
    size_t size = ((size_t)(__stop_moved - __start_moved) + 4095) & ~4095UL;
    char *copy = mmap(0, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memcpy(copy, __start_moved, size);
    if (argv[1][0] == 'c') {
        mmap(__start_moved, size, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
        memcpy(__start_moved, copy, size);
        mprotect(__start_moved, size, PROT_READ | PROT_EXEC);
    } else {
        mprotect(copy, size, PROT_READ | PROT_EXEC);
        mremap(copy, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, __start_moved);
    }
    hot();
    return argc != 2;
}
"#;
    for (kind, option) in
        [("copy", "-fomit-frame-pointer"), ("copy", "-fno-omit-frame-pointer"), ("move", "-g")]
    {
        let Some(profile) = profile_c(source, &[option], &[kind]) else { return };
        assert_whole(&profile, "hot", &["_start"]);
        for sample in samples_with(&profile, "hot") {
            let names = names(&profile, sample);
            assert!(names.windows(2).any(|pair| pair == ["hot", "main"]), "{}", explain(&profile));
        }
        assert!(!has_notice(&profile.provenance.notices, NoticeId::AnonymousCode));
    }
}

/// Runs generated code twice at the same address: `push %rbp; mov %rsp,%rbp; mov %rdi,%rcx; l: imul $7,%rax; dec %rcx; jnz l;
/// pop %rbp; ret`. Its names are in a map if an argument is given; with "anew", the second one replaces the file's content.
const GENERATED: &str = r#"
typedef unsigned long (*function)(unsigned long);
static const unsigned char code[] = {0x55, 0x48, 0x89, 0xe5, 0x48, 0x89, 0xf9, 0xb8, 1, 0, 0, 0,
    0x48, 0x6b, 0xc0, 7, 0x48, 0xff, 0xc9, 0x75, 0xf7, 0x5d, 0xc3};
NOINLINE static void first(function f) { sink = f(150000000); sink++; }
NOINLINE static void second(function f) { sink = f(150000000); sink += 2; }
int main(int argc, char **argv) {
    char name[64], *page = mmap(0, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memcpy(page, code, sizeof code);
    snprintf(name, sizeof name, "/tmp/perf-%d.map", getpid());
    FILE *map = argc > 1 ? fopen(name, "w") : NULL;
    if (map) { fprintf(map, "%lx %zx one;[name] step.js:12\n", (long)page, sizeof code); fflush(map); }
    first((function)page);
    usleep(300000);
    if (map && argv[1][0] == 'a') { fclose(map); map = fopen(name, "w"); }
    if (map) { fprintf(map, "%lx %zx another\n", (long)page, sizeof code); fflush(map); }
    usleep(300000);
    second((function)page);
    if (map) unlink(name);
    return 0;
}
"#;

#[test]
fn generated_code_has_the_name_that_was_valid_when_it_was_sampled() {
    for kind in ["named", "anew"] {
        let Some(profile) = profile_c(GENERATED, &[], &[kind]) else { return };
        for (caller, generated) in [("first", "one;[name] step.js:12"), ("second", "another")] {
            assert_generated(&profile, caller, generated);
        }
    }
}

/// Asserts that the samples below a caller are in one function of generated code.
#[track_caller]
fn assert_generated(profile: &Profile, caller: &str, generated: &str) {
    assert_whole(profile, caller, &["_start"]);
    let samples = samples_with(profile, caller);
    let named = samples.iter().filter(|sample| names(profile, sample).contains(&generated)).count();
    assert!(named * 10 > samples.len() * 9, "{generated}: {}", explain(profile));
    let modules: Vec<_> = profile
        .functions
        .iter()
        .filter(|function| profile.string(function.name) == generated)
        .map(|function| {
            function.module.map(|id| profile.string(profile.modules[id.0 as usize].path))
        })
        .collect();
    assert_eq!(modules, [Some("[jit]")], "{}", explain(profile));
    assert!(!has_notice(&profile.provenance.notices, NoticeId::AnonymousCode));
}

#[test]
fn generated_code_may_be_named_when_the_program_ends() {
    let main = GENERATED.find("int main").expect("it has one");
    // The child has other code than its parent at the same address.
    let source = r#"
#include <sys/wait.h>
static void list(char *page, const char *first_name, const char *second_name) {
    char name[64];
    snprintf(name, sizeof name, "/tmp/perf-%d.map", getpid());
    FILE *map = fopen(name, "w");
    fprintf(map, "%lx %zx %s\n%lx %zx %s\n", (long)page, sizeof code, first_name, (long)page + 256, sizeof code, second_name);
    fclose(map);
}
NOINLINE static void third(function f) { sink = f(150000000); sink += 3; }
int main(void) {
    char *page = mmap(0, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memcpy(page, code, sizeof code);
    memcpy(page + 256, code, sizeof code);
    pid_t child = fork();
    if (child == 0) {
        third((function)page);
        list(page, "gamma", "unused");
        return 0;
    }
    first((function)page);
    second((function)(page + 256));
    list(page, "alpha", "beta");
    return waitpid(child, NULL, 0) != child;
}
"#;
    let source = [&GENERATED[..main], source].concat();
    let Some(profile) = profile_c(&source, &[], &[]) else { return };
    for thread in &profile.threads {
        let _ = std::fs::remove_file(format!("/tmp/perf-{}.map", thread.pid));
    }
    for (caller, generated) in [("first", "alpha"), ("second", "beta"), ("third", "gamma")] {
        assert_generated(&profile, caller, generated);
    }
}

#[test]
fn code_without_names_is_one_function() {
    let Some(profile) = profile_c(GENERATED, &[], &[]) else { return };
    let samples = samples_with(&profile, "[anonymous code]");
    assert!(samples.len() * 10 > profile.samples.len() * 8, "{}", explain(&profile));
    assert_whole(&profile, "[anonymous code]", &["_start"]);
    let functions = profile.functions.iter();
    let names = functions.map(|function| profile.string(function.name));
    assert_eq!(names.filter(|name| name.contains("anon")).count(), 1, "{}", explain(&profile));
    assert!(has_notice(&profile.provenance.notices, NoticeId::AnonymousCode));
}
