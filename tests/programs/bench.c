/* Measures an operation with simprof_bench.h. Also valid as C++. The argument chooses a case:
 *
 *     work      an operation that prints text without a newline, with counters and a digest
 *     once      an operation that needs its set-up before each call; stderr has the numbers of both
 *     counter   a counter that is not a number
 *     name      a name that JSON cannot contain
 *     nothing   no operation
 *     calls     more calls than end in this century
 *     null      a number of counters, but no counters
 *     latin     a name that is not UTF-8
 */
#include <stdio.h>
#include <string.h>

#include "simprof_bench.h"

struct state {
    unsigned long set_ups, calls, sum;
};

static void set_up(void *data) {
    ((struct state *)data)->set_ups++;
}

static void operation(void *data) {
    struct state *state = (struct state *)data;
    unsigned long i;
    state->calls++;
    for (i = 0; i < 1000; i++) {
        state->sum += i ^ state->sum;
        simprof_bench_keep(&state->sum);
    }
}

static void noisy(void *data) {
    operation(data);
    fputs("{", stdout);
}

int main(int argc, char **argv) {
    const char *mode = argc > 1 ? argv[1] : "work";
    struct state state = {0, 0, 0};
    struct simprof_counter counters[] = {{"rows", 3.0}, {"share", 0.1}};
    uint64_t digest = UINT64_C(0xabc);
    struct simprof_bench bench;
    memset(&bench, 0, sizeof bench);
    bench.name = "work";
    bench.operation = noisy;
    bench.data = &state;
    bench.counters = counters;
    bench.counter_count = 2;
    bench.digest = &digest;
    if (strcmp(mode, "once") == 0) {
        bench.operation = operation;
        bench.set_up = set_up;
        bench.calls = 1;
    } else if (strcmp(mode, "counter") == 0) {
        counters[1].value = NAN;
    } else if (strcmp(mode, "name") == 0) {
        bench.name = "a\"b";
    } else if (strcmp(mode, "nothing") == 0) {
        bench.operation = NULL;
    } else if (strcmp(mode, "calls") == 0) {
        bench.calls = UINT64_MAX;
    } else if (strcmp(mode, "null") == 0) {
        bench.counters = NULL;
    } else if (strcmp(mode, "latin") == 0) {
        bench.name = "caf\xe9";
    }
    simprof_bench_run(&bench);
    fprintf(stderr, "%lu %lu\n", state.set_ups, state.calls);
    return 0;
}
