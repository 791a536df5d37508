/* A run with known parts: set-up, steps, work between steps, and tear-down.
 *
 * parts STEPS [FILE]   appends the CPU time of the four parts in seconds to FILE
 */

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "simprof_probe.h"

static volatile double sum;
static char *volatile kept;

static double cpu_s(void) {
    struct timespec time;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

/* A macro, so that the time is that of the calling function. */
#define BURN(rounds) \
    for (long i = 0; i < (rounds); i++) \
    sum += (double)i

__attribute__((noinline)) static char *load(void) {
    kept = malloc(100 << 20); /* LOAD LINE */
    BURN(40000000);
    return kept;
}

__attribute__((noinline)) static void act(void) {
    kept = malloc(4096); /* ACT LINE */
    BURN(1000000);
    free(kept);
}

__attribute__((noinline)) static void draw(void) {
    kept = malloc(100);
    BURN(500000);
    free(kept);
}

__attribute__((noinline)) static void save(char *world) {
    BURN(10000000);
    free(world);
}

int main(int argc, char **argv) {
    int steps = argc > 1 ? atoi(argv[1]) : 20;
    double in_steps = 0, begin = cpu_s();
    char *world = load();
    double loaded = cpu_s();
    for (int i = 0; i < steps; i++) {
        if (i > 0)
            draw();
        simprof_step_begin((uint64_t)i);
        double before = cpu_s();
        act();
        in_steps += cpu_s() - before;
        simprof_step_end((uint64_t)i);
    }
    double stepped = cpu_s();
    save(world);
    FILE *file = argc > 2 ? fopen(argv[2], "a") : NULL;
    if (file != NULL) {
        double between = stepped - loaded - in_steps;
        fprintf(file, "%f %f %f %f\n", loaded - begin, in_steps, between, cpu_s() - stepped);
        fclose(file);
    }
    return 0;
}
