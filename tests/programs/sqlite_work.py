"""Spends most of its time in SQLite, in one line, and the rest in Python. Appends the CPU time of both, s, to a file."""

import random
import sqlite3
import sys
import time

QUERY = """
WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < ?)
SELECT sum(n * n % 7) FROM numbers
"""


def count(connection, n):
    return connection.execute(QUERY, (n,)).fetchone()[0]  # QUERY


def spin(n):
    total = 0
    for number in range(n):
        total += number * number % 7
    return total


def main(rounds, file):
    connection = sqlite3.connect(":memory:")
    in_query = in_python = 0
    lengths = random.Random(1)  # random lengths, so that no timer stays in step
    for _ in range(rounds):
        n = lengths.randrange(15_000, 25_000)
        begin = time.thread_time()
        count(connection, n)
        between = time.thread_time()
        spin(n)
        in_query += between - begin
        in_python += time.thread_time() - between
    print(in_query, in_python, file=file)


if __name__ == "__main__":
    with open(sys.argv[2], "a") as file:
        main(int(sys.argv[1]), file)
