/* Ten forked children and 64 threads, which use CPU time at the same time. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { CHILDREN = 10, THREADS = 64, SPIN_MS = 8 };

static pthread_barrier_t all_here;

/* Spins until this thread has used `ms` of CPU time, however busy the machine is. */
__attribute__((noinline)) static void spin(long ms) {
    struct timespec used;
    do {
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
    } while (used.tv_sec * 1000 + used.tv_nsec / 1000000 < ms);
}

static void *thread(void *argument) {
    char name[16];
    snprintf(name, sizeof name, "thread-%ld", (long)argument);
    prctl(PR_SET_NAME, name);
    pthread_barrier_wait(&all_here);
    spin(SPIN_MS);
    return NULL;
}

int main(void) {
    pthread_t threads[THREADS];
    for (int child = 0; child < CHILDREN; child++) {
        pid_t pid = fork();
        if (pid < 0) {
            return 1;
        }
        if (pid == 0) {
            char name[16];
            snprintf(name, sizeof name, "child-%d", child);
            prctl(PR_SET_NAME, name);
            spin(SPIN_MS);
            _exit(0);
        }
    }
    pthread_barrier_init(&all_here, NULL, THREADS);
    for (long index = 0; index < THREADS; index++) {
        if (pthread_create(&threads[index], NULL, thread, (void *)index) != 0) {
            return 2;
        }
    }
    for (int index = 0; index < THREADS; index++) {
        pthread_join(threads[index], NULL);
    }
    while (wait(NULL) > 0) {
    }
    return 0;
}
