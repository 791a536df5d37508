/* Allocates 500 times through a function without unwind information, whose callers cannot be found, and 500 times directly. */
#include <stdlib.h>

void *hidden_allocate(size_t size);

/* No .cfi directives. The frame pointer does not lead to the caller either. */
__asm__(".text\n"
        ".globl hidden_allocate\n"
        ".type hidden_allocate, @function\n"
        "hidden_allocate:\n"
        "    pushq %rbp\n"
        "    subq $48, %rsp\n"
        "    xorl %ebp, %ebp\n"
        "    call malloc@PLT\n"
        "    addq $48, %rsp\n"
        "    popq %rbp\n"
        "    ret\n"
        ".size hidden_allocate, . - hidden_allocate\n");

static void *volatile kept;

int main(void) {
    for (int i = 0; i < 500; i++) {
        kept = hidden_allocate(100);
        kept = malloc(300);
    }
    return kept == NULL;
}
