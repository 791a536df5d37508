/* What threads do, by the first argument:
 *   one-cpu     three processes that compute share one CPU
 *   kernel      the kernel works
 *   queue       three threads queue for a lock, while the main thread computes and then syncs a file
 *   spin-lock   two threads need the same spin lock
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { THREADS = 3, TURNS = 40, HOLD_US = 2000, SPIN_TURNS = 40 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_spinlock_t spin_lock;

/* Computes until this thread has used `ms` more of CPU time, however busy the machine is. */
__attribute__((noinline)) static void compute(long ms) {
    struct timespec begin, now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &begin);
    do {
        for (volatile int i = 0; i < 10000; i++) {}
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    } while ((now.tv_sec - begin.tv_sec) * 1000 + (now.tv_nsec - begin.tv_nsec) / 1000000 < ms);
}

static void one_cpu(void) {
    cpu_set_t allowed, one;
    CPU_ZERO(&allowed);
    CPU_ZERO(&one);
    sched_getaffinity(0, sizeof allowed, &allowed);
    for (int cpu = 0; cpu < CPU_SETSIZE && CPU_COUNT(&one) == 0; cpu++) {
        if (CPU_ISSET(cpu, &allowed)) CPU_SET(cpu, &one);
    }
    sched_setaffinity(0, sizeof one, &one);
    int child = 0;
    for (int i = 0; i < 2 && (i == 0 || child != 0); i++) child = fork();
    compute(200);
    if (child == 0) _exit(0);
    while (wait(NULL) > 0) {}
}

static void kernel(void) {
    static char bytes[1 << 20];
    for (int i = 0; i < 100; i++) {
        if (getrandom(bytes, sizeof bytes, 0) < 0) return;
    }
}

__attribute__((noinline)) static void critical(void) {
    pthread_mutex_lock(&lock); /* QUEUES */
    usleep(HOLD_US); /* SLEEPS */
    pthread_mutex_unlock(&lock);
}

static void *queues(void *argument) {
    for (int i = 0; i < TURNS; i++) critical();
    return argument;
}

__attribute__((noinline)) static void save(const char *path) {
    char bytes[4096] = {1};
    int file = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0600);
    for (int i = 0; i < 5; i++) {
        if (write(file, bytes, sizeof bytes) < 0 || fdatasync(file) < 0) break; /* SYNCS */
    }
    close(file);
}

__attribute__((noinline)) static void needs(void) {
    pthread_spin_lock(&spin_lock); /* SPINS */
    compute(5);
    pthread_spin_unlock(&spin_lock);
}

static void *spins(void *argument) {
    for (int i = 0; i < SPIN_TURNS; i++) needs();
    return argument;
}

static void in_threads(void *(*start)(void *), int count, const char *path) {
    pthread_t threads[THREADS];
    for (int i = 0; i < count; i++) pthread_create(&threads[i], NULL, start, NULL);
    if (path != NULL) {
        compute(50);
        save(path);
    }
    for (int i = 0; i < count; i++) pthread_join(threads[i], NULL);
}

int main(int count, char **arguments) {
    const char *mode = count > 1 ? arguments[1] : "";
    if (strcmp(mode, "one-cpu") == 0) one_cpu();
    if (strcmp(mode, "kernel") == 0) kernel();
    if (strcmp(mode, "queue") == 0 && count > 2) in_threads(queues, THREADS, arguments[2]);
    if (strcmp(mode, "spin-lock") == 0) {
        pthread_spin_init(&spin_lock, 0);
        in_threads(spins, 2, NULL);
    }
    puts("done");
    return 0;
}
