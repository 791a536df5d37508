/* Allocates in several threads until it is killed. */
#include "totals.h"
#include <pthread.h>
#include <string.h>

static void *work(void *argument)
{
    void *kept[64] = {0};
    for (unsigned long i = (unsigned long)argument;; i++) {
        void **slot = &kept[i * 7 % 64];
        free(*slot);
        *slot = i % 5 ? malloc(i % 3000) : realloc(malloc(i % 100), i % 5000);
    }
}

int main(void)
{
    pthread_t thread;
    for (long i = 1; i < 4; i++) pthread_create(&thread, NULL, work, (void *)(i * 1000));
    work(NULL);
}
