"""The command line, and the order of things."""

import argparse
import datetime
import json
import random
import signal
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from . import build, machine, marks, memory, peers, programs, python, recording, simulation, symbolising, whole_command

# Every benchmark; those in ON_REQUEST only run where `--only` names them.
BENCHMARKS = [recording, python, memory, whole_command, simulation, symbolising, marks, build]
ON_REQUEST = [build]

DESCRIPTION = """Measures how fast simprof is, beside perf and samply where they are installed, in one run.
Arms take turns in random order; figures are medians, with the range over all rounds in brackets.
Commits nothing, changes no setting of the machine, and never fails because something is slow."""


@dataclass
class Session:
    """What every benchmark is given."""

    simprof: Path
    folder: Path
    random: random.Random
    quick: bool
    rounds: int

    def scratch(self):
        """A new, empty folder that goes when the run ends."""
        return Path(tempfile.mkdtemp(dir=self.folder))


def main():
    arguments = parse()
    if arguments.list:
        for benchmark in BENCHMARKS:
            on_request = " (only with --only)" if benchmark in ON_REQUEST else ""
            print(f"{benchmark.NAME:<15} {benchmark.ABOUT}{on_request}\n{'':<15} goal: {benchmark.GOAL}")
        return 0
    # As Ctrl-C does: what was started is ended, and the temporary files go.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        results = measure(arguments)
    except (KeyboardInterrupt, programs.Failed) as error:
        print(f"bench: {str(error) or 'interrupted'}", file=sys.stderr)
        return 1
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(results, indent=1) + "\n")
    return 0


def parse():
    parser = argparse.ArgumentParser(prog="./bench", description=DESCRIPTION,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [benchmark.NAME for benchmark in BENCHMARKS]
    parser.add_argument("--only", metavar="NAME", action="append", choices=names,
                        help="run only this benchmark; may be given more than once")
    parser.add_argument("--quick", action="store_true", help="few rounds")
    parser.add_argument("--rounds", metavar="N", type=positive, help="rounds of each benchmark")
    parser.add_argument("--seed", metavar="N", type=int, help="seed of the order of arms")
    parser.add_argument("--json", metavar="FILE", help="write all raw numbers to this file")
    parser.add_argument("--list", action="store_true", help="list the benchmarks and their goals, and end")
    return parser.parse_args()


def positive(text):
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("it must be 1 or more")
    return number


def measure(arguments):
    seed = arguments.seed if arguments.seed is not None else random.SystemRandom().randrange(1 << 32)
    chosen = [benchmark for benchmark in BENCHMARKS
              if (benchmark.NAME in arguments.only if arguments.only else benchmark not in ON_REQUEST)]
    simprof = programs.simprof()
    results = {
        "began": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "arguments": sys.argv[1:],
        "seed": seed,
        "machine": machine.describe(),
        "versions": peers.versions(simprof),
        "benchmarks": {},
    }
    print(machine.line(results["machine"]))
    print("versions:", "; ".join(f"{name} {version}" for name, version in results["versions"].items()))
    print(f"order of arms: seed {seed}")
    for benchmark in chosen:
        results["benchmarks"][benchmark.NAME] = one(benchmark, arguments, simprof, seed)
    return results


def one(benchmark, arguments, simprof, seed):
    """Runs one benchmark, and says what else the machine did meanwhile."""
    rounds = arguments.rounds or (benchmark.QUICK_ROUNDS if arguments.quick else benchmark.ROUNDS)
    print(f"\n{benchmark.NAME}: {benchmark.ABOUT}\n  goal: {benchmark.GOAL}", flush=True)
    others = machine.Others()
    with tempfile.TemporaryDirectory(prefix="simprof-bench-") as folder:
        session = Session(simprof, Path(folder), random.Random(f"{seed} {benchmark.NAME}"),
                          arguments.quick, rounds)
        found = benchmark.run(session)
    found["rounds"] = rounds
    found["others_cpu_share"] = others.share()
    found["load_before_and_after"] = [others.load, machine.load()]
    print(f"  meanwhile: load {others.load} before, {machine.load()} after; other processes used "
          f"{found['others_cpu_share']:.0%} of the CPUs", flush=True)
    return found
