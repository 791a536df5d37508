/* Six threads that run at the same time and make the same number of allocations. */
#include "totals.h"
#include <pthread.h>

enum { THREADS = 6, ALLOCATIONS = 1000 };

static pthread_barrier_t all_run;

static void *work(void *argument)
{
    pthread_barrier_wait(&all_run);
    for (int i = 0; i < ALLOCATIONS; i++) {
        void *p = made(malloc(123), 123);
        ended(123), free(p);
    }
    return argument;
}

int main(void)
{
    pthread_attr_t attributes;
    pthread_t threads[THREADS];
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 65536);
    pthread_barrier_init(&all_run, NULL, THREADS);
    for (int i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], &attributes, work, NULL)) return 1;
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    print_totals();
    return 0;
}
