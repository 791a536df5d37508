/* Counts the allocations of a program. The program prints the totals, and tests compare them with the recording. Allocations that the
   C library makes for itself are not counted; in the recording they differ by their caller, which is not in the program. */
#ifdef __cplusplus
#include <atomic>
using std::atomic_ulong;
#else
#include <stdatomic.h>
#endif
#include <stdio.h>
#include <stdlib.h>
#include <malloc.h>

static atomic_ulong total_count, total_bytes, freed_count, freed_bytes;

static inline void *made(void *p, size_t bytes)
{
    if (p) {
        atomic_fetch_add(&total_count, 1);
        atomic_fetch_add(&total_bytes, bytes);
    }
    return p;
}

static inline void ended(size_t bytes)
{
    atomic_fetch_add(&freed_count, 1);
    atomic_fetch_add(&freed_bytes, bytes);
}

static inline void print_totals(void)
{
    printf("count %lu\nbytes %lu\nfreed_count %lu\nfreed_bytes %lu\n", 
           (unsigned long)total_count, (unsigned long)total_bytes, (unsigned long)freed_count,
           (unsigned long)freed_bytes);
    fflush(stdout);
}
