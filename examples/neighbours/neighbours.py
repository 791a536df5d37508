"""Finds all pairs of points within a radius, by comparing all points or with a grid, and measures the search.

    python3 neighbours.py all|grid POINTS SEED
"""

import collections
import random
import sys

from simprof_probe.bench import measure

RADIUS = 1.0
# Points per unit of area. The world grows with the number of points, so that the number of neighbours does not.
DENSITY = 1.0


def make_points(count, seed):
    source = random.Random(seed)
    side = (count / DENSITY) ** 0.5
    return [(source.uniform(0, side), source.uniform(0, side)) for _ in range(count)]


def is_near(one, other):
    return (one[0] - other[0]) ** 2 + (one[1] - other[1]) ** 2 < RADIUS**2


def compare_all(points):
    """Return the pairs, and the number of comparisons."""
    count = len(points)
    pairs = [(a, b) for a in range(count) for b in range(a + 1, count) if is_near(points[a], points[b])]
    return pairs, count * (count - 1) // 2


def compare_in_grid(points):
    """Like `compare_all`, but compares only points in adjacent cells of a grid."""
    cells = collections.defaultdict(list)
    for index, (x, y) in enumerate(points):
        cells[int(x // RADIUS), int(y // RADIUS)].append(index)
    pairs, comparisons = [], 0
    for (column, row), members in cells.items():
        around = [
            other
            for x in (column - 1, column, column + 1)
            for y in (row - 1, row, row + 1)
            for other in cells.get((x, y), ())
        ]
        for a in members:
            for b in around:
                if a < b:
                    comparisons += 1
                    if is_near(points[a], points[b]):
                        pairs.append((a, b))
    return sorted(pairs), comparisons


SEARCHES = {"all": compare_all, "grid": compare_in_grid}


def main():
    search, count, seed = SEARCHES[sys.argv[1]], int(sys.argv[2]), int(sys.argv[3])
    points = make_points(count, seed)
    measure(
        "neighbours",
        lambda: search(points),
        counters=lambda found: {"pairs": len(found[0]), "comparisons": found[1]},
        digest=lambda found: found[0],
    )


if __name__ == "__main__":
    main()
