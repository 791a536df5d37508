/* Allocates and touches argv[1] MiB, and keeps them for argv[2] ms. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv) {
    size_t bytes;
    char *memory;
    if (argc != 3) return 2;
    bytes = (size_t)atoi(argv[1]) << 20;
    memory = malloc(bytes);
    if (!memory) return 3;
    memset(memory, 1, bytes);
    usleep((useconds_t)atoi(argv[2]) * 1000);
    return memory[bytes / 2] - 1;
}
