/* Allocation functions that count: the program prints its exact totals, and a test compares a recording with them.
   Only these functions count. What the C library allocates for itself is not counted; a recording distinguishes it
   by the caller, since the program's own calls return into the program. */
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
