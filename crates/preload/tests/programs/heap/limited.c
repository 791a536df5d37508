/* Runs out of memory, more than once, and continues. */
#include "totals.h"
#include <errno.h>
#include <string.h>
#include <sys/resource.h>

int main(void)
{
    static void *blocks[1 << 16];
    struct rlimit limit;
    FILE *file = fopen("/proc/self/statm", "r");
    unsigned long pages;
    if (!file || fscanf(file, "%lu", &pages) != 1) return 1;
    fclose(file);
    limit.rlim_cur = limit.rlim_max = pages * 4096 + (64 << 20);
    if (setrlimit(RLIMIT_AS, &limit)) return 1;
    for (int round = 0; round < 3; round++) {
        int count = 0;
        errno = 0;
        while (count < 1 << 16 && (blocks[count] = made(malloc(100000), 100000))) memset(blocks[count++], 1, 100000);
        if (errno != ENOMEM || count < 100) return 1;
        errno = 0;
        void *grown = realloc(blocks[0], 80 << 20);
        if (grown || errno != ENOMEM) return 1;
        if (calloc(1000, 100000) || aligned_alloc(4096, 80 << 20)) return 1;
        void *r = NULL;
        if (posix_memalign(&r, 64, 80 << 20) != ENOMEM || r) return 1;
        /* Small allocations still succeed, as without the library. */
        while (count > round) ended(100000), free(blocks[--count]);
    }
    print_totals();
    return 4;
}
