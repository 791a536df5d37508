// A library that allocates and frees, for `deep.c`.
#include <stdlib.h>
#include <string.h>

void *plugin_allocate(size_t size) {
    void *block = malloc(size);
    if (block)
        memset(block, 1, size);
    return block;
}

void plugin_free(void *block) { free(block); }

void *plugin_grow(void *block, size_t size) { return realloc(block, size); }
