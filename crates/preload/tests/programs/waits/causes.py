"""Waits for several causes, in functions named for the cause.

Prints for each function, as JSON: the thread, and the minimum and maximum duration of its waits, ns.
"""

import json
import os
import queue
import select
import socket
import subprocess
import sys
import tempfile
import threading
import time

BRIEF = 0.05
found = {}


def timed(function, least=0):
    """Runs a function and stores its thread, the minimum wait `least` and the time that it took."""
    begin = time.monotonic_ns()
    function()
    most = time.monotonic_ns() - begin
    found[function.__name__] = [threading.get_native_id(), int(least * 1e9), most]


def in_sleep():
    time.sleep(BRIEF)


def in_select():
    select.select([reader], [], [], BRIEF)


def in_lock():
    lock.acquire(timeout=BRIEF)


def in_queue():
    try:
        queue.Queue().get(timeout=BRIEF)
    except queue.Empty:
        pass


def in_join():
    sleeper = threading.Thread(target=time.sleep, args=(BRIEF,))
    sleeper.start()
    sleeper.join()


def in_recv():
    # A child process sleeps after the request and then sends the answer.
    near.sendall(b"?")
    near.recv(1)


def in_child():
    # The child sleeps after its input is closed.
    sleeper.stdin.close()
    sleeper.wait()


def in_fsync():
    os.write(file.fileno(), b"x" * 4096)
    os.fsync(file.fileno())


lock = threading.Lock()
lock.acquire()
reader, writer = os.pipe()
near, far = socket.socketpair()
file = tempfile.TemporaryFile(dir=sys.argv[1])
answer = "import socket, sys, time; s = socket.socket(fileno=int(sys.argv[1])); s.recv(1); time.sleep(0.05); s.sendall(b'!')"
answerer = subprocess.Popen([sys.executable, "-c", answer, str(far.fileno())], pass_fds=[far.fileno()])
timed(in_sleep, BRIEF)
timed(in_select, BRIEF)
timed(in_lock, BRIEF)
timed(in_queue, BRIEF)
timed(in_join)
timed(in_recv, BRIEF)
answerer.wait()
last = "import sys, time; sys.stdin.read(); time.sleep(0.05)"
sleeper = subprocess.Popen([sys.executable, "-c", last], stdin=subprocess.PIPE)
timed(in_child, BRIEF)
timed(in_fsync)
print(json.dumps(found))
