# Prints a file of cProfile as JSON, read with `pstats`. It is the oracle for `simprof analyze`.
import json
import pstats
import sys


def location(function):
    # The module `profile` stores a code object instead of the name of the program, and no file for functions in C.
    file, line, name = function
    return ["~" if (file, line) == ("", 0) else file, line, getattr(name, "co_name", name)]


stats = pstats.Stats(sys.argv[1])
rows = []
for function, (primitive, calls, own, cumulative, callers) in stats.stats.items():
    of = [location(caller) + (list(by) if isinstance(by, tuple) else [by]) for caller, by in callers.items()]
    rows.append(location(function) + [primitive, calls, own, cumulative, of])
print(json.dumps([stats.total_calls, stats.prim_calls, stats.total_tt, rows]))
