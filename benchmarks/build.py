"""The duration of a release build from scratch, and the crates in it."""

import re
from collections import Counter

from . import programs

NAME = "build"
ABOUT = "a release build of simprof from scratch"
GOAL = "under 5 minutes on 2 cores"
ROUNDS = 1
QUICK_ROUNDS = 1


def run(session):
    programs.run(["cargo", "fetch", "--locked"])
    walls = []
    for _ in range(session.rounds):
        target = session.scratch()
        done = programs.run(["cargo", "build", "--release", "--locked", "--package", "simprof",
                             "--target-dir", target])
        walls.append(done.wall_s)
        print(f"  {done.wall_s:.0f} s")
    crates = tree()
    versions = Counter(crate.split()[0] for crate in crates)
    duplicates = sorted(crate for crate in crates if versions[crate.split()[0]] > 1)
    print(f"  {len(crates)} crates; in more than one version: {', '.join(duplicates) or 'none'}")
    print(f"  goal (under 300 s): {'met' if max(walls) < 300 else 'missed'}")
    return {"wall_s": walls, "crates": len(crates), "duplicates": duplicates}


def tree():
    """Returns the crates that simprof depends on, as `name version`."""
    done = programs.run(["cargo", "tree", "--locked", "--package", "simprof", "--edges", "normal,build",
                         "--prefix", "none"])
    return set(re.findall(r"^(\S+ v\S+)", done.stdout, re.MULTILINE))
