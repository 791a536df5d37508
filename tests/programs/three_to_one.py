"""Spends three times as long in `three` as in `one`. Appends the CPU time of both, s, to a file."""

import random
import sys
import time


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
    in_three = in_one = 0
    lengths = random.Random(1)  # random lengths, so that no timer stays in step
    for _ in range(rounds):
        n = lengths.randrange(1500, 2500)
        begin = time.thread_time()
        three(n)
        between = time.thread_time()
        one(n)
        in_three += between - begin
        in_one += time.thread_time() - between
    return in_three, in_one


if __name__ == "__main__":
    truth = main(int(sys.argv[1]))
    if len(sys.argv) > 2:
        with open(sys.argv[2], "a") as file:
            print(*truth, file=file)
