/* Blocks of 1,000 bytes that grow to 2,000 and 3,000 and are freed. Only the first allocation and the last free are not part of a
   realloc. */
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
