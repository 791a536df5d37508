/* A function whose name has special characters of every report format. */
#include <stdlib.h>

static volatile unsigned long sink;

void hostile(unsigned long rounds) __asm__("\"<script>alert(1)</script>|`rm`;]]>&lt;\"");

__attribute__((noinline)) void hostile(unsigned long rounds) {
    for (unsigned long i = 0; i < rounds; i++) {
        sink += i ^ (sink >> 3);
    }
}

int main(void) {
    hostile(60000000);
    return 0;
}
