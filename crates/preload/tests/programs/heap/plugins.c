/* Loads libraries in turn at the same address; each allocates another size. */
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
    /* How often a library came to where another one had been. */
    printf("again %d\n", again);
    return 0;
}
