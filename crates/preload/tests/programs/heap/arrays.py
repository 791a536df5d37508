# Makes NumPy arrays in known lines and prints their bytes. They are too large for NumPy's own cache.
import os
import sys

import numpy as np

SIZES = [1025, 2000, 5000, 17000, 65536, 1000000]


def zeros():
    return [np.zeros(size, np.uint8) for size in SIZES]  # line of zeros


def empty():
    return [np.empty(size, np.float64) for size in SIZES]  # line of empty


def passing():
    total = 0.0
    for size in SIZES:
        total += float(np.arange(size, dtype=float)[-1])  # line of passing
    return total


kept = [zeros(), empty()]
for name, arrays in zip(["zeros", "empty"], kept):
    print(name, sum(array.nbytes for array in arrays))
print("passing", sum(SIZES) * 8)
assert passing() == sum(SIZES) - len(SIZES)
sys.stdout.flush()
os._exit(0)
