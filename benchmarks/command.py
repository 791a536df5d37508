"""The command line of `./bench`, and the sequence of a run."""

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

# All benchmarks. Those in ON_REQUEST run only if `--only` names them.
BENCHMARKS = [recording, python, memory, whole_command, simulation, symbolising, marks, build]
ON_REQUEST = [build]

DESCRIPTION = """Measures the speed of simprof, and of other profilers that are installed, in the same run.
In each round, the arms run in random order. Figures are medians, with the range over all rounds in brackets.
It changes no settings of the machine, and a slow result is not a failure."""


@dataclass
class Session:
    """The context of a benchmark."""

    simprof: Path
    folder: Path
    random: random.Random
    quick: bool
    rounds: int

    def scratch(self):
        """Creates a new folder, which is removed when the benchmark ends."""
        return Path(tempfile.mkdtemp(dir=self.folder))


def main():
    arguments = parse()
    if arguments.list:
        for benchmark in BENCHMARKS:
            on_request = " (only with --only)" if benchmark in ON_REQUEST else ""
            print(f"{benchmark.NAME:<15} {benchmark.ABOUT}{on_request}\n{'':<15} goal: {benchmark.GOAL}")
        return 0
    # SIGTERM is handled like Ctrl-C, so that child processes are ended and temporary files are removed.
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
                        help="run only this benchmark; can be repeated")
    parser.add_argument("--quick", action="store_true", help="run few rounds")
    parser.add_argument("--rounds", metavar="N", type=positive, help="number of rounds per benchmark")
    parser.add_argument("--seed", metavar="N", type=int, help="seed of the order of arms")
    parser.add_argument("--json", metavar="FILE", help="write all raw numbers to this file")
    parser.add_argument("--list", action="store_true", help="list the benchmarks with their goals and exit")
    return parser.parse_args()


def positive(text):
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
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
        results["benchmarks"][benchmark.NAME] = run_one(benchmark, arguments, simprof, seed)
    return results


def run_one(benchmark, arguments, simprof, seed):
    """Runs one benchmark and reports the load of the machine by other processes."""
    rounds = arguments.rounds or (benchmark.QUICK_ROUNDS if arguments.quick else benchmark.ROUNDS)
    print(f"\n{benchmark.NAME}: {benchmark.ABOUT}\n  goal: {benchmark.GOAL}", flush=True)
    others = machine.OtherProcesses()
    with tempfile.TemporaryDirectory(prefix="simprof-bench-") as folder:
        session = Session(simprof, Path(folder), random.Random(f"{seed} {benchmark.NAME}"),
                          arguments.quick, rounds)
        found = benchmark.run(session)
    found["rounds"] = rounds
    found["others_cpu_share"] = others.share()
    found["load_before_and_after"] = [others.load, machine.load()]
    print(f"  load average {others.load} before, {machine.load()} after; other processes used "
          f"{found['others_cpu_share']:.0%} of the CPU time", flush=True)
    return found
