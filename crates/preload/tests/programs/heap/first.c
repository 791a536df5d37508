/* Starts children whose first allocation is interrupted by a signal, in each child at a different time. The signal handler allocates
   too. Prints the number of allocations, and how many handlers interrupted the library. */
#define _GNU_SOURCE
#include "interrupted.h"
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

enum { CHILDREN = 1000 };

static struct {
    atomic_long made, handled;
} *totals;

static void allocate(size_t bytes)
{
    void *volatile made = malloc(bytes);
    free(made);
    totals->made++;
}

static void handler(int number, siginfo_t *info, void *context)
{
    (void)number, (void)info;
    if (!may_allocate(context)) return;
    allocate(77);
    totals->handled++;
}

int main(void)
{
    find_ranges();
    totals = mmap(NULL, sizeof *totals, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (totals == MAP_FAILED) return 1;
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
    sigaction(SIGALRM, &action, NULL);
    for (int i = 0; i < CHILDREN; i++) {
        pid_t child = fork();
        if (child == 0) {
            struct itimerval timer = {{0, 0}, {0, 1 + i % 250}};
            setitimer(ITIMER_REAL, &timer, NULL);
            allocate(1000);
            memset(&timer, 0, sizeof timer);
            setitimer(ITIMER_REAL, &timer, NULL);
            _exit(7);
        }
        int status = 0;
        if (waitpid(child, &status, 0) != child || WEXITSTATUS(status) != 7) return 2;
    }
    printf("count %ld\nhandled %ld\n", totals->made, totals->handled);
    return 0;
}
