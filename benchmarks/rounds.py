"""Rounds that measure every arm once in random order, and the statistics of the results."""

import math
import statistics
import sys
from dataclasses import dataclass


@dataclass
class Spread:
    """A sample with its median and range."""

    samples: list

    @property
    def median(self):
        return statistics.median(self.samples)

    @property
    def median_interval(self):
        """Returns the 95 % interval of the median by order statistics (Thompson 1936), for any distribution. With fewer than
        six samples it is the whole range."""
        ordered, below = sorted(self.samples), 0
        # The number of samples below the median is binomial.
        while sum(math.comb(len(ordered), k) for k in range(below + 1)) <= 0.025 * 2 ** len(ordered):
            below += 1
        index = max(below - 1, 0)
        return ordered[index], ordered[-1 - index]

    def text(self, form):
        """Returns `median (minimum to maximum)`. `form` is the format specification of each number."""
        low, high = min(self.samples), max(self.samples)
        return f"{self.median:{form}} ({low:{form}} to {high:{form}})"


def interleave(session, arms, warm_up=True, rounds=None):
    """Calls each function of `arms` ({name: function}) once per round. Returns {name: [result of each round]}.

    With `warm_up`, one more round runs first and is discarded. It fills the caches for all arms.
    """
    taken = {name: [] for name in arms}
    rounds = session.rounds if rounds is None else rounds
    for number in range(-1 if warm_up else 0, rounds):
        order = list(arms)
        session.random.shuffle(order)
        for name in order:
            progress(f"round {number + 1} of {rounds}: {name}")
            result = arms[name]()
            if number >= 0:
                taken[name].append(result)
    progress("")
    return taken


def ratios(over, under):
    """Returns the ratio of each round. Slow drifts of the machine cancel."""
    return Spread([a / b for a, b in zip(over, under)])


def verdict(ratio, most):
    """Returns whether the 95 % interval of the median meets the goal, misses it, or includes it."""
    lower, upper = ratio.median_interval
    if lower <= most < upper:
        return f"inconclusive, the 95 % interval of the median is {lower:.3f} to {upper:.3f}"
    return "met" if upper <= most else "missed"


def progress(text):
    if sys.stderr.isatty():
        print(f"\r\033[K  {text}", end="" if text else "\r", file=sys.stderr, flush=True)


def table(rows):
    """Prints rows of cells. The first column is aligned to the left, the others to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = [f"{cell:>{width}}" if column else f"{cell:<{width}}"
                 for column, (cell, width) in enumerate(zip(row, widths))]
        print("  " + "   ".join(cells).rstrip(), flush=True)
