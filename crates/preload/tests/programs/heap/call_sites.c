/* Prints the stack that `backtrace` of the C library returns at each allocation, from the innermost frame. Frames are module and
   address in it. */
#define _GNU_SOURCE
#include <alloca.h>
#include <dlfcn.h>
#include <execinfo.h>
#include <link.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static size_t next_size = 100001;

/* Allocates a size that no other call uses, and prints the stack. */
#define CALL_SITE()                                                                                                                \
    do {                                                                                                                       \
        void *frames[300];                                                                                                     \
        size_t size = next_size++;                                                                                             \
        void *volatile p = malloc(size);                                                                                       \
        print_stack(size, frames, backtrace(frames, 300));                                                                            \
        free(p);                                                                                                               \
    } while (0)

static void print_stack(size_t size, void **frames, int count)
{
    printf("stack %zu", size);
    /* The innermost frame returns from `backtrace`, not from `malloc`. The test compares only its function. */
    for (int i = 0; i < count; i++) {
        Dl_info info;
        struct link_map *map;
        if (!dladdr1((char *)frames[i] - 1, &info, (void **)&map, RTLD_DL_LINKMAP)) break;
        printf(" %s+%zx", info.dli_fname, (size_t)((char *)frames[i] - map->l_addr));
    }
    printf("\n");
}

__attribute__((noinline)) static int recursive(int depth)
{
    if (depth == 0) {
        CALL_SITE();
        return 1;
    }
    return recursive(depth - 1) + 1;
}

__attribute__((noinline)) static int dynamic(int n)
{
    volatile char *buffer = alloca(n);
    buffer[0] = 1;
    CALL_SITE();
    return buffer[0] + n;
}

/* Aligns its stack more strictly than the caller. */
__attribute__((noinline)) static int aligned(int n)
{
    volatile char buffer[64] __attribute__((aligned(128)));
    buffer[n & 63] = 1;
    int got = dynamic(n);
    CALL_SITE();
    return got + buffer[n & 63];
}

static int compare(const void *a, const void *b)
{
    static int calls;
    if (calls++ % 4 == 0) CALL_SITE();
    return *(const int *)a - *(const int *)b;
}

/* Keeps many values in registers across calls. */
__attribute__((noinline)) static long crowded(long a, long b, long c, long d, long e, long f)
{
    long sum = 0;
    for (long i = 0; i < 3; i++) {
        a += b ^ i, b += c ^ i, c += d ^ i, d += e ^ i, e += f ^ i, f += a ^ i;
        sum += recursive((int)(i + (a & 1)));
        sum ^= a * b - c * d + e * f;
    }
    return sum;
}

static void *thread(void *argument)
{
    CALL_SITE();
    crowded(1, 2, 3, 4, 5, 6);
    return argument;
}

static void handler(int signal)
{
    (void)signal;
    CALL_SITE();
    recursive(2);
}

int main(void)
{
    CALL_SITE();
    for (int depth = 0; depth < 60; depth += 7) recursive(depth);
    dynamic(100);
    dynamic(5000);
    aligned(3);
    crowded(6, 5, 4, 3, 2, 1);
    int numbers[] = {5, 3, 9, 1, 7, 2, 8};
    qsort(numbers, 7, sizeof *numbers, compare);
    pthread_t threads[3];
    for (int i = 0; i < 3; i++) {
        pthread_create(&threads[i], NULL, thread, NULL);
        pthread_join(threads[i], NULL);
    }
    signal(SIGUSR1, handler);
    raise(SIGUSR1);
    /* The same handler on a signal stack. */
    static char stack[65536];
    stack_t other = {.ss_sp = stack, .ss_size = sizeof stack};
    sigaltstack(&other, NULL);
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_ONSTACK};
    sigaction(SIGUSR2, &action, NULL);
    raise(SIGUSR2);
    recursive(250);
    return 0;
}
