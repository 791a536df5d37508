/* Allocates through the addresses of malloc and free, for which a non-relocatable program has its own entries. */
#include <stdlib.h>

static void *(*volatile make)(size_t) = NULL;
static void (*volatile end)(void *) = NULL;

int main(void)
{
    make = malloc, end = free;
    for (int i = 0; i < 1000; i++) end(make(4321));
    return 0;
}
