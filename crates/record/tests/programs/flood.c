/* Writes argv[1] MiB in lines of 64 bytes, with a line "step N" before every 65,536 of them; or, if argv[2]
 * is "endless", as one line without an end. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv) {
    long lines;
    char line[64];
    if (argc != 3) return 2;
    lines = atol(argv[1]) << 14;
    memset(line, 'x', sizeof line);
    if (strcmp(argv[2], "endless") != 0) line[63] = '\n';
    for (long i = 0; i < lines; i++) {
        if (line[63] == '\n' && i % 65536 == 0) {
            printf("step %ld\n", i / 65536);
            fflush(stdout);
        }
        fwrite(line, 1, sizeof line, stdout);
    }
    return ferror(stdout) ? 3 : 0;
}
