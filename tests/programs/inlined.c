/* Its time is spent in one line of a function that is always inlined, behind a wrapper. */
#include <stdlib.h>

#define MIX(value) ((value) * 6364136223846793005UL + 1442695040888963407UL)

static volatile unsigned long sink;

__attribute__((always_inline)) static inline unsigned long smooth(unsigned long value) {
    for (unsigned long i = 0; i < 1000000; i++) {
        value = MIX(MIX(MIX(MIX(MIX(MIX(value)))))); /* HOT LINE */
    }
    return value;
}

__attribute__((noinline)) static unsigned long diffuse(unsigned long value) {
    return smooth(value + 1) ^ 1;
}

/* Does nothing but hand the work on. The assignment behind the call keeps it from being a jump. */
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
