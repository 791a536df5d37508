/* Many mappings that grow from small to large. Some are kept. */
#define _GNU_SOURCE
#include "totals.h"
#include <sys/mman.h>

enum { SMALL = 4096, LARGE = 1 << 20, COUNT = 400, KEPT = 100 };

int main(void)
{
    for (int i = 0; i < COUNT; i++) {
        char *small = mmap(NULL, SMALL, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        char *large = mremap(small, SMALL, LARGE, MREMAP_MAYMOVE);
        if (large == MAP_FAILED) return 1;
        if (i >= KEPT) munmap(large, LARGE);
    }
    return 0;
}
