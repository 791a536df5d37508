"""Installs a seccomp filter through ctypes, then makes lists and frees memory of the C library."""

import ctypes
import os
import struct
import sys

libc = ctypes.CDLL("libc.so.6")
libc.malloc.restype = ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]

# Everything is allowed but what only a profiler needs: rt_sigprocmask, madvise, nanosleep, getpid, gettid, openat.
FORBIDDEN = [14, 28, 35, 39, 186, 257]
KILL, ALLOW = 0x80000000, 0x7FFF0000
code = [struct.pack("HBBI", 0x20, 0, 0, 0)]
for at, number in enumerate(FORBIDDEN):
    code.append(struct.pack("HBBI", 0x15, len(FORBIDDEN) - at, 0, number))
code.append(struct.pack("HBBI", 0x06, 0, 0, ALLOW))
code.append(struct.pack("HBBI", 0x06, 0, 0, KILL))
text = ctypes.create_string_buffer(b"".join(code))
program = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(code), ctypes.addressof(text)))


def work():
    total = 0
    for round in range(200_000 if len(sys.argv) > 1 else 20_000):
        total += len([round] * 10)
    for _ in range(100):
        libc.free(libc.malloc(77_777))
    return total


work()
if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, ctypes.byref(program), 0, 0):
    sys.exit(2)
work()
sys.stdout.write("survived\n")
sys.stdout.flush()
os._exit(0)
