"""Spends its time in one NumPy function, three quarters from one line and a quarter from another."""

import sys

import numpy as np


def work(array, out):
    for _ in range(3):
        np.sin(array, out=out)  # THREE QUARTERS
    np.sin(array, out=out)  # A QUARTER


def main(rounds):
    array = np.linspace(0.0, 100.0, 20_000)
    out = np.empty_like(array)
    for turn in range(rounds):
        n = 15_000 + turn * 7919 % 5_000  # no timer keeps step with such turns
        work(array[:n], out[:n])


if __name__ == "__main__":
    main(int(sys.argv[1]))
