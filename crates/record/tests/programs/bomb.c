/* Prints a line, then forks without end, with at most argv[1] children at a time. All processes ignore the
 * signals that can be ignored. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv) {
    int most = argc > 1 ? atoi(argv[1]) : 16;
    for (int number = 1; number < 32; number++) signal(number, SIG_IGN);
    signal(SIGCHLD, SIG_DFL);
    printf("forking\n");
    fflush(stdout);
    for (int live = 0;; live++) {
        pid_t pid = fork();
        if (pid == 0) {
            setsid();
            if (fork() != 0) _exit(0);
            usleep(2000);
            _exit(0);
        }
        if (live >= most && wait(NULL) > 0) live--;
    }
}
