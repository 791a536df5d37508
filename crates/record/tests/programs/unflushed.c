/* Prints steps without flushing, and exits with status 3. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

int main(int argc, char **argv) {
    int steps = argc > 1 ? atoi(argv[1]) : 0;
    for (int step = 0; step < steps; step++) {
        struct timespec pause = {0, 10000000};
        nanosleep(&pause, NULL);
        /* Volatile, so that the compiler does not remove the allocation. */
        char *volatile block = malloc(100000);
        free(block);
        printf("step %d\n", step);
    }
    return 3;
}
