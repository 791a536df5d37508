"""Rounds in which every arm is measured once, in random order, and the statistics of what comes."""

import math
import statistics
import sys
from dataclasses import dataclass


@dataclass
class Spread:
    """A median and how far the samples lie around it."""

    samples: list

    @property
    def median(self):
        return statistics.median(self.samples)

    @property
    def median_interval(self):
        """95 % interval of the median by order statistics, whatever the distribution; all there is of fewer than six samples."""
        ordered, beside = sorted(self.samples), 0
        # How many samples lie below the median is binomial.
        while sum(math.comb(len(ordered), k) for k in range(beside + 1)) <= 0.025 * 2 ** len(ordered):
            beside += 1
        at = max(beside - 1, 0)
        return ordered[at], ordered[-1 - at]

    def text(self, form):
        """As `median (least to most)`, each by `form`, a format specification."""
        low, high = min(self.samples), max(self.samples)
        return f"{self.median:{form}} ({low:{form}} to {high:{form}})"


def interleave(session, arms, warm_up=True, rounds=None):
    """Measures each of `arms`, {name: function}, once a round; {name: [answer of each round]}.

    One round before the first is thrown away: it fills caches, for every arm alike.
    """
    taken = {name: [] for name in arms}
    rounds = session.rounds if rounds is None else rounds
    for number in range(-1 if warm_up else 0, rounds):
        order = list(arms)
        session.random.shuffle(order)
        for name in order:
            progress(f"round {number + 1} of {rounds}: {name}")
            answer = arms[name]()
            if number >= 0:
                taken[name].append(answer)
    progress("")
    return taken


def ratios(over, under):
    """Round by round: what drifts slowly cancels out."""
    return Spread([a / b for a, b in zip(over, under)])


def verdict(ratio, most):
    """Whether the median lies on one side of the goal, chance apart."""
    lower, upper = ratio.median_interval
    if lower <= most < upper:
        return f"cannot tell, the 95 % interval of the median reaches from {lower:.3f} to {upper:.3f}"
    return "met" if upper <= most else "missed"


def progress(text):
    if sys.stderr.isatty():
        print(f"\r\033[K  {text}", end="" if text else "\r", file=sys.stderr, flush=True)


def table(rows):
    """Prints rows of cells in columns, the first to the left, the others to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = [f"{cell:>{width}}" if column else f"{cell:<{width}}"
                 for column, (cell, width) in enumerate(zip(row, widths))]
        print("  " + "   ".join(cells).rstrip(), flush=True)
