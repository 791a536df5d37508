/* Creates children with fork, clone, vfork and posix_spawn. They free inherited blocks. Each process prints its process id and its
   own totals. */
#define _GNU_SOURCE
#include "totals.h"
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static void *inherited[1000];

/* Prints the totals of this process in one write. */
static void print_own_totals(void)
{
    char line[200];
    int n = snprintf(line, sizeof line, "%d %lu %lu %lu %lu\n", (int)syscall(SYS_getpid), total_count, total_bytes, freed_count,
                     freed_bytes);
    if (write(1, line, n) != n) _exit(9);
}

static void child(void)
{
    total_count = total_bytes = freed_count = freed_bytes = 0;
    for (int i = 0; i < 1000; i++) {
        if (i % 3 == 0) free(inherited[i]), inherited[i] = NULL;
        else if (i % 3 == 1) inherited[i] = made(realloc(inherited[i], 300 + i), 300 + i);
    }
    for (int i = 0; i < 2000; i++) {
        void *p = made(malloc(i), i);
        if (i % 2) ended(i), free(p);
    }
    print_own_totals();
}

static void wait_for(pid_t pid)
{
    int status;
    if (waitpid(pid, &status, 0) != pid || status != 0x500) exit(1);
}

int main(int count, char **arguments)
{
    if (count > 1) {
        child();
        _exit(5);
    }
    for (int i = 0; i < 1000; i++) inherited[i] = made(malloc(100 + i), 100 + i);
    pid_t pid = fork();
    if (pid == 0) {
        child();
        /* A grandchild. */
        pid = fork();
        if (pid == 0) {
            child();
            _exit(5);
        }
        wait_for(pid);
        _exit(5);
    }
    wait_for(pid);
    /* Directly by the system call, without the C library. */
    pid = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
    if (pid == 0) {
        child();
        _exit(5);
    }
    wait_for(pid);
    pid = vfork();
    if (pid == 0) {
        /* The child shares the memory of its parent, so its allocations are the parent's. */
        inherited[0] = made(realloc(inherited[0], 5000), 5000), ended(100);
        execl("/proc/self/exe", "again", "child", NULL);
        _exit(1);
    }
    wait_for(pid);
    char *again[] = {"again", "child", NULL};
    if (posix_spawn(&pid, "/proc/self/exe", NULL, NULL, again, environ)) return 1;
    wait_for(pid);
    for (int i = 0; i < 500; i++) ended(i ? 100 + i : 5000), free(inherited[i]);
    print_own_totals();
    return 0;
}
