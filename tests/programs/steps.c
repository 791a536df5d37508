/*
 * A known number of steps, which are marked with the header or printed as lines.
 *
 *     steps STEPS mark|print
 */
#define _GNU_SOURCE
#include "simprof_probe.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static volatile unsigned long sink;

__attribute__((noinline)) static void step(void) {
    for (unsigned long i = 0; i < 2000000; i++) {
        sink += i ^ (sink >> 3);
    }
}

int main(int argc, char **argv) {
    uint64_t steps = argc > 1 ? strtoull(argv[1], NULL, 10) : 10;
    int marks = argc > 2 && strcmp(argv[2], "mark") == 0;
    for (uint64_t index = 0; index < steps; index++) {
        if (marks) {
            simprof_step_begin(index);
            step();
            simprof_step_end(index);
        } else {
            printf("step %llu of %llu\n", (unsigned long long)index, (unsigned long long)steps);
            fflush(stdout);
            step();
        }
    }
    return 0;
}
