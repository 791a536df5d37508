"""Component benchmarks for simprof: measure one operation and print its report.

A benchmark of phase 2 (`[[benchmark]]` in simprof.toml) is a command that measures one operation with one set of
parameters. `measure` does this and prints the line that simprof reads::

    import sys
    from simprof_probe.bench import measure

    world = make_world(size=int(sys.argv[1]), seed=int(sys.argv[2]))
    measure(
        "nearby",                                              # the metrics are nearby_ns and nearby_wall_ns
        lambda: world.all_neighbours(radius=5),
        counters=lambda found: {"hits": sum(map(len, found))},
        digest=lambda found: sorted(found),
    )

This file needs only Python 3.9, and may be copied into a project.
"""

import functools
import hashlib
import itertools
import json
import math
import os
import sys
import time

__all__ = ["measure"]

# The environment variable with the time limit of one call of `measure`, in milliseconds.
BUDGET_VARIABLE = "SIMPROF_BENCH_MS"
DEFAULT_BUDGET_MS = 200
MAX_BUDGET_MS = 3_600_000

# The share of the budget that the warm-up takes.
WARM_UP = 0.2
# A batch takes at least this fraction of the budget, so that there are some tens of batches,
BATCH = 1 / 50
# and at least this many of the smallest steps of the clock, so that its cost and resolution are below 1 %.
CLOCK_STEPS = 100
# A batch that uses little CPU time, because it waits, is long enough after this multiple of the time in wall time.
WAITING = 10

MIN_SAMPLES = 3
MAX_SAMPLES = 40
# No operation is so short that a batch needs more calls. A larger number means that the clock does not advance.
MAX_CALLS = 1 << 30


def measure(name, operation, *, set_up=None, calls=None, counters=None, digest=None):
    """Measure `operation` and print a report of simprof's runner protocol on standard output.

    The report has two metrics, in nanoseconds per call, with one sample per batch of calls: `NAME_ns` is the CPU time
    of this thread, and `NAME_wall_ns` the elapsed time. If the operation starts threads or waits, compare the elapsed
    times. A batch includes the cost of the loop and of the call, about 0.1 microseconds per call; nothing is
    subtracted.

    First the operation is called once. `counters` and `digest` get its result: `counters` returns a dictionary of the
    work done, such as the number of hits, and `digest` returns text, bytes or another object that stands for the
    answer (of an object, its `repr` counts). Calls during the first fifth of the budget are the warm-up. The budget is
    200 ms, or the number of milliseconds in the environment variable SIMPROF_BENCH_MS. At least three batches are
    measured even if that takes longer.

    `set_up` is called before each batch, outside of the measured time, and the operation gets its result as its
    argument. All calls of a batch get the same object. If the operation changes or uses up that object, pass `calls=1`:
    then each batch has one call. Such an operation should take more than 0.1 ms, because reading the clock takes up to
    1 microsecond.

    If a value is invalid or the clock does not work, an exception ends the program, unless the program catches it.
    """
    if not isinstance(name, str) or not name:
        raise ValueError("simprof: the name of an operation must be a text that is not empty")
    if calls is not None and not 1 <= calls <= MAX_CALLS:
        raise ValueError(f"simprof: calls is {calls}; it must be from 1 to {MAX_CALLS}")
    budget_ns = _budget_ns()
    result = _prepared(operation, set_up)()
    report = {"simprof": 1, "metrics": {}}
    if counters is not None:
        report["counters"] = _checked(counters(result))
    if digest is not None:
        report["digest"] = _digest(digest(result))
    del result
    cpu, wall = _samples(operation, set_up, calls, budget_ns)
    report["metrics"] = {f"{name}_ns": cpu, f"{name}_wall_ns": wall}
    _print(json.dumps(report))


def _budget_ns():
    text = os.environ.get(BUDGET_VARIABLE, str(DEFAULT_BUDGET_MS))
    try:
        budget_ms = float(text)
    except ValueError:
        budget_ms = math.nan
    if not 1 <= budget_ms <= MAX_BUDGET_MS:
        raise ValueError(
            f"simprof: {BUDGET_VARIABLE} is `{text}`; it must be a number of milliseconds from 1 to {MAX_BUDGET_MS}"
        )
    return budget_ms * 1e6


def _checked(counters):
    """Return the counters as numbers that JSON has."""
    checked = {}
    for name, value in counters.items():
        number = float(value)
        if not math.isfinite(number):
            raise ValueError(f"simprof: the counter {name} is {number}; it must be a finite number")
        checked[str(name)] = number
    return checked


def _digest(answer):
    if not isinstance(answer, (str, bytes, bytearray, memoryview)):
        answer = repr(answer)
    if isinstance(answer, str):
        answer = answer.encode("utf-8", "surrogatepass")
    return hashlib.sha256(answer).hexdigest()[:16]


def _samples(operation, set_up, calls, budget_ns):
    """Return the CPU time and the elapsed time per call of each batch, in ns."""
    enough_ns = max(budget_ns * BATCH, CLOCK_STEPS * _clock_step_ns())
    began = time.perf_counter_ns()
    calls = _warm_up(operation, set_up, calls, enough_ns, began + budget_ns * WARM_UP)
    cpu, wall = [], []
    while len(cpu) < MIN_SAMPLES or (len(cpu) < MAX_SAMPLES and time.perf_counter_ns() < began + budget_ns):
        batch_cpu, batch_wall = _batch(_prepared(operation, set_up), calls)
        cpu.append(batch_cpu / calls)
        wall.append(batch_wall / calls)
    if not any(wall):
        raise RuntimeError("simprof: the clock does not advance, so nothing was measured")
    return cpu, wall


def _warm_up(operation, set_up, calls, enough_ns, end_ns):
    """Run batches until `end_ns`, and return the number of calls that takes long enough.

    If `calls` is `None`, the number doubles after each batch that is too short, also after one that was long only
    because another program had the processor.
    """
    chosen = 1 if calls is None else calls
    while True:
        cpu, wall = _batch(_prepared(operation, set_up), chosen)
        if calls is None and cpu < enough_ns and wall < WAITING * enough_ns:
            if chosen >= MAX_CALLS:
                raise RuntimeError("simprof: the clock does not advance, so nothing was measured")
            chosen *= 2
        elif time.perf_counter_ns() >= end_ns:
            return chosen


def _prepared(operation, set_up):
    """Return the operation with its argument, after the set-up."""
    return operation if set_up is None else functools.partial(operation, set_up())


def _batch(operation, calls):
    """Return the CPU time and the elapsed time of `calls` calls, in ns."""
    turns = itertools.repeat(None, calls)
    wall = time.perf_counter_ns()
    cpu = time.thread_time_ns()
    for _ in turns:
        operation()
    cpu = time.thread_time_ns() - cpu
    return cpu, time.perf_counter_ns() - wall


def _clock_step_ns():
    """Return the smallest difference of two readings of the CPU clock: its resolution, or the time that a reading takes."""
    step = None
    before = time.thread_time_ns()
    for _ in range(1000):
        now = time.thread_time_ns()
        if now > before:
            step = now - before if step is None else min(step, now - before)
        before = now
    # A clock that did not advance in all these readings has the resolution of the scheduler's ticks.
    return 10_000_000 if step is None else step


def _print(line):
    """Print the report as a line of its own, whatever the operation has printed."""
    for stream in (sys.stdout, sys.__stdout__):
        if stream is not None and not stream.closed:
            stream.flush()
    rest = f"\n{line}\n".encode("ascii")
    while rest:
        rest = rest[os.write(1, rest):]
