/* Limits its address space, makes many small allocations, and then a large one, which succeeds without the library. */
#include "totals.h"
#include <sys/resource.h>

int main(void)
{
    struct rlimit limit = {1 << 30, 1 << 30};
    if (setrlimit(RLIMIT_AS, &limit)) return 1;
    for (int i = 0; i < 1000000; i++)
        if (!malloc(16)) return 2;
    char *large = malloc(700 << 20);
    if (!large) return 3;
    large[0] = 1;
    free(large);
    return 5;
}
