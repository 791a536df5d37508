"""One thread holds a lock while it sleeps. The other waits for the lock, and appends the duration to a file, s.

The time for which the thread waits for a processor afterwards is subtracted. It is not part of the wait, and long on a busy machine.
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
    waited = 0
    with open("/proc/thread-self/schedstat") as file:
        for _ in range(rounds):
            taken.wait()
            begin = time.perf_counter() - ready(file)
            lock.acquire()  # WAITS
            waited += time.perf_counter() - ready(file) - begin
            taken.clear()
            lock.release()
            sum(range(20_000))
    return waited


def main(rounds, file):
    taken = threading.Event()
    holder = threading.Thread(target=hold, args=(rounds, taken))
    holder.start()
    print(wait_for_it(rounds, taken), file=file)
    holder.join()


if __name__ == "__main__":
    with open(sys.argv[2], "a") as file:
        main(int(sys.argv[1]), file)
