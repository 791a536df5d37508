"""Imports a module that works for long when it is imported, then runs steps that hardly use it.

slow_import.py [lazy]   lazy: the first step imports it
"""

import sys


def move():
    total = 0
    for number in range(60_000):
        total += number
    return total


def step():
    import slow_module

    slow_module.collect()
    move()


if "lazy" not in sys.argv:
    import slow_module  # noqa: F401
for _ in range(60):
    step()
