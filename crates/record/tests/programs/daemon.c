/* Becomes a daemon the classic way (fork, setsid, fork) while its parent waits until the daemon has
 * written its process id to the file argv[1], and then exits. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int main(int argc, char **argv) {
    int pipe_fds[2];
    char byte;
    FILE *file;
    if (argc != 2 || pipe(pipe_fds) != 0) return 2;
    if (fork() == 0) {
        setsid();
        if (fork() != 0) _exit(0);
        signal(SIGTERM, SIG_IGN);
        signal(SIGHUP, SIG_IGN);
        file = fopen(argv[1], "w");
        fprintf(file, "%d\n", (int)getpid());
        fclose(file);
        close(pipe_fds[0]);
        close(pipe_fds[1]);
        for (;;) pause();
    }
    close(pipe_fds[1]);
    return read(pipe_fds[0], &byte, 1) == 0 ? 0 : 3;
}
