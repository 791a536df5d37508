/* Finds all pairs of points within a radius, by comparing all points or with a grid, and measures the search.
 *
 *     neighbours all|grid POINTS SEED
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "simprof_bench.h"

#define RADIUS 1.0
/* Points per unit of area. The world grows with the number of points, so that the number of neighbours does
 * not. */
#define DENSITY 1.0

struct world {
    size_t count;
    double *x, *y;
    /* The grid: the first point of each cell, and the next point in the same cell, or -1. */
    long side;
    long *first, *next;
    /* The result of the last search. The digest does not depend on the order of the pairs. */
    uint64_t pairs, comparisons, digest;
};

static double uniform(uint64_t *state) {
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (double)(*state >> 11) / (double)(UINT64_C(1) << 53);
}

static void compare(struct world *world, size_t a, size_t b) {
    double dx = world->x[a] - world->x[b], dy = world->y[a] - world->y[b];
    world->comparisons++;
    if (dx * dx + dy * dy < RADIUS * RADIUS) {
        world->pairs++;
        world->digest += (a * world->count + b + 1) * UINT64_C(0x9e3779b97f4a7c15);
    }
}

static void begin(struct world *world) {
    world->pairs = world->comparisons = world->digest = 0;
}

static void compare_all(void *data) {
    struct world *world = data;
    begin(world);
    for (size_t a = 0; a < world->count; a++) {
        for (size_t b = a + 1; b < world->count; b++) {
            compare(world, a, b);
        }
    }
    simprof_bench_keep(world);
}

/* Like compare_all, but compares only points in adjacent cells of a grid. */
static void compare_in_grid(void *data) {
    struct world *world = data;
    long side = world->side;
    begin(world);
    for (long cell = 0; cell < side * side; cell++) {
        world->first[cell] = -1;
    }
    for (size_t a = 0; a < world->count; a++) {
        long column = (long)(world->x[a] / RADIUS), row = (long)(world->y[a] / RADIUS);
        for (long y = row > 0 ? row - 1 : 0; y <= row + 1 && y < side; y++) {
            for (long x = column > 0 ? column - 1 : 0; x <= column + 1 && x < side; x++) {
                for (long b = world->first[y * side + x]; b >= 0; b = world->next[b]) {
                    compare(world, (size_t)b, a);
                }
            }
        }
        world->next[a] = world->first[row * side + column];
        world->first[row * side + column] = (long)a;
    }
    simprof_bench_keep(world);
}

static void *allocate(size_t count, size_t size) {
    void *memory = calloc(count, size);
    if (memory == NULL) {
        perror("neighbours");
        exit(1);
    }
    return memory;
}

static struct world make_world(size_t count, uint64_t seed) {
    struct world world = {.count = count};
    double side = sqrt((double)count / DENSITY);
    world.side = (long)(side / RADIUS) + 1;
    world.x = allocate(count, sizeof *world.x);
    world.y = allocate(count, sizeof *world.y);
    world.next = allocate(count, sizeof *world.next);
    world.first = allocate((size_t)(world.side * world.side), sizeof *world.first);
    for (size_t point = 0; point < count; point++) {
        world.x[point] = side * uniform(&seed);
        world.y[point] = side * uniform(&seed);
    }
    return world;
}

int main(int argc, char **argv) {
    int is_grid = argc == 4 && strcmp(argv[1], "grid") == 0;
    if (argc != 4 || (!is_grid && strcmp(argv[1], "all") != 0) || atol(argv[2]) < 1) {
        fputs("usage: neighbours all|grid POINTS SEED\n", stderr);
        return 2;
    }
    struct world world = make_world((size_t)atol(argv[2]), strtoull(argv[3], NULL, 10));
    struct simprof_bench bench = {
        .name = "neighbours",
        .operation = is_grid ? compare_in_grid : compare_all,
        .data = &world,
    };
    bench.operation(&world);
    struct simprof_counter counters[] = {
        {"pairs", (double)world.pairs},
        {"comparisons", (double)world.comparisons},
    };
    uint64_t digest = world.digest;
    bench.counters = counters;
    bench.counter_count = 2;
    bench.digest = &digest;
    simprof_bench_run(&bench);
    return 0;
}
