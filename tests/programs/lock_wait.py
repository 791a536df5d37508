"""One thread holds a lock while it sleeps; the other waits for the lock, and computes a little."""

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


def wait_for_it(rounds, taken):
    for _ in range(rounds):
        taken.wait()
        lock.acquire()  # WAITS
        taken.clear()
        lock.release()
        sum(range(20_000))


def main(rounds):
    taken = threading.Event()
    holder = threading.Thread(target=hold, args=(rounds, taken))
    holder.start()
    wait_for_it(rounds, taken)
    holder.join()


if __name__ == "__main__":
    main(int(sys.argv[1]))
