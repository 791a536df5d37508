"""Many short sleeps. Prints the least and the most that all of them together can have waited, ns."""

import time


def sleeps():
    for _ in range(5000):
        time.sleep(50e-6)


begin = time.monotonic_ns()
sleeps()
print(5000 * 50_000, time.monotonic_ns() - begin)
