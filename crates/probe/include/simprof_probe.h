/*
 * Step marks for simprof, for programs in C and C++. Include this file; there is nothing to link.
 *
 *     for (uint64_t step = 0; step < steps; step++) {
 *         simprof_step_begin(step);
 *         ...
 *         simprof_step_end(step);
 *     }
 *
 * When the program does not run under simprof, a call costs about a nanosecond and does nothing.
 * A call never blocks and reports no errors. Only the first call allocates memory. Calls are allowed
 * from any thread, from a forked child and from a signal handler. The header works on Linux only.
 * The compiler must be GCC, Clang, or another one with their atomic builtins. With -std=c11 (not
 * gnu11), define _GNU_SOURCE before the first include. The Rust crate simprof-probe does the same;
 * its documentation describes the format.
 */
#ifndef SIMPROF_PROBE_H
#define SIMPROF_PROBE_H

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SIMPROF_HEADER_BYTES 4096u
#define SIMPROF_RECORD_BYTES 32u
#define SIMPROF_RECORDS (UINT64_C(1) << 15)
#define SIMPROF_FILE_BYTES (SIMPROF_HEADER_BYTES + SIMPROF_RECORDS * SIMPROF_RECORD_BYTES)
#define SIMPROF_NEXT_OFFSET 64u
#define SIMPROF_THREAD_BITS 22
#define SIMPROF_SEQUENCE_SHIFT 26

/* Stamp of a record that is being written. */
#define SIMPROF_BUSY UINT64_C(1)

/* Stands for "no memory"; never dereferenced. */
#define SIMPROF_OFF ((unsigned char *)1)

enum simprof_kind {
    SIMPROF_BEGIN = 1,
    SIMPROF_END = 2,
    SIMPROF_END_WITH_POPULATION = 3,
    SIMPROF_BOUNDARY = 4
};

struct simprof_record {
    uint64_t stamp;
    uint64_t time_ns;
    uint64_t index;
    uint64_t population;
};

/* Weak, so that all source files of one program share one state. */
__attribute__((weak, visibility("hidden"))) unsigned char *simprof_memory = NULL;
__attribute__((weak, visibility("hidden"))) uint32_t simprof_generation = 1;

/* The generation (a count of forks) in the upper half, the thread's id in the lower. */
static __thread uint64_t simprof_thread = 0;

static void simprof_forked(void) {
    __atomic_fetch_add(&simprof_generation, 1, __ATOMIC_RELAXED);
}

static unsigned char *simprof_map(void) {
    const char *path = getenv("SIMPROF_MARKS");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK | O_NOCTTY) : -1;
    struct stat status;
    void *memory = MAP_FAILED;
    uint64_t records;
    if (fd < 0) {
        return SIMPROF_OFF;
    }
    if (fstat(fd, &status) == 0 && S_ISREG(status.st_mode) &&
        (uint64_t)status.st_size == SIMPROF_FILE_BYTES) {
        memory = mmap(NULL, SIMPROF_FILE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED,
                      fd, 0);
    }
    close(fd);
    if (memory == MAP_FAILED) {
        return SIMPROF_OFF;
    }
    memcpy(&records, (unsigned char *)memory + 8, sizeof records);
    if (memcmp(memory, "simprof1", 8) != 0 || records != SIMPROF_RECORDS) {
        munmap(memory, SIMPROF_FILE_BYTES);
        return SIMPROF_OFF;
    }
    return (unsigned char *)memory;
}

/* If several threads call this at the same time, each maps the memory and all but one unmap it again. */
__attribute__((cold, noinline, unused)) static unsigned char *simprof_open(void) {
    /* The program may set errno before a mark and read it afterwards, so the value is kept. */
    int before = errno;
    unsigned char *memory = simprof_map();
    unsigned char *known = NULL;
    errno = before;
    if (__atomic_compare_exchange_n(&simprof_memory, &known, memory, 0, __ATOMIC_ACQ_REL,
                                    __ATOMIC_ACQUIRE)) {
        if (memory != SIMPROF_OFF) {
            pthread_atfork(NULL, NULL, simprof_forked);
        }
        return memory;
    }
    if (memory != SIMPROF_OFF) {
        munmap(memory, SIMPROF_FILE_BYTES);
    }
    return known;
}

static inline uint64_t simprof_thread_id(void) {
    uint64_t generation = __atomic_load_n(&simprof_generation, __ATOMIC_RELAXED);
    if (simprof_thread >> 32 != generation) {
        simprof_thread = generation << 32 | (uint32_t)syscall(SYS_gettid);
    }
    return simprof_thread & ((UINT64_C(1) << SIMPROF_THREAD_BITS) - 1);
}

__attribute__((noinline, unused)) static void simprof_append(unsigned char *memory,
                                                             enum simprof_kind kind,
                                                             uint64_t index, uint64_t population) {
    struct timespec now;
    uint64_t position, thread, before;
    struct simprof_record *record;
    if (memory == NULL) {
        memory = simprof_open();
    }
    if (memory == SIMPROF_OFF) {
        return;
    }
    clock_gettime(CLOCK_MONOTONIC, &now);
    thread = simprof_thread_id();
    position = __atomic_fetch_add((uint64_t *)(void *)(memory + SIMPROF_NEXT_OFFSET), 1,
                                  __ATOMIC_RELAXED);
    record = (struct simprof_record *)(void *)(memory + SIMPROF_HEADER_BYTES) +
             position % SIMPROF_RECORDS;
    before = __atomic_load_n(&record->stamp, __ATOMIC_RELAXED);
    /* Another writer, a multiple of SIMPROF_RECORDS positions ahead or behind, may be writing to this
     * record or have written to it. The mark is then dropped. */
    if (before == SIMPROF_BUSY ||
        (int64_t)(((position + 1) << SIMPROF_SEQUENCE_SHIFT) -
                  (before >> SIMPROF_SEQUENCE_SHIFT << SIMPROF_SEQUENCE_SHIFT)) <= 0 ||
        !__atomic_compare_exchange_n(&record->stamp, &before, SIMPROF_BUSY, 0, __ATOMIC_ACQUIRE,
                                     __ATOMIC_RELAXED)) {
        return;
    }
    /* The stores below must not become visible before the record is taken. */
    __atomic_thread_fence(__ATOMIC_RELEASE);
    __atomic_store_n(&record->time_ns,
                     (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec,
                     __ATOMIC_RELAXED);
    __atomic_store_n(&record->index, index, __ATOMIC_RELAXED);
    __atomic_store_n(&record->population, population, __ATOMIC_RELAXED);
    __atomic_store_n(&record->stamp,
                     (position + 1) << SIMPROF_SEQUENCE_SHIFT |
                         (uint64_t)kind << SIMPROF_THREAD_BITS | thread,
                     __ATOMIC_RELEASE);
}

static inline void simprof_mark(enum simprof_kind kind, uint64_t index, uint64_t population) {
    unsigned char *memory = __atomic_load_n(&simprof_memory, __ATOMIC_ACQUIRE);
    if (memory != SIMPROF_OFF) {
        simprof_append(memory, kind, index, population);
    }
}

/* Marks the beginning of the step with this index. */
static inline void simprof_step_begin(uint64_t index) {
    simprof_mark(SIMPROF_BEGIN, index, 0);
}

/* Marks the end of the step with this index, which this thread began. */
static inline void simprof_step_end(uint64_t index) {
    simprof_mark(SIMPROF_END, index, 0);
}

/* Marks the end of a step, with the number of live agents (or another measure of the model's size). */
static inline void simprof_step_end_with_population(uint64_t index, uint64_t population) {
    simprof_mark(SIMPROF_END_WITH_POPULATION, index, population);
}

/* Marks a boundary: the step that this thread began with the previous boundary ends, and the step
 * with this index begins. Mark the end of the last step with simprof_step_end, otherwise it is not
 * known. */
static inline void simprof_step(uint64_t index) {
    simprof_mark(SIMPROF_BOUNDARY, index, 0);
}

#ifdef __cplusplus
}
#endif

#endif
