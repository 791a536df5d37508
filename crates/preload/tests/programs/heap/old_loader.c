/* A `dlsym` that allocates first, as in glibc before 2.34. If the allocation fails, it uses a static buffer. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);
void __libc_free(void *);

static unsigned long without;

void *dlsym(void *handle, const char *name)
{
    static const struct { const char *name; void *function; } table[] = {
        {"malloc", (void *)__libc_malloc}, {"calloc", (void *)__libc_calloc},
        {"realloc", (void *)__libc_realloc}, {"free", (void *)__libc_free},
    };
    static char last_resort[64];
    char *message = calloc(1, sizeof last_resort);
    if (!message) without++, message = last_resort;
    message[0] = 1;
    if (handle != RTLD_NEXT) return dlvsym(handle, name, "GLIBC_2.2.5");
    for (unsigned i = 0; i < sizeof table / sizeof *table; i++)
        if (!strcmp(table[i].name, name)) return table[i].function;
    return NULL;
}

int main(void)
{
    char *made = malloc(4321), *cleared = calloc(1234, 1);
    if (!made || !cleared || cleared[1233]) return 1;
    free(made);
    free(cleared);
    return without ? 6 : 2;
}
