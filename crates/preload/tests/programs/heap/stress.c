/* Threads that allocate, fork and load libraries, while signals interrupt them. The signal handlers allocate too, also if they
   interrupted the recording library, but not if they interrupted the allocator, which is not reentrant. */
#define _GNU_SOURCE
#include "interrupted.h"
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ROUNDS = 150 };

static atomic_long handled, skipped, failures;
static atomic_int over;

static _Thread_local volatile int calling;

static void handler(int number, siginfo_t *info, void *context)
{
    (void)number, (void)info;
    int before = errno;
    if (!may_allocate(context) || calling) {
        atomic_fetch_add(&skipped, 1);
    } else {
        atomic_fetch_add(&handled, 1);
        char *p = malloc(77), *q = calloc(3, 1000);
        memset(p, 1, 77);
        if (q[2999]) atomic_fetch_add(&failures, 1);
        free(q);
        p = realloc(p, 5000);
        free(p);
    }
    errno = before;
}

static void *allocate(void *argument)
{
    void *kept[100] = {0};
    for (unsigned long i = (unsigned long)argument; !over; i++) {
        void **slot = &kept[i * 31 % 100];
        free(*slot);
        *slot = malloc(1 + i * i % 5000);
        memset(*slot, (int)i, 1 + i * i % 5000);
        /* Signals interrupt this work too. */
        for (volatile int j = 0; j < 50; j++);
    }
    for (int i = 0; i < 100; i++) free(kept[i]);
    return NULL;
}

static void *load(void *argument)
{
    while (!over) {
        calling = 1;
        void *library = dlopen(argument, RTLD_NOW);
        void *(*plugin)(void) = library ? (void *(*)(void))dlsym(library, "plugin") : NULL;
        calling = 0;
        if (!plugin) {
            atomic_fetch_add(&failures, 1);
            continue;
        }
        free(plugin());
        calling = 1;
        dlclose(library);
        calling = 0;
    }
    return NULL;
}

int main(int count, char **arguments)
{
    if (count < 2) return 1;
    find_ranges();
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_RESTART};
    sigaction(SIGALRM, &action, NULL);
    struct itimerval timer = {{0, 200}, {0, 200}};
    setitimer(ITIMER_REAL, &timer, NULL);
    pthread_t threads[4];
    for (long i = 0; i < 3; i++) pthread_create(&threads[i], NULL, allocate, (void *)(i * 1000));
    /* Only the threads that allocate receive the signals. */
    sigset_t blocked;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGALRM);
    pthread_sigmask(SIG_BLOCK, &blocked, NULL);
    pthread_create(&threads[3], NULL, load, arguments[1]);
    for (int round = 0; round < ROUNDS; round++) {
        calling = 1;
        pid_t child = fork();
        if (child == 0) {
            calling = 0;
            void *p = NULL;
            for (int i = 0; i < 200; i++) {
                void *q = malloc(100 + i);
                free(p);
                p = q;
            }
            free(p);
            _exit(7);
        }
        int status = 0;
        while (waitpid(child, &status, 0) < 0 && errno == EINTR);
        calling = 0;
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 7) atomic_fetch_add(&failures, 1);
    }
    over = 1;
    for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
    memset(&timer, 0, sizeof timer);
    setitimer(ITIMER_REAL, &timer, NULL);
    printf("failures %ld\nhandled %d\n", failures, handled > 10);
    fprintf(stderr, "handled %ld skipped %ld\n", handled, skipped);
    return 0;
}
