/* Marks steps: marks MODE COUNT.
 *   pairs       begin and end, with a population of ten times the index
 *   boundaries  COUNT boundaries and an end
 *   threads     8 threads, COUNT begins and COUNT ends each
 *   fork        a child and its parent, COUNT pairs each; the child from 1,000,000 on
 *   crash       COUNT pairs, one more begin, then SIGKILL
 */
#define _GNU_SOURCE
#include "simprof_probe.h"
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>

static uint64_t count;

static void pairs(uint64_t from) {
    for (uint64_t step = from; step < from + count; step++) {
        simprof_step_begin(step);
        simprof_step_end_with_population(step, step * 10);
    }
}

static void *thread(void *unused) {
    for (uint64_t step = 0; step < count; step++) {
        simprof_step_begin(step);
        simprof_step_end(step);
    }
    return unused;
}

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    count = strtoull(argv[2], NULL, 10);
    switch (argv[1][0]) {
    case 'p':
        pairs(0);
        return 0;
    case 'b':
        for (uint64_t step = 0; step < count; step++) simprof_step(step);
        simprof_step_end(count - 1);
        return 0;
    case 't': {
        pthread_t threads[8];
        for (int i = 0; i < 8; i++) pthread_create(&threads[i], NULL, thread, NULL);
        for (int i = 0; i < 8; i++) pthread_join(threads[i], NULL);
        return 0;
    }
    case 'f': {
        pid_t child;
        pairs(0);
        child = fork();
        if (child == 0) {
            pairs(1000000);
            _exit(0);
        }
        waitpid(child, NULL, 0);
        return 0;
    }
    case 'c':
        pairs(0);
        simprof_step_begin(count);
        kill(getpid(), SIGKILL);
    }
    return 2;
}
