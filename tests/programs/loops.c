/* Spends three times as long in the second loop of a function as in the first one. Argument: turns. */
#include <stdlib.h>

/* Chains of multiplications, whose time does not depend on the alignment of the code. */
__attribute__((noinline)) static unsigned long work(unsigned long value, unsigned long rounds) {
    for (unsigned long i = 0; i < rounds; i++) { /* FIRST LOOP */
        value = value * 6364136223846793005UL + 1442695040888963407UL;
    }
    for (unsigned long i = 0; i < 3 * rounds; i++) { /* SECOND LOOP */
        value = value * 2862933555777941757UL + 3037000493UL;
    }
    return value;
}

/* The lengths of the turns are random, so that no timer is in step with them. */
int main(int argc, char **argv) {
    int turns = argc > 1 ? atoi(argv[1]) : 50;
    unsigned long value = (unsigned long)argc;
    for (int turn = 0; turn < turns; turn++) {
        value = work(value, 500000 + (value >> 32) % 1000000);
    }
    return value == 42;
}
