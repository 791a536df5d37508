/*
 * Component benchmarks for simprof, for programs in C and C++. Include this file; there is nothing to link.
 *
 * A benchmark of phase 2 ([[benchmark]] in simprof.toml) is a command that measures one operation with
 * one set of parameters. simprof_bench_run does this and prints the line that simprof reads:
 *
 *     static void nearby(void *data) {
 *         struct world *world = data;
 *         world->hits = count_neighbours(world, 5.0);
 *         simprof_bench_keep(&world->hits);
 *     }
 *
 *     int main(int argc, char **argv) {
 *         struct world *world = make_world(atoi(argv[1]), atoi(argv[2]));
 *         struct simprof_bench bench;
 *         memset(&bench, 0, sizeof bench);
 *         bench.name = "nearby";              // the metrics are nearby_ns and nearby_wall_ns
 *         bench.operation = nearby;
 *         bench.data = world;
 *         nearby(world);
 *         struct simprof_counter counters[] = {{"hits", world->hits}};
 *         bench.counters = counters;
 *         bench.counter_count = 1;
 *         simprof_bench_run(&bench);
 *     }
 *
 * The header works on Linux only, in C99, C++11 and later, with GCC, Clang, or another compiler with
 * their inline assembly. With -std=c99 or -std=c11 (not gnu99 or gnu11), define _GNU_SOURCE before the
 * first include.
 */
#ifndef SIMPROF_BENCH_H
#define SIMPROF_BENCH_H

#include <inttypes.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#ifndef CLOCK_THREAD_CPUTIME_ID
#error "simprof_bench.h: define _GNU_SOURCE before the first include, or compile with -std=gnu99 or later"
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* The environment variable with the time limit of one call of simprof_bench_run, in milliseconds. */
#define SIMPROF_BENCH_VARIABLE "SIMPROF_BENCH_MS"
#define SIMPROF_BENCH_DEFAULT_MS 200.0
#define SIMPROF_BENCH_MAX_MS 3600000.0

/* The share of the budget that the warm-up takes. */
#define SIMPROF_BENCH_WARM_UP 0.2
/* A batch takes at least this fraction of the budget, so that there are some tens of batches. */
#define SIMPROF_BENCH_BATCH 0.02
/* It also takes at least this many of the smallest steps of the clock, so that its cost and resolution are below 1 %. */
#define SIMPROF_BENCH_CLOCK_STEPS 100.0
/* A batch that uses little CPU time, because it waits, is long enough after this multiple of the time in
 * wall time. */
#define SIMPROF_BENCH_WAITING 10.0

#define SIMPROF_BENCH_MIN_SAMPLES 3
#define SIMPROF_BENCH_MAX_SAMPLES 40
/* No operation is so short that a batch needs more calls. A larger number means that the clock does not
 * advance. */
#define SIMPROF_BENCH_MAX_CALLS (UINT64_C(1) << 40)
/* The largest number of calls that a program may choose. */
#define SIMPROF_BENCH_MAX_CHOSEN (UINT64_C(1) << 30)

/* A work counter, such as the number of hits of a query. */
struct simprof_counter {
    const char *name;
    double value;
};

/* What to measure. Set all fields that are not needed to zero. */
struct simprof_bench {
    /* Name of the operation: the metrics are NAME_ns and NAME_wall_ns. */
    const char *name;
    /* The operation. It gets `data`. */
    void (*operation)(void *data);
    /* Called before each batch of calls, outside of the measured time. May be NULL. */
    void (*set_up)(void *data);
    void *data;
    /* Calls in one batch, at most 2^30; 0 chooses the number by time. Use 1 if the operation needs set_up before each call.
     * Such an operation should take more than 0.1 ms, because reading the clock takes up to 1 us. */
    uint64_t calls;
    /* Work of one call. */
    const struct simprof_counter *counters;
    size_t counter_count;
    /* Digest of the answer. NULL if there is none. */
    const uint64_t *digest;
};

/* CPU time of the thread and elapsed time, in ns. */
struct simprof_bench_times {
    int64_t cpu;
    int64_t wall;
};

/* Makes the compiler assume that the object at this address is read and written here. Call it in the
 * operation with the address of the result, so that the compiler does not remove the computation. */
static inline void simprof_bench_keep(const void *pointer) {
    __asm__ __volatile__("" : : "r"(pointer) : "memory");
}

/* Prints a message and ends the program with status 1. */
__attribute__((cold, noreturn, unused)) static void simprof_bench_fail(const char *what, const char *detail) {
    fflush(stdout);
    fprintf(stderr, "simprof_bench.h: %s%s\n", what, detail);
    exit(EXIT_FAILURE);
}

__attribute__((unused)) static int64_t simprof_bench_clock(clockid_t clock) {
    struct timespec now;
    if (clock_gettime(clock, &now) != 0) {
        simprof_bench_fail("a clock cannot be read", "");
    }
    return (int64_t)now.tv_sec * 1000000000 + (int64_t)now.tv_nsec;
}

/* Returns the smallest difference of two readings of the CPU clock, in ns: its resolution, or the time that
 * a reading takes. */
__attribute__((unused)) static double simprof_bench_clock_step(void) {
    int64_t before = simprof_bench_clock(CLOCK_THREAD_CPUTIME_ID), step = 0;
    int reading;
    for (reading = 0; reading < 1000; reading++) {
        int64_t now = simprof_bench_clock(CLOCK_THREAD_CPUTIME_ID);
        if (now > before && (step == 0 || now - before < step)) {
            step = now - before;
        }
        before = now;
    }
    /* A clock that did not advance in all these readings has the resolution of the scheduler's ticks. */
    return step == 0 ? 1e7 : (double)step;
}

__attribute__((unused)) static double simprof_bench_budget_ns(void) {
    const char *text = getenv(SIMPROF_BENCH_VARIABLE);
    char *end = NULL;
    double budget_ms = text ? strtod(text, &end) : SIMPROF_BENCH_DEFAULT_MS;
    if ((text && (end == text || *end != '\0')) || !(budget_ms >= 1.0 && budget_ms <= SIMPROF_BENCH_MAX_MS)) {
        simprof_bench_fail(SIMPROF_BENCH_VARIABLE " must be a number of milliseconds from 1 to 3600000, and is ",
                           text ? text : "");
    }
    return budget_ms * 1e6;
}

__attribute__((noinline, unused)) static struct simprof_bench_times
simprof_bench_batch(const struct simprof_bench *bench, uint64_t calls) {
    struct simprof_bench_times times;
    uint64_t call;
    if (bench->set_up) {
        bench->set_up(bench->data);
    }
    times.wall = simprof_bench_clock(CLOCK_MONOTONIC);
    times.cpu = simprof_bench_clock(CLOCK_THREAD_CPUTIME_ID);
    for (call = 0; call < calls; call++) {
        bench->operation(bench->data);
        simprof_bench_keep(bench->data);
    }
    times.cpu = simprof_bench_clock(CLOCK_THREAD_CPUTIME_ID) - times.cpu;
    times.wall = simprof_bench_clock(CLOCK_MONOTONIC) - times.wall;
    return times;
}

/* Runs batches until `end_ns`, and returns the number of calls that takes long enough. The number doubles
 * after each batch that is too short, also after one that was long only because another program had the
 * processor. */
__attribute__((unused)) static uint64_t simprof_bench_warm_up(const struct simprof_bench *bench, double enough_ns,
                                                              double end_ns) {
    uint64_t calls = bench->calls ? bench->calls : 1;
    for (;;) {
        struct simprof_bench_times times = simprof_bench_batch(bench, calls);
        int is_short = (double)times.cpu < enough_ns && (double)times.wall < SIMPROF_BENCH_WAITING * enough_ns;
        if (bench->calls == 0 && is_short) {
            if (calls >= SIMPROF_BENCH_MAX_CALLS) {
                simprof_bench_fail("the clock does not advance, so nothing was measured", "");
            }
            calls *= 2;
        } else if ((double)simprof_bench_clock(CLOCK_MONOTONIC) >= end_ns) {
            return calls;
        }
    }
}

/* Returns whether a text is UTF-8 (RFC 3629): neither overlong, nor a surrogate, nor above U+10FFFF. */
__attribute__((unused)) static int simprof_bench_is_utf8(const char *text) {
    const unsigned char *byte = (const unsigned char *)text;
    while (*byte != 0) {
        unsigned char first = *byte++, low = 0x80, high = 0xbf;
        int more = first < 0x80 ? 0 : first < 0xe0 ? 1 : first < 0xf0 ? 2 : 3;
        if ((first >= 0x80 && first < 0xc2) || first > 0xf4) {
            return 0;
        }
        /* Only the second byte has other limits, which depend on the first byte. */
        low = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : low;
        high = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : high;
        for (; more > 0; more--, byte++, low = 0x80, high = 0xbf) {
            if (*byte < low || *byte > high) {
                return 0;
            }
        }
    }
    return 1;
}

/* Ends the program unless the name can be written between quotes in JSON. */
__attribute__((unused)) static void simprof_bench_check_name(const char *name) {
    const char *character = name;
    if (name == NULL || *name == '\0') {
        simprof_bench_fail("an operation or a counter has no name", "");
    }
    if (!simprof_bench_is_utf8(name)) {
        simprof_bench_fail("the name of an operation or a counter is not UTF-8", "");
    }
    for (; *character != '\0'; character++) {
        if ((unsigned char)*character < 0x20 || *character == '"' || *character == '\\') {
            simprof_bench_fail("a name contains a quote, a backslash or a control character: ", name);
        }
    }
}

__attribute__((unused)) static void simprof_bench_check(const struct simprof_bench *bench) {
    size_t counter;
    if (bench == NULL) {
        simprof_bench_fail("there is no benchmark", "");
    }
    simprof_bench_check_name(bench->name);
    if (bench->operation == NULL) {
        simprof_bench_fail("there is no operation to measure: ", bench->name);
    }
    if (bench->calls > SIMPROF_BENCH_MAX_CHOSEN) {
        simprof_bench_fail("calls is larger than 1073741824: ", bench->name);
    }
    if (bench->counters == NULL && bench->counter_count > 0) {
        simprof_bench_fail("counter_count is not 0, but counters is NULL: ", bench->name);
    }
    for (counter = 0; counter < bench->counter_count; counter++) {
        simprof_bench_check_name(bench->counters[counter].name);
        if (!isfinite(bench->counters[counter].value)) {
            simprof_bench_fail("a counter is not a finite number: ", bench->counters[counter].name);
        }
    }
}

/* Prints a number as JSON has it: with a point, whatever the locale's sign is. */
__attribute__((unused)) static void simprof_bench_print_number(double value) {
    char text[64];
    const char *character = text;
    int in_number = 1;
    snprintf(text, sizeof text, "%.17g", value);
    for (; *character != '\0'; character++) {
        int was_in_number = in_number;
        in_number = strchr("0123456789+-e", *character) != NULL;
        if (in_number) {
            putchar(*character);
        } else if (was_in_number) {
            putchar('.');
        }
    }
}

/* Prints the times of one kind, in ns per call. */
__attribute__((unused)) static void simprof_bench_print_metric(const struct simprof_bench *bench, const char *ending,
                                                               const double *samples, int count) {
    int sample;
    printf("\"%s%s\": [", bench->name, ending);
    for (sample = 0; sample < count; sample++) {
        fputs(sample ? ", " : "", stdout);
        simprof_bench_print_number(samples[sample]);
    }
    fputs("]", stdout);
}

/* Prints the report as a line of its own, whatever the operation has printed. */
__attribute__((unused)) static void simprof_bench_print(const struct simprof_bench *bench, const double *cpu,
                                                        const double *wall, int count) {
    size_t counter;
    flockfile(stdout);
    fputs("\n{\"simprof\": 1, \"metrics\": {", stdout);
    simprof_bench_print_metric(bench, "_ns", cpu, count);
    fputs(", ", stdout);
    simprof_bench_print_metric(bench, "_wall_ns", wall, count);
    fputs("}, \"counters\": {", stdout);
    for (counter = 0; counter < bench->counter_count; counter++) {
        printf("%s\"%s\": ", counter ? ", " : "", bench->counters[counter].name);
        simprof_bench_print_number(bench->counters[counter].value);
    }
    fputs("}", stdout);
    if (bench->digest) {
        printf(", \"digest\": \"%016" PRIx64 "\"", *bench->digest);
    }
    fputs("}\n", stdout);
    funlockfile(stdout);
    if (fflush(stdout) != 0 || ferror(stdout)) {
        simprof_bench_fail("the report cannot be written to standard output", "");
    }
}

/* Measures an operation and prints a report of simprof's runner protocol on standard output.
 *
 * The report has two metrics, in nanoseconds per call, with one sample per batch of calls: NAME_ns is the CPU
 * time of this thread, and NAME_wall_ns the elapsed time. If the operation starts threads or waits, compare
 * the elapsed times. A batch includes the cost of an indirect call, about 2 ns; nothing is subtracted.
 *
 * Batches during the first fifth of the budget are the warm-up. The budget is 200 ms, or the number of
 * milliseconds in the environment variable SIMPROF_BENCH_MS. At least three batches are measured even if that
 * takes longer. If a value is invalid, or a clock or standard output does not work, the program ends with a
 * message and status 1. */
__attribute__((unused)) static void simprof_bench_run(const struct simprof_bench *bench) {
    double cpu[SIMPROF_BENCH_MAX_SAMPLES], wall[SIMPROF_BENCH_MAX_SAMPLES];
    double budget_ns = simprof_bench_budget_ns(), enough_ns, began;
    uint64_t calls;
    int count = 0, has_advanced = 0;
    simprof_bench_check(bench);
    enough_ns = SIMPROF_BENCH_CLOCK_STEPS * simprof_bench_clock_step();
    if (enough_ns < SIMPROF_BENCH_BATCH * budget_ns) {
        enough_ns = SIMPROF_BENCH_BATCH * budget_ns;
    }
    began = (double)simprof_bench_clock(CLOCK_MONOTONIC);
    calls = simprof_bench_warm_up(bench, enough_ns, began + SIMPROF_BENCH_WARM_UP * budget_ns);
    while (count < SIMPROF_BENCH_MIN_SAMPLES ||
           (count < SIMPROF_BENCH_MAX_SAMPLES &&
            (double)simprof_bench_clock(CLOCK_MONOTONIC) < began + budget_ns)) {
        struct simprof_bench_times times = simprof_bench_batch(bench, calls);
        has_advanced |= times.wall > 0;
        cpu[count] = (double)times.cpu / (double)calls;
        wall[count] = (double)times.wall / (double)calls;
        count++;
    }
    if (!has_advanced) {
        simprof_bench_fail("the clock does not advance, so nothing was measured", "");
    }
    simprof_bench_print(bench, cpu, wall, count);
}

#ifdef __cplusplus
}
#endif

#endif
