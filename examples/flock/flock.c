/*
 * A flock of birds. Each bird flies in the mean direction of the birds near it.
 *
 *     flock BIRDS STEPS
 *
 * Every bird looks at every other bird, the list of near birds is allocated for each bird anew, and the path of
 * every bird is kept until the end. simprof finds all three.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "simprof_probe.h"

#define SIZE 100.0
#define VISION 5.0
#define SPEED 0.5

struct bird {
    double x, y, direction;
};

struct positions {
    struct positions *earlier;
    double at[];
};

/* Ends the program if memory ran out. */
static void check(const void *memory) {
    if (memory == NULL) {
        perror("flock");
        exit(EXIT_FAILURE);
    }
}

/* Random numbers from 0 to 1, the same in every run. */
static double draw(void) {
    static uint64_t state = 42;
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (double)(state >> 11) / 9007199254740992.0;
}

/* Returns how many birds are near one of them, and stores their numbers in `near`. */
static int find_near(const struct bird *birds, int count, int of, int *near) {
    int found = 0;
    for (int other = 0; other < count; other++) {
        double dx = birds[other].x - birds[of].x, dy = birds[other].y - birds[of].y;
        if (sqrt(dx * dx + dy * dy) < VISION) {
            near[found++] = other;
        }
    }
    return found;
}

static double mean_direction(const struct bird *birds, const int *near, int found) {
    double x = 0.0, y = 0.0;
    for (int index = 0; index < found; index++) {
        x += cos(birds[near[index]].direction);
        y += sin(birds[near[index]].direction);
    }
    return atan2(y, x);
}

static double choose_direction(const struct bird *birds, int count, int of) {
    int *near = malloc((size_t)count * sizeof *near);
    check(near);
    int found = find_near(birds, count, of, near);
    double direction = mean_direction(birds, near, found);
    free(near);
    return direction + 0.2 * (draw() - 0.5);
}

static void move_birds(struct bird *birds, const double *directions, int count) {
    for (int index = 0; index < count; index++) {
        struct bird *bird = &birds[index];
        bird->direction = directions[index];
        bird->x = fmod(bird->x + SPEED * cos(bird->direction) + SIZE, SIZE);
        bird->y = fmod(bird->y + SPEED * sin(bird->direction) + SIZE, SIZE);
    }
}

static struct positions *record_positions(const struct bird *birds, int count, struct positions *earlier) {
    struct positions *now = malloc(sizeof *now + 2 * (size_t)count * sizeof(double));
    check(now);
    now->earlier = earlier;
    for (int index = 0; index < count; index++) {
        now->at[2 * index] = birds[index].x;
        now->at[2 * index + 1] = birds[index].y;
    }
    return now;
}

int main(int argc, char **argv) {
    int count = argc == 3 ? atoi(argv[1]) : 0;
    long steps = argc == 3 ? atol(argv[2]) : 0;
    if (count < 1 || steps < 1) {
        fprintf(stderr, "usage: flock BIRDS STEPS\n");
        return 2;
    }
    struct bird *birds = malloc((size_t)count * sizeof *birds);
    double *directions = malloc((size_t)count * sizeof *directions);
    check(birds);
    check(directions);
    for (int index = 0; index < count; index++) {
        birds[index] = (struct bird){draw() * SIZE, draw() * SIZE, draw() * 6.283};
    }
    struct positions *path = NULL;
    for (long step = 0; step < steps; step++) {
        simprof_step_begin((uint64_t)step);
        for (int index = 0; index < count; index++) {
            directions[index] = choose_direction(birds, count, index);
        }
        move_birds(birds, directions, count);
        path = record_positions(birds, count, path);
        simprof_step_end_with_population((uint64_t)step, (uint64_t)count);
    }
    printf("the first bird is at %.3f, %.3f\n", path->at[0], path->at[1]);
    return 0;
}
