/* Checks that errno is 0 when main begins, and that each function of the malloc family leaves it unchanged. */
#include <errno.h>
#include <malloc.h>
#include <stdlib.h>

int main(void)
{
    if (errno) return errno;
    for (int i = 0; i < 100000; i++) {
        errno = 99;
        void *p = malloc(100), *q = calloc(7, 9), *r = NULL;
        p = realloc(p, 3000);
        int failed = posix_memalign(&r, 64, 640);
        void *s = aligned_alloc(64, 128), *t = memalign(64, 100);
        free(p), free(q), free(r), free(s), free(t);
        if (failed || errno != 99) return 1;
    }
    return 0;
}
