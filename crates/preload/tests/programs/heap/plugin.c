/* A library that is loaded and unloaded, compiled several times with the same code at the same addresses. */
#include <stdlib.h>

#ifndef SIZE
#define SIZE 1
#endif

void *plugin(void)
{
    void *volatile p = malloc(SIZE);
    return p;
}
