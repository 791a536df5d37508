"""Many short sleeps. Prints the minimum and maximum of their total duration, ns."""

import time


def sleeps():
    for _ in range(5000):
        time.sleep(50e-6)


begin = time.monotonic_ns()
sleeps()
print(5000 * 50_000, time.monotonic_ns() - begin)
