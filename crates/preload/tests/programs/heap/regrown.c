/* Blocks of 1,000 bytes that become 2,000 and then 3,000 and are freed: only what is malloc's and free's own is none of realloc's. */
#include <stdlib.h>

int main(void)
{
    for (int i = 0; i < 50000; i++) {
        void *volatile block = malloc(1000);
        block = realloc(block, 2000);
        block = realloc(block, 3000);
        free(block);
    }
    return 0;
}
