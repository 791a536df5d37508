/* Sets an invalid stack pointer, and allocates in the handler of the resulting signal. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

static void handle(int signal)
{
    (void)signal;
    char *made = malloc(12345);
    if (!made) _exit(1);
    made[0] = 1;
    free(made);
    _exit(7);
}

int main(int count, char **arguments)
{
    static char buffer[1 << 16];
    stack_t stack = {.ss_sp = buffer, .ss_size = sizeof buffer};
    struct sigaction action = {.sa_handler = handle, .sa_flags = SA_ONSTACK};
    if (count != 2 || sigaltstack(&stack, NULL)) return 1;
    if (sigaction(SIGSEGV, &action, NULL) || sigaction(SIGBUS, &action, NULL)) return 1;
    unsigned long stack_pointer = strtoul(arguments[1], NULL, 16);
    __asm__ volatile("mov %0, %%rsp\n\tpush %%rax" : : "r"(stack_pointer) : "memory");
    return 2;
}
