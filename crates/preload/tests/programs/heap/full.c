/* Reallocates until the ring is full, then marks everything as read, as a reader would, and frees. Arguments: the offsets in the
   shared memory of the positions up to which the ring is written and read. */
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

enum { COUNT = 60000, REALLOCATED = 20000 };

int main(int count, char **arguments)
{
    static void *blocks[COUNT];
    if (count != 3) return 1;
    int memory = open(getenv("SIMPROF_HEAP"), O_RDWR);
    for (int i = 0; i < COUNT; i++) blocks[i] = malloc(1000);
    for (int i = 0; i < REALLOCATED; i++) blocks[i] = realloc(blocks[i], 2000);
    unsigned long next;
    if (pread(memory, &next, sizeof next, atol(arguments[1])) != sizeof next) return 2;
    if (pwrite(memory, &next, sizeof next, atol(arguments[2])) != sizeof next) return 3;
    for (int i = 0; i < COUNT; i++) free(blocks[i]);
    return 0;
}
