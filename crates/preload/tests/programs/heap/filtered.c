// Installs the seccomp filter that the first argument names, then allocates 1,000 blocks of 100 bytes from each of
// several depths of its stack and frees them.
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static const int allowed[] = {SYS_read, SYS_write, SYS_brk, SYS_mmap, SYS_munmap, SYS_mremap, SYS_rt_sigreturn,
                              SYS_exit, SYS_exit_group};

static void install(unsigned result, int with_seccomp) {
    struct sock_filter filter[64];
    unsigned short count = 0;
    filter[count++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (unsigned at = 0; at < sizeof allowed / sizeof *allowed; at++) {
        filter[count++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)allowed[at], 0, 1);
        filter[count++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    }
    filter[count++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, result);
    struct sock_fprog program = {count, filter};
    if (with_seccomp) {
        // As libseccomp does, first ask what the kernel supports.
        if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, NULL) != -1 || errno != EFAULT)
            _exit(4);
        if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program))
            _exit(5);
    } else if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
        _exit(6);
}

__attribute__((noinline)) static void *allocate(size_t size) {
    char *volatile block = malloc(size);
    block[0] = 1;
    return block;
}

__attribute__((noinline)) static int deeper(int depth) {
    char volatile space[3000];
    space[depth] = 1;
    if (depth > 0)
        return deeper(depth - 1) + space[depth];
    for (int round = 0; round < 1000; round++)
        free(allocate(100));
    return 0;
}

int main(int count, char **arguments) {
    const char *how = count > 1 ? arguments[1] : "";
    free(allocate(100000));
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    if (!strcmp(how, "kill"))
        install(SECCOMP_RET_KILL_PROCESS, 0);
    else if (!strcmp(how, "trap"))
        install(SECCOMP_RET_TRAP, 1);
    else if (!strcmp(how, "errno"))
        install(SECCOMP_RET_ERRNO | ENOSYS, 1);
    else if (!strcmp(how, "exec")) {
        // A filter that only a new image has: it forbids madvise and getpid.
        struct sock_filter filter[] = {
            BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
            BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_madvise, 3, 0),
            BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getpid, 2, 0),
            BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_lseek, 1, 0),
            BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
            BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
        };
        struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
        if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
            return 7;
        execl("/proc/self/exe", "filtered", "", NULL);
        return 8;
    } else if (!strcmp(how, "strict")) {
        // Only so that the exit below is the system call that strict mode allows.
        if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT, 0, 0, 0))
            return 9;
    }
    for (int depth = 0; depth < 200; depth += 40)
        deeper(depth);
    if (write(1, "survived\n", 9) != 9)
        return 10;
    syscall(SYS_exit, 0);
}
