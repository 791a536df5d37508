/* A parallel region in which one thread does all the work, so the other waits at the barrier at its end. */
#define _GNU_SOURCE
#include <omp.h>
#include <stdio.h>
#include <time.h>

/* Computes until this thread has used `ms` more of CPU time, however busy the machine is. */
__attribute__((noinline)) static void compute(long ms) {
    struct timespec begin, now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &begin);
    do {
        for (volatile int i = 0; i < 10000; i++) {}
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    } while ((now.tv_sec - begin.tv_sec) * 1000 + (now.tv_nsec - begin.tv_nsec) / 1000000 < ms);
}

__attribute__((noinline)) static void region(void) {
#pragma omp parallel /* REGION */
    if (omp_get_thread_num() == 0) compute(20);
}

int main(void) {
    for (int i = 0; i < 15; i++) region();
    puts("done");
    return 0;
}
