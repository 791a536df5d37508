"""Spends its time in SQLite: a query that counts, from one line."""

import sqlite3
import sys

QUERY = """
WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < ?)
SELECT sum(n * n % 7) FROM numbers
"""


def count(connection, n):
    return connection.execute(QUERY, (n,)).fetchone()[0]  # QUERY


def main(rounds):
    connection = sqlite3.connect(":memory:")
    for _ in range(rounds):
        count(connection, 20_000)


if __name__ == "__main__":
    main(int(sys.argv[1]))
