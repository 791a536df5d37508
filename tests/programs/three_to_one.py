"""Spends three times as long in `three` as in `one`."""

import sys


def three(n):
    total = 0
    for i in range(3 * n):
        total += i * i % 7  # THREE
    return total


def one(n):
    total = 0
    for i in range(n):
        total += i * i % 7  # ONE
    return total


def main(rounds):
    for turn in range(rounds):
        n = 1500 + turn * 619 % 1000  # no timer keeps step with such turns
        three(n)
        one(n)


if __name__ == "__main__":
    main(int(sys.argv[1]))
