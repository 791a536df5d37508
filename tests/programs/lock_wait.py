"""One thread holds a lock while it sleeps; the other waits for the lock, and adds to a file for how long, s."""

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
    waited = 0
    for _ in range(rounds):
        taken.wait()
        begin = time.perf_counter()
        lock.acquire()  # WAITS
        waited += time.perf_counter() - begin
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
