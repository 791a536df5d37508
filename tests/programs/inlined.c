/* Spends its time in a loop of a function that is always inlined, behind a wrapper. */
#include <stdlib.h>

/* Sixteen of these are a chain of some 60 cycles that no compiler shortens. The loop around it takes one or two more, so that on
   every processor nearly all samples fall into the chain's line. */
#define MIX(value) ((value) * 6364136223846793005UL ^ 1442695040888963407UL)
#define MIX4(value) MIX(MIX(MIX(MIX(value))))

static volatile unsigned long sink;

__attribute__((always_inline)) static inline unsigned long smooth(unsigned long value) {
    for (unsigned long i = 0; i < 70000; i++) { /* HOT LOOP */
        value = MIX4(MIX4(MIX4(MIX4(value)))); /* HOT LINE */
    }
    return value;
}

__attribute__((noinline)) static unsigned long diffuse(unsigned long value) {
    return smooth(value + 1) ^ 1;
}

/* A wrapper. The assignment after the call keeps the compiler from turning the call into a jump. */
__attribute__((noinline)) static void update_world(void) {
    sink = diffuse(sink);
}

int main(int argc, char **argv) {
    int turns = argc > 1 ? atoi(argv[1]) : 50;
    for (int turn = 0; turn < turns; turn++) {
        update_world();
    }
    return 0;
}
