/* Two threads, named spin-a and spin-b, use argv[1] ms of CPU time each. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

static long budget_ns;

static void *spin(void *name) {
    struct timespec now;
    pthread_setname_np(pthread_self(), name);
    do {
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    } while (now.tv_sec * 1000000000L + now.tv_nsec < budget_ns);
    return NULL;
}

int main(int argc, char **argv) {
    pthread_t threads[2];
    if (argc != 2) return 2;
    budget_ns = atol(argv[1]) * 1000000L;
    pthread_create(&threads[0], NULL, spin, "spin-a");
    pthread_create(&threads[1], NULL, spin, "spin-b");
    pthread_join(threads[0], NULL);
    pthread_join(threads[1], NULL);
    return 0;
}
