/* Spends three times as long in `three` as in `one`. Appends the CPU time of both, s, to a file. Arguments: turns, file. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* A chain of multiplications, whose time does not depend on the alignment of the code. */
static unsigned long chain(unsigned long value, unsigned long rounds) {
    for (unsigned long i = 0; i < rounds; i++) {
        value = value * 6364136223846793005UL + 1442695040888963407UL;
    }
    return value;
}

__attribute__((noinline)) static unsigned long one(unsigned long value, unsigned long rounds) {
    return chain(value, rounds) ^ 1;
}

__attribute__((noinline)) static unsigned long three(unsigned long value, unsigned long rounds) {
    return chain(value, 3 * rounds) ^ 3;
}

static double now(void) {
    struct timespec at;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &at);
    return at.tv_sec + at.tv_nsec / 1e9;
}

/* Many turns, so that a machine that slows down slows both functions. Their lengths are random, so that no timer is in step with
   them. */
int main(int argc, char **argv) {
    int turns = argc > 1 ? atoi(argv[1]) : 50;
    double in_three = 0, in_one = 0;
    unsigned long value = (unsigned long)argc;
    for (int turn = 0; turn < turns; turn++) {
        unsigned long rounds = 500000 + (value >> 32) % 1000000;
        double begin = now();
        value = one(value, rounds);
        double between = now();
        value = three(value, rounds);
        in_one += between - begin;
        in_three += now() - between;
    }
    FILE *file = argc > 2 ? fopen(argv[2], "a") : NULL;
    if (file) {
        fprintf(file, "%.9f %.9f\n", in_three, in_one);
        fclose(file);
    }
    return value == 42;
}
