"""Confines itself by a seccomp filter that kills the process at any system call that is not listed.

Spends a quarter of the work before the filter in `before`, and the rest under it in `after`.

    confined.py ROUNDS
"""

import ctypes
import struct
import sys

# read, write, close, fstat, lseek, mmap, mprotect, munmap, brk, rt_sigaction, rt_sigprocmask, rt_sigreturn, ioctl, mremap,
# madvise, exit, futex, clock_gettime, exit_group, newfstatat
ALLOWED = [0, 1, 3, 5, 8, 9, 10, 11, 12, 13, 14, 15, 16, 25, 28, 60, 202, 228, 231, 262]
ALLOW, KILL_PROCESS = 0x7FFF0000, 0x80000000
LOAD_WORD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06


class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p)]


def instruction(code, if_true, if_false, value):
    return struct.pack("HBBI", code, if_true, if_false, value)


def confine():
    code = instruction(LOAD_WORD, 0, 0, 0)
    for number in ALLOWED:
        code += instruction(JUMP_IF_EQUAL, 0, 1, number) + instruction(RETURN, 0, 0, ALLOW)
    code += instruction(RETURN, 0, 0, KILL_PROCESS)
    buffer = ctypes.create_string_buffer(code, len(code))
    program = Program(len(code) // 8, ctypes.cast(buffer, ctypes.c_void_p))
    prctl = ctypes.CDLL(None).prctl
    assert prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
    assert prctl(22, 2, ctypes.byref(program), 0, 0) == 0  # PR_SET_SECCOMP


def work(rounds):
    total = 0
    for i in range(rounds):
        total += i * i % 7
    return total


def before(rounds):
    return work(rounds)


def after(rounds):
    return work(3 * rounds)


rounds = int(sys.argv[1])
before(rounds)
confine()
after(rounds)
print("survived")
