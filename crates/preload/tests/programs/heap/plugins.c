/* Loads libraries in turn at the same address. Each allocates a different size. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

int main(int count, char **paths)
{
    void *last = NULL;
    int again = 0;
    for (int round = 0; round < 30; round++) {
        void *library = dlopen(paths[1 + round % (count - 1)], RTLD_NOW);
        if (!library) return 1;
        void *(*plugin)(void) = (void *(*)(void))dlsym(library, "plugin");
        again += (void *)plugin == last;
        last = (void *)plugin;
        free(plugin());
        dlclose(library);
    }
    /* Number of times that a library was loaded at the address of the one before. */
    printf("again %d\n", again);
    return 0;
}
