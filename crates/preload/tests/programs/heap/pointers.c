/* Allocates through the addresses of malloc and free, which a program that may not be moved has an entry of its own for. */
#include <stdlib.h>

static void *(*volatile make)(size_t) = NULL;
static void (*volatile end)(void *) = NULL;

int main(void)
{
    make = malloc, end = free;
    for (int i = 0; i < 1000; i++) end(make(4321));
    return 0;
}
