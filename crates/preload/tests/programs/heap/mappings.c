/* Anonymous mappings that are unmapped completely or in parts, moved, and mapped over; and mappings that are not anonymous. */
#define _GNU_SOURCE
#include "totals.h"
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PAGE = 4096 };

static char *map(size_t pages, int protection, int flags)
{
    return mmap(NULL, pages * PAGE, protection, flags, -1, 0);
}

/* Corrects the number of frees after an `ended` for a part of a mapping: `parts` other parts of that mapping remain. */
static void remain(int parts)
{
    freed_count -= parts;
}

static const int BOTH = PROT_READ | PROT_WRITE, OWN = MAP_PRIVATE | MAP_ANONYMOUS;

int main(void)
{
    /* Not counted: a reservation, a file, a failure. */
    char *reserved = map(1000, PROT_NONE, OWN);
    map(1000, BOTH, OWN | MAP_NORESERVE);
    int fd = open("/proc/self/exe", O_RDONLY);
    mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, fd, 0);
    if (mmap(NULL, 0, BOTH, OWN, -1, 0) != MAP_FAILED) return 1;
    /* Unmapped completely. */
    char *whole = made(map(10, BOTH, OWN), 10 * PAGE);
    whole[9 * PAGE] = 1;
    munmap(whole, 10 * PAGE), ended(10 * PAGE);
    /* Lengths are rounded up. */
    char *odd = made(mmap(NULL, 5 * PAGE + 1, BOTH, MAP_SHARED | MAP_ANONYMOUS, -1, 0), 6 * PAGE);
    munmap(odd, 5 * PAGE + 1), ended(6 * PAGE);
    /* A hole leaves two parts. */
    char *parts = made(map(30, BOTH, OWN), 30 * PAGE);
    munmap(parts + 10 * PAGE, 5 * PAGE), ended(5 * PAGE), remain(2);
    /* One call unmaps the first part and a piece of the second, of which the rest remains. */
    munmap(parts, 20 * PAGE), ended(10 * PAGE), ended(5 * PAGE), remain(1);
    /* A new mapping over the middle of another. */
    char *under = made(map(40, BOTH, OWN), 40 * PAGE);
    made(mmap(under + 10 * PAGE, 20 * PAGE, BOTH, OWN | MAP_FIXED, -1, 0), 20 * PAGE);
    ended(20 * PAGE), remain(2);
    /* A mapping into the reservation, and another at the same address. */
    made(mmap(reserved + 100 * PAGE, 50 * PAGE, BOTH, OWN | MAP_FIXED, -1, 0), 50 * PAGE);
    made(mmap(reserved + 100 * PAGE, 50 * PAGE, BOTH, OWN | MAP_FIXED, -1, 0), 50 * PAGE), ended(50 * PAGE);
    /* Enlarged, and possibly moved. */
    char *grown = made(map(20, BOTH, OWN), 20 * PAGE);
    grown[0] = 5;
    grown = made(mremap(grown, 20 * PAGE, 4000 * PAGE, MREMAP_MAYMOVE), 4000 * PAGE), ended(20 * PAGE);
    if (grown[0] != 5) return 1;
    if (mremap(grown, 4000 * PAGE, (size_t)1 << 50, MREMAP_MAYMOVE) != MAP_FAILED) return 1;
    munmap(grown, 4000 * PAGE), ended(4000 * PAGE);
    /* The end of one mapping is moved onto another. */
    char *from = made(map(20, BOTH, OWN), 20 * PAGE), *to = made(map(12, BOTH, OWN), 12 * PAGE);
    from[15 * PAGE] = 6;
    if (mremap(from + 15 * PAGE, 5 * PAGE, 8 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to + 2 * PAGE) != to + 2 * PAGE) return 1;
    ended(5 * PAGE), remain(1), ended(8 * PAGE), remain(2), made(to + 2 * PAGE, 8 * PAGE);
    if (to[2 * PAGE] != 6) return 1;
    /* Memory that malloc maps is counted once, as an allocation of malloc. */
    free(malloc(50 << 20));
    print_totals();
    return 0;
}
