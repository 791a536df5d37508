/*
 * Targets that fail in different ways.
 *
 *     trouble exit | crash | killed | hang | stubborn | orphans | chatter
 *     trouble later FILE RUNS     the first RUNS runs do some work, the next one hangs
 *     trouble report FILE RUNS    the same, and prints a line of the runner protocol
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile unsigned long sink;

__attribute__((noinline)) static void work(void) {
    for (unsigned long i = 0; i < 10000000; i++) {
        sink += i ^ (sink >> 3);
    }
}

static void hang(void) {
    for (;;) {
        pause();
    }
}

static void crash(void) {
    struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
    *(volatile int *)0 = 1;
}

/* Three generations of processes that ignore SIGTERM, SIGINT and SIGHUP. */
static void stubborn(void) {
    signal(SIGTERM, SIG_IGN);
    signal(SIGINT, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    if (fork() == 0) {
        fork();
        hang();
    }
    hang();
}

/* Ends at once and leaves a daemon in another session, with a child. */
static void orphans(void) {
    work();
    if (fork() == 0) {
        setsid();
        if (fork() == 0) {
            close(0);
            close(1);
            close(2);
            fork();
            hang();
        }
        _exit(0);
    }
    while (wait(NULL) > 0) {
    }
}

/* Returns whether this is one of the first `runs` runs. Each run appends a byte to the file. */
static int is_early(const char *file, long runs) {
    struct stat status;
    int fd = open(file, O_WRONLY | O_CREAT | O_APPEND, 0666);
    if (fd < 0 || fstat(fd, &status) != 0 || write(fd, ".", 1) != 1) {
        perror(file);
        exit(9);
    }
    close(fd);
    return status.st_size < runs;
}

int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "";
    if (strcmp(what, "exit") == 0) {
        fprintf(stderr, "the world file is missing\n");
        return 3;
    } else if (strcmp(what, "crash") == 0) {
        crash();
    } else if (strcmp(what, "killed") == 0) {
        kill(getpid(), SIGKILL);
    } else if (strcmp(what, "hang") == 0) {
        hang();
    } else if (strcmp(what, "stubborn") == 0) {
        stubborn();
    } else if (strcmp(what, "orphans") == 0) {
        orphans();
    } else if (strcmp(what, "chatter") == 0) {
        for (int line = 0; line < 20000; line++) {
            printf("line %d of the many lines that this program prints\n", line);
        }
    } else if ((strcmp(what, "later") == 0 || strcmp(what, "report") == 0) && argc > 3) {
        if (!is_early(argv[2], atol(argv[3]))) {
            hang();
        }
        work();
        if (strcmp(what, "report") == 0) {
            printf("{\"simprof\": 1, \"metrics\": {\"work_ns\": [1000, 1010]}}\n");
        }
    } else {
        return 64;
    }
    return 0;
}
