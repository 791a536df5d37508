"""The overhead of recording allocations, compared with heaptrack and memray."""

import json
import shutil
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path

from . import programs
from . import python as pythons
from . import recording
from .rounds import Spread, interleave, ratios, table, verdict

NAME = "memory"
ABOUT = "the overhead of recording allocations, by the clock of the program"
GOAL = ("at the default interval at most 1.03 on the reference simulation and on a NumPy and SQLite program, 1.2 at 12 million "
        "small allocations per second; recording every allocation at most as slow as heaptrack; files under 10 MB in 10 minutes")
ROUNDS = 15
QUICK_ROUNDS = 3

CPU_MS = 2500.0
# Recording every allocation slows a program many times, so few rounds are enough to compare recorders.
EXACT_ROUNDS = 3
# A recorder that takes longer is skipped and reported.
TIMEOUT_S = 180
FILES_MB = 10.0
DEFAULT, EXACT, HEAPTRACK = "simprof", "simprof, every allocation", "heaptrack"


@dataclass
class Recorded:
    """The result of recording a program once."""

    wall_ms: float  # By the clock of the target, like `cpu_ms`.
    cpu_ms: float
    all_cpu_ms: float | None = None  # CPU time of the target, and of the recorder while the target ran.
    file_bytes: int | None = None
    records: int | None = None
    lost: int | None = None


@dataclass
class Target:
    """A program, and the goal for the overhead at the default interval."""

    command: list
    most: float
    direct: list | None = None  # The command without a shell, for recorders that do not follow child processes.


def run(session):
    python = pythons.environment()
    found = {}
    for name, target in targets(session, python).items():
        found[name] = compare(session, python, name, target)
    return found


def targets(session, python):
    """Returns the programs to record. Each takes a few seconds."""
    small = compiled(session.folder)
    millions = programs.sized(lambda work: [small, work], 10, "cpu_ms", CPU_MS)
    steps = programs.sized(lambda work: recording.simulate(session, work), 500, "cpu_ms", CPU_MS)
    numeric = [python, programs.ROOT / "benchmarks/programs/numeric.py", 20_000]
    rounds = programs.sized(lambda work: [*numeric, work], 300, "cpu_ms", CPU_MS)
    # The database is in the folder of each recording. simprof runs the command more than once there.
    simulate = [session.simprof, "simulate", "--json", "--agents", 50, "--steps", steps, "--db", "simulation.db"]
    rate = programs.last_json(programs.run([small, millions]).stdout)
    rate = rate["allocations"] / rate["cpu_ms"] * 1e-3
    return {
        f"reference simulation, {steps} steps, logging": Target(
            ["sh", "-c", 'rm -f simulation.db*; exec "$@"', "sh", *simulate], 1.03, simulate),
        "NumPy, a Python loop and SQLite": Target([*numeric, rounds], 1.03),
        f"{rate:.0f} million small allocations per second": Target([small, millions], 1.2),
    }


def compiled(folder):
    binary = folder / "allocations"
    programs.run(["rustc", "--edition", "2024", "-O", "-g", "-o", binary,
                  programs.ROOT / "benchmarks/programs/allocations.rs"])
    return binary


class Plain:
    """No recorder."""

    name = "plain"

    def record(self, folder, target):
        return recorded(programs.run(target.command, cwd=folder).stdout)


class Simprof:
    """The allocation pass of simprof. The CPU sampling pass before it is not included in the figures."""

    def __init__(self, path, name, *options):
        self.path, self.name, self.options = path, name, options

    def record(self, folder, target):
        programs.run([self.path, "run", "--quick", "--phase", "3", "--memory", *self.options, "--output-dir", folder,
                      "--", *target.command], cwd=folder, timeout=TIMEOUT_S)
        phase = Path(folder, "latest").resolve() / "phase3"
        profile = json.loads((phase / "memory.json").read_text())
        found = recorded((phase / "memory.out").read_text())
        provenance = profile["provenance"]
        found.all_cpu_ms = found.cpu_ms + provenance["recorder_cpu_ns"] * 1e-6
        found.file_bytes = size(path for path in phase.iterdir() if path.name.startswith("memory"))
        found.records, found.lost = provenance["records"], provenance["lost"]
        return found


class Heaptrack:
    """heaptrack. It processes its records while the program runs."""

    name = HEAPTRACK

    def record(self, folder, target):
        done = programs.run(["heaptrack", "--output", folder / "out", *(target.direct or target.command)], cwd=folder,
                            timeout=TIMEOUT_S)
        return with_recorder(recorded(done.stdout), done, folder)


class Memray:
    """memray, for Python programs only."""

    def __init__(self, name, *options):
        self.name, self.options = name, options

    def record(self, folder, target):
        python, *script = target.command
        options = ["--quiet", *self.options, "--output", folder / "out"]
        done = programs.run([python, "-m", "memray", "run", *options, *script], cwd=folder, timeout=TIMEOUT_S)
        return with_recorder(recorded(done.stdout), done, folder)


def recorded(output):
    own = programs.last_json(output)
    return Recorded(own["wall_ms"], own["cpu_ms"])


def with_recorder(found, done, folder):
    """Adds the CPU time of the recorder and the size of its files."""
    found.all_cpu_ms = done.cpu_s * 1e3
    found.file_bytes = size(path for path in folder.iterdir() if path.name.startswith("out"))
    return found


def size(paths):
    return sum(path.stat().st_size for path in paths)


def arms(session, python, target):
    """Returns the arms with the default interval, and those that record every allocation."""
    sampled = [Plain(), Simprof(session.simprof, DEFAULT)]
    exact = [Simprof(session.simprof, EXACT, "--memory-interval", 1)]
    if shutil.which("heaptrack"):
        exact.append(Heaptrack())
    else:
        print("  skipped: heaptrack: it is not installed")
    if target.command[0] == python:
        # heaptrack does not record the small objects of the interpreter, memray does so only with an option. simprof
        # always records them.
        exact += [Memray("memray"), Memray("memray, native", "--native"),
                  Memray("memray, native, objects", "--native", "--trace-python-allocators")]
    return sampled, exact


def compare(session, python, title, target):
    print(f"\n  {title}")
    sampled, exact = (usable(session, some, target) for some in arms(session, python, target))
    first = min(session.rounds, EXACT_ROUNDS)
    taken = interleave(session, measures(session, sampled + exact, target), rounds=first, warm_up=False)
    more = interleave(session, measures(session, sampled, target), rounds=session.rounds - first, warm_up=False)
    for name, rounds in more.items():
        taken[name] += rounds
    report(taken, target)
    return {name: [asdict(each) for each in rounds] for name, rounds in taken.items()}


def usable(session, arms, target):
    """Returns the arms that work here. Each is tried once, which also fills caches."""
    works = []
    for arm in arms:
        try:
            arm.record(session.scratch(), target)
            works.append(arm)
        except subprocess.TimeoutExpired:
            print(f"  skipped: {arm.name}: not done after {TIMEOUT_S} s")
        except programs.Failed as error:
            print(f"  skipped: {arm.name}: {' '.join(error.lines[-6:]) or error}")
    return works


def measures(session, arms, target):
    def measure(arm):
        folder = session.scratch()
        try:
            return arm.record(folder, target)
        finally:
            # Some files are large, so they are removed after each round.
            shutil.rmtree(folder, ignore_errors=True)

    return {arm.name: (lambda arm=arm: measure(arm)) for arm in arms}


def report(taken, target):
    plain = taken["plain"]
    rows = [["", "wall s", "wall / plain", "CPU / plain", "CPU with recorder / plain", "file kB", "records", "lost"]]
    for name, rounds in taken.items():
        last = rounds[-1]
        rows.append([
            name,
            Spread([each.wall_ms * 1e-3 for each in rounds]).text(".3f"),
            over(rounds, plain, "wall_ms").text(".3f") if name != "plain" else "1",
            over(rounds, plain, "cpu_ms").text(".3f") if name != "plain" else "1",
            over(rounds, plain, "all_cpu_ms", "cpu_ms").text(".2f") if last.all_cpu_ms is not None else "-",
            f"{last.file_bytes * 1e-3:.0f}" if last.file_bytes is not None else "-",
            f"{last.records}" if last.records is not None else "-",
            f"{max(each.lost for each in rounds)}" if last.lost is not None else "-",
        ])
    table(rows)
    judge(taken, target)


def over(rounds, others, field, other=None):
    return ratios([getattr(each, field) for each in rounds], [getattr(each, other or field) for each in others])


def judge(taken, target):
    for clock, field in [("wall", "wall_ms"), ("CPU", "cpu_ms")]:
        ratio = over(taken[DEFAULT], taken["plain"], field)
        print(f"  simprof / plain ({clock}): {ratio.text('.3f')}, goal (at most {target.most}): "
              f"{verdict(ratio, target.most)}")
        if HEAPTRACK in taken and EXACT in taken:
            ratio = over(taken[EXACT], taken[HEAPTRACK], field)
            print(f"  simprof, every allocation / heaptrack ({clock}): {ratio.text('.3f')}, goal (at most 1): "
                  f"{verdict(ratio, 1.0)}")
    if any(name.startswith("memray") for name in taken):
        print("  simprof records the small objects of the interpreter too; heaptrack does not, memray only with an option")
    size = Spread([each.file_bytes * 1e-6 for each in taken[DEFAULT]])
    print(f"  files at the default interval: {size.text('.2f')} MB, goal (at most {FILES_MB:.0f}): "
          f"{verdict(size, FILES_MB)}; they contain sums by stack and time, which do not grow with the duration of the run")
