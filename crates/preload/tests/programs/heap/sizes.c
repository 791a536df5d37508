/* Allocates many blocks of several sizes, each size in its own function. Some blocks are kept until the end. */
#include "totals.h"
#include <string.h>

#define SIZE(n, count, every)                                                                                                  \
    __attribute__((noinline)) static void of_##n(void)                                                                         \
    {                                                                                                                          \
        for (long i = 0; i < count; i++) {                                                                                     \
            void *volatile p = malloc(n);                                                                                      \
            if (i % every) free(p);                                                                                            \
        }                                                                                                                      \
        printf("of %d %ld %ld\n", n, (long)count, (long)((count + every - 1) / every));                                       \
    }
SIZE(24, 3000000, 4)
SIZE(200, 1000000, 10)
SIZE(3000, 100000, 7)
SIZE(50000, 3000, 30)
SIZE(700000, 400, 40)
SIZE(9000000, 30, 10)

int main(void)
{
    of_24(), of_200(), of_3000(), of_50000(), of_700000(), of_9000000();
    return 0;
}
