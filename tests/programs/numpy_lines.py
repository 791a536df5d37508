"""Spends its time in one NumPy function: three quarters called from one line, a quarter from another. Appends the CPU time of both, s,
to a file.
"""

import random
import sys
import time

import numpy as np


def work(array, out):
    begin = time.thread_time()
    for _ in range(3):
        np.sin(array, out=out)  # THREE QUARTERS
    between = time.thread_time()
    np.sin(array, out=out)  # A QUARTER
    return between - begin, time.thread_time() - between


def main(rounds, file):
    array = np.linspace(0.0, 100.0, 20_000)
    out = np.empty_like(array)
    most = least = 0
    lengths = random.Random(1)  # random lengths, so that no timer stays in step
    for _ in range(rounds):
        n = lengths.randrange(15_000, 20_000)
        times = work(array[:n], out[:n])
        most += times[0]
        least += times[1]
    print(most, least, file=file)


if __name__ == "__main__":
    with open(sys.argv[2], "a") as file:
        main(int(sys.argv[1]), file)
