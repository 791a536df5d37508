"""One thread holds a lock while it sleeps; the other waits for the lock, and adds two times to a file, s.

The first excludes the time in which it had the lock and waited for a processor, which is long on a busy machine. The second
includes it.
"""

import os
import sys
import threading
import time

lock = threading.Lock()


def hold(rounds, taken):
    for _ in range(rounds):
        with lock:
            taken.set()
            time.sleep(0.02)  # SLEEPS
        while taken.is_set():
            time.sleep(0.0005)


def ready(file):
    """Returns how long this thread was ready to run but had no processor, s."""
    return int(os.pread(file.fileno(), 100, 0).split()[1]) / 1e9


def wait_for_it(rounds, taken):
    waited = until_run = 0
    with open("/proc/thread-self/schedstat") as file:
        for _ in range(rounds):
            taken.wait()
            begin, begin_ready = time.perf_counter(), ready(file)
            lock.acquire()  # WAITS
            elapsed = time.perf_counter() - begin
            waited += elapsed - (ready(file) - begin_ready)
            until_run += elapsed
            taken.clear()
            lock.release()
            sum(range(20_000))
    return waited, until_run


def main(rounds, file):
    taken = threading.Event()
    holder = threading.Thread(target=hold, args=(rounds, taken))
    holder.start()
    print(*wait_for_it(rounds, taken), file=file)
    holder.join()


if __name__ == "__main__":
    with open(sys.argv[2], "a") as file:
        main(int(sys.argv[1]), file)
