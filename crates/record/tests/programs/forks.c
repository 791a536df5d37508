/* Forks argv[1] children one after the other. Each uses some CPU time, and every second one leaves an
 * orphan that ends soon. The last tenth of the children is not waited for. */
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv) {
    int count = argc > 1 ? atoi(argv[1]) : 100;
    for (int child = 0; child < count; child++) {
        pid_t pid = fork();
        if (pid == 0) {
            volatile unsigned long sum = 0;
            if (child % 2 == 0 && fork() == 0) {
                usleep(1000);
                _exit(0);
            }
            for (unsigned long i = 0; i < 100000; i++) sum += i;
            _exit(0);
        }
        if (child < count - count / 10) waitpid(pid, NULL, 0);
    }
    return 0;
}
