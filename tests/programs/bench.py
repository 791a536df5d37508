"""Measures an operation with simprof_probe.bench. The argument chooses a case:

work      an operation that prints text without a newline, with counters and a digest
once      an operation that uses up what its set-up made; stderr has the numbers of set-ups and calls
counter   a counter that is not a number
name      an empty name
raise     an operation that raises an exception
"""

import sys

from simprof_probe.bench import measure

mode = sys.argv[1]
set_ups = calls = 0


def work():
    print("{", end="")
    return sum(range(100))


def set_up():
    global set_ups
    set_ups += 1
    return list(range(100))


def use_up(values):
    global calls
    calls += 1
    assert len(values) == 100
    values.clear()


def fail():
    raise KeyError("no such agent")


if mode == "once":
    measure("work", use_up, set_up=set_up, calls=1)
    print(set_ups, calls, file=sys.stderr)
elif mode == "raise":
    measure("work", fail)
else:
    share = float("nan") if mode == "counter" else 0.1
    measure(
        "" if mode == "name" else "work",
        work,
        counters=lambda result: {"rows": 3, "share": share},
        digest=lambda result: result,
    )
