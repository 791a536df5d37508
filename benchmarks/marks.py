"""The cost of a step mark for the target."""

import re

from . import programs
from .rounds import Spread, interleave, table, verdict

NAME = "marks"
ABOUT = "the cost of a step mark, with and without a recorder"
GOAL = "under 100 ns"
ROUNDS = 5
QUICK_ROUNDS = 2


def run(session):
    programs.run(["cargo", "build", "--release", "--quiet", "--package", "simprof-probe", "--example", "mark_cost"])
    program = programs.target_folder() / "release/examples/mark_cost"
    # Each process measures marks with and without a recorder, alternately and several times.
    starts = interleave(session, {"both": lambda: measure(program)})["both"]
    taken = {name: [start[name] for start in starts] for name in starts[0]}
    table([["", "ns per mark"], *([name, Spread(costs).text(".2f")] for name, costs in taken.items())])
    share = Spread([cost / 100.0 for cost in taken["recorded"]])
    print(f"  goal (under 100 ns while recorded): {verdict(share, 1.0)}")
    return taken


def measure(program):
    lines = re.findall(r"^(.+): median ([\d.]+) ns", programs.run([program]).stdout, re.MULTILINE)
    if not lines:
        raise programs.Failed(f"{program} printed no costs")
    return {name: float(cost) for name, cost in lines}
