/* Prints the stack of the C library's own unwinder at each allocation, as module and address there, from the innermost frame. */
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

/* Allocates a size that occurs at no other call, and prints the frames that return from here. */
#define PLACE()                                                                                                                \
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
    /* The innermost frame returns from `backtrace`, not from `malloc`: its function is compared only. */
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
        PLACE();
        return 1;
    }
    return recursive(depth - 1) + 1;
}

__attribute__((noinline)) static int dynamic(int n)
{
    volatile char *buffer = alloca(n);
    buffer[0] = 1;
    PLACE();
    return buffer[0] + n;
}

/* Aligns its stack beyond what the caller gives. */
__attribute__((noinline)) static int aligned(int n)
{
    volatile char buffer[64] __attribute__((aligned(128)));
    buffer[n & 63] = 1;
    int got = dynamic(n);
    PLACE();
    return got + buffer[n & 63];
}

static int compare(const void *a, const void *b)
{
    static int calls;
    if (calls++ % 4 == 0) PLACE();
    return *(const int *)a - *(const int *)b;
}

/* Many values that live in registers across calls. */
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
    PLACE();
    crowded(1, 2, 3, 4, 5, 6);
    return argument;
}

static void handler(int signal)
{
    (void)signal;
    PLACE();
    recursive(2);
}

int main(void)
{
    PLACE();
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
    /* The same on another stack. */
    static char stack[65536];
    stack_t other = {.ss_sp = stack, .ss_size = sizeof stack};
    sigaltstack(&other, NULL);
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_ONSTACK};
    sigaction(SIGUSR2, &action, NULL);
    raise(SIGUSR2);
    recursive(250);
    return 0;
}
