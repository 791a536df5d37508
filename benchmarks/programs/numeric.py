"""Mainly NumPy, with a Python loop and inserts into SQLite. Arguments: agents, steps."""

import json
import sqlite3
import sys
import time

import numpy as np


def step(positions, velocities, grid):
    positions += velocities
    np.mod(positions, 100.0, out=positions)
    cells = positions.astype(np.int64)
    np.add.at(grid, (cells[:, 0], cells[:, 1]), 1.0)
    order = np.argsort(cells[:, 0] * 100 + cells[:, 1], kind="stable")
    distance = np.hypot(positions[order, 0] - 50.0, positions[order, 1] - 50.0)
    grid *= 0.99
    return distance


def describe(distance):
    rows = []
    for index in range(0, len(distance), 50):
        rows.append((index, float(distance[index]), index * index % 7))
    return rows


def main(agents, steps):
    random = np.random.default_rng(1)
    positions, velocities = random.random((agents, 2)) * 100, random.normal(size=(agents, 2))
    grid = np.zeros((100, 100))
    database = sqlite3.connect(":memory:")
    database.execute("CREATE TABLE log (agent INTEGER, distance REAL, kind INTEGER)")
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(steps):
        distance = step(positions, velocities, grid)
        database.executemany("INSERT INTO log VALUES (?, ?, ?)", describe(distance))
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(json.dumps({"wall_ms": 1e3 * wall, "cpu_ms": 1e3 * cpu}))


main(int(sys.argv[1]), int(sys.argv[2]))
