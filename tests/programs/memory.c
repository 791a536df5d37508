/*
 * Memory whose use is known, step by step.
 *
 *     memory MODE [STEPS]
 *
 * simulate   marked steps: a leak, temporaries, and agents whose number changes; the peak is after two thirds of the steps
 * print      like simulate, with a line of output for each step instead of a mark
 * killed     like simulate, and kills itself after the last step
 * growing    agents only, more with each step
 * exhausted  requests more memory than its limit, and continues; exit status 7
 * pool       maps memory without an allocator and uses it
 * outcomes   prints the results and errno of the allocator's functions, and the signals received; exit status 3
 */
#define _GNU_SOURCE
#include "simprof_probe.h"

#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <unistd.h>

#define LEAK 40000
#define AGENT 3000
#define MOST_AGENTS 4096
#define POOL (256u << 20)

static void *agents[MOST_AGENTS];
static unsigned alive;
static void **leaked;
static volatile char sink;
static volatile unsigned char pool[POOL];

static void *touched(void *block, size_t size) {
    memset(block, 1, size);
    sink += ((volatile char *)block)[size / 2];
    return block;
}

__attribute__((noinline)) static void leak(void) {
    void **block = malloc(LEAK); /* LEAK LINE */
    touched(block, LEAK);
    *block = leaked;
    leaked = block;
}

__attribute__((noinline)) static void churn(void) {
    for (unsigned i = 0; i < 400; i++) {
        char *vector = malloc(1500 + i); /* CHURN LINE */
        vector[0] = (char)i;
        sink += vector[0];
        free(vector);
    }
}

__attribute__((noinline)) static void populate(unsigned wanted) {
    while (alive < wanted) {
        void *agent = malloc(AGENT); /* AGENT LINE */
        agents[alive++] = touched(agent, AGENT);
    }
    while (alive > wanted)
        free(agents[--alive]);
}

__attribute__((noinline)) static void swell(void) {
    char *much = malloc(64 << 20); /* PEAK LINE */
    touched(much, 64 << 20);
    free(much);
}

static void step(unsigned step, unsigned steps) {
    leak();
    churn();
    populate(1000 + step * 37 % 400);
    if (step == steps * 2 / 3)
        swell();
}

static void simulate(unsigned steps, int mark) {
    for (unsigned i = 0; i < steps; i++) {
        if (mark) {
            simprof_step_begin(i);
            step(i, steps);
            simprof_step_end_with_population(i, alive);
        } else {
            char line[64];
            int length = snprintf(line, sizeof line, "step %u of %u\n", i, steps);
            if (write(1, line, (size_t)length) != length)
                exit(1);
            step(i, steps);
            // Steps are so long that their lines are read at different times, even on a busy machine.
            usleep(20000);
        }
    }
}

static void grow(unsigned steps) {
    for (unsigned i = 0; i < steps; i++) {
        simprof_step_begin(i);
        populate(500 + 10 * i);
        simprof_step_end_with_population(i, alive);
    }
}

static int exhaust(void) {
    struct rlimit limit = {8ul << 30, 8ul << 30};
    setrlimit(RLIMIT_AS, &limit);
    void *kept = NULL;
    unsigned refused = 0;
    for (unsigned i = 0; i < 20; i++) {
        errno = 0;
        void *block = malloc(1ul << 30);
        if (block == NULL)
            refused += errno == ENOMEM;
        else if (kept == NULL)
            kept = block;
    }
    void *small = malloc(100000); /* AFTERWARDS */
    printf("refused %s, afterwards %s\n", refused > 0 ? "some" : "none", small ? "well" : "ill");
    return 7;
}

static void take_from_pool(void) {
    for (size_t at = 0; at < POOL; at += 4096)
        pool[at] = 1;
    // Long enough for the resident set to be read, even on a busy machine.
    sleep(1);
}

static volatile sig_atomic_t signals;

static void on_alarm(int signal) {
    int before = errno;
    signals = signals + (signal == SIGALRM);
    free(malloc(64));
    errno = before;
}

static void check(const char *what, int fine) {
    printf("%s: %s, errno %d\n", what, fine ? "as it should" : "not so", errno);
}

static int outcomes(void) {
    void *aligned = NULL;
    errno = 0;
    char *block = malloc(100);
    check("malloc", block != NULL && malloc_usable_size(block) >= 100);
    block = realloc(block, 100000);
    check("realloc", block != NULL && malloc_usable_size(block) >= 100000);
    errno = EINTR;
    free(block);
    check("free", 1);
    volatile size_t absurd = (size_t)-1 / 2;
    errno = 0;
    check("malloc of too much", malloc(absurd) == NULL);
    errno = 0;
    check("calloc of too much", calloc(absurd, 3) == NULL);
    errno = 0;
    block = malloc(10);
    char *larger = realloc(block, absurd);
    check("realloc to too much", larger == NULL);
    if (larger == NULL)
        free(block);
    errno = 0;
    check("posix_memalign badly", posix_memalign(&aligned, 3, 10) == EINVAL);
    check("posix_memalign", posix_memalign(&aligned, 4096, 10) == 0 && (size_t)aligned % 4096 == 0);
    free(aligned);
    block = calloc(1000, 3);
    int zero = block != NULL;
    for (int i = 0; zero && i < 3000; i++)
        zero = block[i] == 0;
    check("calloc", zero);
    free(block);
    struct itimerval soon = {{0, 1000}, {0, 1000}};
    signal(SIGALRM, on_alarm);
    setitimer(ITIMER_REAL, &soon, NULL);
    while (signals < 20)
        free(malloc(200));
    soon = (struct itimerval){{0, 0}, {0, 0}};
    setitimer(ITIMER_REAL, &soon, NULL);
    check("signals", signals >= 20);
    fprintf(stderr, "an error's text\n");
    return 3;
}

int main(int argc, char **argv) {
    const char *mode = argc > 1 ? argv[1] : "simulate";
    unsigned steps = argc > 2 ? (unsigned)atoi(argv[2]) : 100;
    if (strcmp(mode, "exhausted") == 0)
        return exhaust();
    if (strcmp(mode, "outcomes") == 0)
        return outcomes();
    if (strcmp(mode, "pool") == 0)
        take_from_pool();
    else if (strcmp(mode, "growing") == 0)
        grow(steps);
    else
        simulate(steps, strcmp(mode, "print") != 0);
    if (strcmp(mode, "killed") == 0)
        kill(getpid(), SIGKILL);
    return 0;
}
