/* Allocations whose totals are known: 200 steps, each with a leak, temporaries and a reallocated block; step 120 has the peak. */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "simprof_probe.h"

static void *leaked[200];
static volatile char sink;

static __attribute__((noinline)) void leak(int step) {
    leaked[step] = malloc(40960); /* leak */
    memset(leaked[step], 1, 40960);
}

static __attribute__((noinline)) void temporary(void) {
    for (int i = 0; i < 50; i++) {
        char *vector = malloc(1000 + i); /* temporary */
        vector[0] = (char)i;
        sink += vector[0];
        free(vector);
    }
}

static __attribute__((noinline)) void grows(void) {
    char *block = malloc(16);
    for (size_t size = 32; size <= 4096; size *= 2)
        block = realloc(block, size); /* grows */
    sink += block[0];
    free(block);
}

static __attribute__((noinline)) void peak(void) {
    char *large = malloc(64 << 20); /* peak */
    memset(large, 1, 64 << 20);
    sink += large[5];
    free(large);
}

static void *hands_over(void *count) {
    void **blocks = calloc(*(int *)count, sizeof(void *));
    for (int i = 0; i < *(int *)count; i++)
        blocks[i] = malloc(777); /* across */
    return blocks;
}

static void across(void) {
    int count = 1000;
    for (int round = 0; round < 4; round++) {
        pthread_t thread;
        void *blocks;
        pthread_create(&thread, NULL, hands_over, &count);
        pthread_join(thread, &blocks);
        for (int i = 0; i < count; i++)
            free(((void **)blocks)[i]);
        free(blocks);
    }
}

static __attribute__((noinline)) void child(void) {
    void *block = malloc(30000); /* child */
    memset(block, 1, 30000);
    sink += *(char *)block;
    free(leaked[0]);
    _exit(block == NULL);
}

int main(int argc, char **argv) {
    for (int step = 0; step < 200; step++) {
        simprof_step_begin((uint64_t)step);
        leak(step);
        temporary();
        grows();
        if (step == 120)
            peak();
        simprof_step_end_with_population((uint64_t)step, 1000);
    }
    across();
    pid_t pid = fork();
    if (pid == 0)
        child();
    waitpid(pid, NULL, 0);
    if (argc > 1 && strcmp(argv[1], "killed") == 0)
        kill(getpid(), 9);
    return 0;
}
