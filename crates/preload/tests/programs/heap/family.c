/* Calls each function of the malloc family, with sizes that different parts of the allocator serve, and with requests that fail. */
#include "totals.h"
#include <errno.h>
#include <stdint.h>
#include <string.h>

static void expect(int holds, const char *what)
{
    if (!holds) {
        printf("wrong: %s\n", what);
        exit(1);
    }
}

int main(void)
{
    static const size_t sizes[] = {0, 1, 24, 100, 1000, 5000, 200000, 3000000};
    const char *rounds = getenv("ROUNDS");
    for (int round = 0; round < (rounds ? atoi(rounds) : 20); round++) {
        for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            size_t n = sizes[i];
            void *p = made(malloc(n), n);
            expect(malloc_usable_size(p) >= n, "usable size");
            memset(p, 1, n);
            void *q = made(calloc(3, n), 3 * n);
            for (size_t at = 0; at < 3 * n; at += 97) expect(((char *)q)[at] == 0, "zeroed");
            void *r;
            expect(posix_memalign(&r, 256, n) == 0 && (uintptr_t)r % 256 == 0, "posix_memalign");
            made(r, n);
            void *s = made(aligned_alloc(64, n), n);
            expect((uintptr_t)s % 64 == 0, "aligned_alloc");
            void *t = made(memalign(4096, n), n);
            expect((uintptr_t)t % 4096 == 0, "memalign");
            void *u = made(valloc(n), n);
            /* A chain: each step ends one allocation and makes another. */
            size_t length = n + 1;
            char *chain = made(realloc(NULL, length), length);
            for (int step = 0; step < 6; step++) {
                chain[length - 1] = (char)step;
                ended(length);
                size_t next = length * 2;
                chain = made(step % 2 ? realloc(chain, next) : reallocarray(chain, 2, length), next);
                expect(chain[length - 1] == (char)step, "realloc keeps contents");
                length = next;
            }
            free(p), ended(n);
            free(q), ended(3 * n);
            free(r), ended(n);
            if (round % 2) free(s), ended(n);
            free(t), ended(n);
            free(u), ended(n);
            ended(length);
            /* With a size of 0, realloc frees. */
            expect(realloc(chain, 0) == NULL, "realloc to nothing");
        }
    }
    /* These requests fail as without the library, and are not counted. */
    volatile size_t half = SIZE_MAX / 2;
    errno = 0;
    expect(calloc(half, 3) == NULL && errno == ENOMEM, "calloc overflow");
    errno = 0;
    expect(malloc(half + 10) == NULL && errno == ENOMEM, "malloc too large");
    errno = 0;
    char *kept = made(malloc(100), 100);
    kept[99] = 7;
    expect(realloc(kept, half + 10) == NULL && errno == ENOMEM, "realloc too large");
    errno = 0;
    expect(reallocarray(kept, half, 3) == NULL && errno == ENOMEM, "reallocarray overflow");
    expect(kept[99] == 7, "realloc that failed keeps contents");
    void *r = &r;
    errno = 0;
    expect(posix_memalign(&r, 3, 10) == EINVAL && r == &r, "posix_memalign");
    expect(errno == 0, "posix_memalign leaves errno");
    free(kept), ended(100);
    free(NULL);
    errno = 77;
    free(made(malloc(10), 10)), ended(10);
    expect(errno == 77, "errno kept");
    print_totals();
    return 3;
}
