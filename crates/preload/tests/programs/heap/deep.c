// Opens the library that the first argument names, with the flags of the second, or by `dlmopen` if these are "new".
// Then memory crosses the border between program and library in both directions.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

__attribute__((noinline)) static void *allocate(size_t size) {
    char *volatile block = malloc(size);
    block[0] = 1;
    return block;
}

int main(int count, char **arguments) {
    if (count < 3)
        return 2;
    int is_new = !strcmp(arguments[2], "new");
    void *library = is_new ? dlmopen(LM_ID_NEWLM, arguments[1], RTLD_NOW)
                           : dlopen(arguments[1], (int)strtol(arguments[2], NULL, 0));
    if (!library) {
        puts(dlerror());
        return 3;
    }
    void *(*plugin_allocate)(size_t) = (void *(*)(size_t))dlsym(library, "plugin_allocate");
    void (*plugin_free)(void *) = (void (*)(void *))dlsym(library, "plugin_free");
    void *(*plugin_grow)(void *, size_t) = (void *(*)(void *, size_t))dlsym(library, "plugin_grow");
    for (int round = 0; round < 100; round++) {
        if (is_new) {
            plugin_free(plugin_allocate(3000));
            free(allocate(2000));
            continue;
        }
        plugin_free(allocate(2000));
        free(plugin_allocate(3000));
        free(plugin_grow(allocate(4000), 5000));
        plugin_free(realloc(plugin_allocate(6000), 7000));
    }
    dlclose(library);
    puts("done");
    return 0;
}
