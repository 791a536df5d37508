"""The overhead of recording Python programs with mixed stacks, compared with other profilers for Python."""

import re
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

from . import peers, programs
from .rounds import Spread, interleave, ratios, table, verdict

NAME = "python"
ABOUT = "the overhead of recording Python programs with mixed stacks, by the clock of the program"
GOAL = "simprof at 1 kHz costs at most 0.01 more than perf with 16 KiB of stack in the same run; at 100 Hz at most 1.01"
ROUNDS = 25
QUICK_ROUNDS = 5

PACKAGES = ["mesa==3.3.1", "networkx>=3", "numpy>=2", "py-spy==0.4.3", "scalene==2.4.0", "austin-dist==3.7.0",
            "memray==1.20.0"]
# Many short rounds are better than few long ones, because the load of the machine changes within seconds.
CPU_MS = 800.0
# The recorders that the goal mentions run in every round. The others run only in the first rounds, because some are slow, and not
# at all with --quick.
OTHERS_ROUNDS = 2
# A profiler that takes longer is skipped and reported.
TIMEOUT_S = 90


def run(session):
    python = environment()
    return {name: compare(session, python, name, command) for name, command in targets(python).items()}


def environment():
    """Returns a Python with the measured packages. Its virtual environment is created in the target folder on first use."""
    folder = programs.target_folder() / "bench-python"
    installed = folder / "installed.txt"
    wanted = "\n".join([sys.version, *PACKAGES])
    if not installed.exists() or installed.read_text() != wanted:
        print(f"  installing {', '.join(PACKAGES)}", flush=True)
        programs.run([sys.executable, "-m", "venv", "--clear", folder])
        options = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        for package in PACKAGES:
            try:
                programs.run([folder / "bin/python", *options, package])
            except programs.Failed as error:
                print(f"  cannot install {package}: {error}")
        installed.write_text(wanted)
    return folder / "bin/python"


def targets(python):
    """Returns the commands to record. Each takes about a second."""
    folder = programs.ROOT / "benchmarks/programs"

    def sized(file, agents, start):
        command = [python, folder / file, agents]
        steps = programs.sized(lambda work: [*command, work], start, "cpu_ms", CPU_MS)
        return [*command, steps]

    return {
        "Mesa's flockers, 200 birds": sized("flockers.py", 200, 100),
        "NumPy, a Python loop and SQLite": sized("numeric.py", 20_000, 300),
    }


class Command:
    """A profiler that is a command. `prefix(folder, python)` replaces the interpreter in the command line, and the pattern
    `samples` finds the number of samples in the output."""

    def __init__(self, name, prefix, samples=None):
        self.name, self.prefix, self.samples = name, prefix, samples

    def record(self, folder, command):
        done = programs.run([*self.prefix(folder, command[0]), *command[1:]], cwd=folder, timeout=TIMEOUT_S)
        found = re.search(self.samples, done.stdout + done.stderr) if self.samples else None
        recorded = peers.recorded(done, done.stdout, int(found[1].replace(",", "")) if found else 0)
        errors = re.search(r"[Ee]rrors: (\d+)", done.stdout + done.stderr)
        recorded.lost = int(errors[1]) / max(1, recorded.samples + int(errors[1])) if errors else None
        return recorded


class Simprof(peers.Simprof):
    """Phase 1 of simprof at one sampling rate, without the pass that counts calls."""

    def __init__(self, path, rate):
        super().__init__(path)
        self.name, self.rate = f"simprof, {rate} Hz", rate

    def options(self):
        return ["--rate", self.rate]


def arms(session, python):
    tools = Path(python).parent

    def py_spy(name, *options):
        def prefix(folder, python):
            return [tools / "py-spy", "record", "--format", "raw", "-o", folder / "out", *options, "--", python]

        return Command(f"py-spy, {name}", prefix, r"Samples: ([\d,]+)")

    return [
        peers.Plain(),
        Simprof(session.simprof, 1000),
        Simprof(session.simprof, 100),
        peers.Perf(),
        peers.Perf("perf, frame pointers", "fp"),
        py_spy("100 Hz", "-r", "100"),
        py_spy("1000 Hz", "-r", "1000"),
        py_spy("1000 Hz, non-blocking", "-r", "1000", "--nonblocking"),
        py_spy("100 Hz, native", "-r", "100", "--native"),
        Command("cProfile", lambda folder, python: [python, "-m", "cProfile", "-o", folder / "out"]),
        Command("Scalene, CPU only",
                lambda folder, python: [python, "-m", "scalene", "run", "--cpu-only", "--outfile", folder / "out"]),
        Command("Austin, 1000 Hz",
                lambda folder, python: [tools / "austin", "-t", "5s", "-i", "1ms", "-o", folder / "out", python]),
    ]


def compare(session, python, title, command):
    print(f"\n  {title}")
    usable = {}
    for arm in arms(session, python):
        if session.quick and isinstance(arm, Command):
            continue
        try:
            arm.record(session.scratch(), command)
            usable[arm.name] = arm
        except subprocess.TimeoutExpired:
            print(f"  skipped: {arm.name}: not done after {TIMEOUT_S} s")
        except programs.Failed as error:
            print(f"  skipped: {arm.name}: {' '.join(error.lines[-6:]) or error}")
    judged = {name: arm for name, arm in usable.items() if not isinstance(arm, Command)}
    taken = interleave(session, recording(session, usable, command), rounds=min(session.rounds, OTHERS_ROUNDS),
                       warm_up=False)
    more = interleave(session, recording(session, judged, command),
                      rounds=session.rounds - min(session.rounds, OTHERS_ROUNDS), warm_up=False)
    for name, rounds in more.items():
        taken[name] += rounds
    report(taken)
    return {name: [asdict(each) for each in rounds] for name, rounds in taken.items()}


def recording(session, arms, command):
    return {name: (lambda arm=arm: arm.record(session.scratch(), command)) for name, arm in arms.items()}


def report(taken):
    wall = {name: [each.wall_ms for each in rounds] for name, rounds in taken.items()}
    cpu = {name: [each.cpu_ms for each in rounds] for name, rounds in taken.items()}
    rows = [["", "wall s", "wall / plain", "CPU / plain", "samples/CPU s", "lost or torn"]]
    for name, rounds in taken.items():
        lost = [each.lost for each in rounds if each.lost is not None]
        counted = name != "plain" and any(each.samples for each in rounds)
        rows.append([
            name,
            Spread([ms * 1e-3 for ms in wall[name]]).text(".3f"),
            ratios(wall[name], wall["plain"]).text(".3f") if name != "plain" else "1",
            ratios(cpu[name], cpu["plain"]).text(".3f") if name != "plain" else "1",
            Spread([each.achieved_hz for each in rounds]).text(".0f") if counted else "-",
            Spread(lost).text(".2%") if lost else "-",
        ])
    table(rows)
    judge(taken, wall)
    judge(taken, cpu, "CPU")


def judge(taken, times, clock="wall"):
    """Prints whether the goals are met, by one clock."""
    if "perf" in taken:
        over = [simprof / plain - perf / plain for simprof, perf, plain
                in zip(times["simprof, 1000 Hz"], times["perf"], times["plain"])]
        print(f"  (simprof at 1 kHz - perf) / plain ({clock}): {Spread(over).text('+.3f')}, "
              f"goal (at most +0.01): {verdict(Spread(over), 0.01)}")
    slow = ratios(times["simprof, 100 Hz"], times["plain"])
    print(f"  simprof at 100 Hz / plain ({clock}): {slow.text('.3f')}, goal (at most 1.01): {verdict(slow, 1.01)}")
