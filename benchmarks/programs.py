"""Builds and runs the programs that are measured: simprof and the small programs in `programs/`."""

import json
import os
import resource
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


class Failed(Exception):
    """A program failed. `lines` is the output of the program."""

    def __init__(self, message, lines=()):
        super().__init__(message)
        self.lines = lines


@dataclass
class Done:
    """The result of a successful command."""

    wall_s: float
    cpu_s: float  # Including all processes that it started and waited for.
    stdout: str
    stderr: str


def run(argv, **options):
    """Runs a command until it ends. Raises `Failed` with the last lines of its output if it fails."""
    argv = [str(argument) for argument in argv]
    began, used = time.monotonic(), children_cpu_s()
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              errors="replace", cwd=options.pop("cwd", ROOT), **options)
    except OSError as error:
        raise Failed(f"cannot run {argv[0]}: {error.strerror}") from error
    wall_s, cpu_s = time.monotonic() - began, children_cpu_s() - used
    if done.returncode != 0:
        lines = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        raise Failed(f"`{Path(argv[0]).name} {' '.join(argv[1:])}` exited with status {done.returncode}: "
                     f"{' '.join(lines[-6:])}", lines)
    return Done(wall_s, cpu_s, done.stdout, done.stderr)


def children_cpu_s():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def last_json(text):
    """Returns the last line of `text` that is a JSON object. Targets report their times in this way."""
    for line in reversed(text.splitlines()):
        if line.startswith("{"):
            try:
                return json.loads(line)
            except ValueError:
                continue
    raise Failed(f"the output of the target has no line of JSON; it ends with: {text[-200:]!r}")


def target_folder():
    return Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))


def simprof():
    """Builds simprof as a release and returns its path."""
    print("building simprof (release)", flush=True)
    run(["cargo", "build", "--release", "--quiet", "--package", "simprof"])
    return target_folder() / "release" / "simprof"


def spin(folder):
    """Compiles the spin program into `folder` and returns its path."""
    binary = folder / "spin"
    run(["rustc", "--edition", "2024", "-O", "-g", "-o", binary, ROOT / "benchmarks/programs/spin.rs"])
    return binary


def sized(command, start, unit, wanted):
    """Returns the amount of work for which `command(work)` reports `wanted` of `unit`. The cost must grow with the work."""
    work = start
    for _ in range(3):
        done = last_json(run(command(work)).stdout)
        work = max(1, round(work * wanted / max(done[unit], 1e-3)))
    return work
