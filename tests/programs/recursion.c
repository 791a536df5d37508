/* Spends its time at the bottom of a recursion 200 deep. */
#include <stdlib.h>

enum { DEPTH = 200 };

static volatile unsigned long sink;

__attribute__((noinline)) static void bottom(unsigned long rounds) {
    for (unsigned long i = 0; i < rounds; i++) {
        sink += i ^ (sink >> 3);
    }
}

/* NOLINTNEXTLINE: the recursion is intended. */
__attribute__((noinline)) static unsigned long descend(int level, unsigned long rounds) {
    if (level == 0) {
        bottom(rounds);
        return sink;
    }
    /* The work after the call keeps the compiler from turning the recursion into a loop. */
    return descend(level - 1, rounds) + (unsigned long)level + sink;
}

int main(int argc, char **argv) {
    unsigned long rounds = argc > 1 ? strtoul(argv[1], NULL, 10) : 60000000;
    return descend(DEPTH, rounds) == 1;
}
