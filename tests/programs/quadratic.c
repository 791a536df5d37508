/* Does work that grows with the square of its argument, on one core. */
#include <stdlib.h>

__attribute__((noinline)) static unsigned long compare(unsigned long value) {
    for (int i = 0; i < 100; i++) {
        value = value * 6364136223846793005UL + 1442695040888963407UL;
    }
    return value;
}

__attribute__((noinline)) static unsigned long all_pairs(unsigned long agents) {
    unsigned long value = agents;
    for (unsigned long one = 0; one < agents; one++) {
        for (unsigned long other = 0; other < agents; other++) {
            value = compare(value);
        }
    }
    return value;
}

int main(int argc, char **argv) {
    return all_pairs(argc > 1 ? strtoul(argv[1], NULL, 10) : 100) == 42;
}
