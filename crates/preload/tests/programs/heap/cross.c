/* Threads that exchange blocks: each frees or enlarges the blocks of others. */
#include "totals.h"
#include <pthread.h>
#include <string.h>

enum { THREADS = 6, ROUNDS = 20000, SLOTS = 512 };

struct block {
    size_t bytes;
    char rest[];
};

static _Atomic(struct block *) slots[SLOTS];

static void *work(void *argument)
{
    unsigned long random = (unsigned long)argument * 0x9e3779b97f4a7c15ul + 1;
    for (int round = 0; round < ROUNDS; round++) {
        random ^= random << 13, random ^= random >> 7, random ^= random << 17;
        size_t bytes = sizeof(struct block) + random % (random % 50 ? 400 : 40000);
        struct block *mine = made(malloc(bytes), bytes);
        mine->bytes = bytes;
        struct block *other = atomic_exchange(&slots[(random >> 20) % SLOTS], mine);
        if (!other) continue;
        if (random & 1 << 30) {
            size_t before = other->bytes, after = before + (random >> 40) % 300;
            ended(before);
            other = made(realloc(other, after), after);
            other->bytes = after;
        }
        if (random & 1 << 29) {
            other = atomic_exchange(&slots[(random >> 40) % SLOTS], other);
            if (!other) continue;
        }
        ended(other->bytes);
        free(other);
    }
    return NULL;
}

int main(void)
{
    pthread_t threads[THREADS];
    for (long i = 0; i < THREADS; i++) pthread_create(&threads[i], NULL, work, (void *)(i + 1));
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    print_totals();
    return 0;
}
