/* Many threads that make a few allocations each and end. */
#include "totals.h"
#include <pthread.h>
#include <stdint.h>

enum { CREATORS = 4, THREADS = 25000 };

static void *short_work(void *argument)
{
    size_t bytes = 100 + (uintptr_t)argument % 1000;
    void *p = made(malloc(bytes), bytes);
    void *q = made(malloc(40), 40);
    ended(bytes), free(p);
    return q;
}

static void *create(void *argument)
{
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 65536);
    for (uintptr_t i = 0; i < THREADS; i++) {
        pthread_t thread;
        void *q;
        if (pthread_create(&thread, &attributes, short_work, (void *)i)) exit(1);
        pthread_join(thread, &q);
        if (i % 100) ended(40), free(q);
    }
    return argument;
}

int main(void)
{
    pthread_t creators[CREATORS];
    for (int i = 0; i < CREATORS; i++) pthread_create(&creators[i], NULL, create, NULL);
    for (int i = 0; i < CREATORS; i++) pthread_join(creators[i], NULL);
    print_totals();
    return 0;
}
