"""The programs that are measured: simprof itself, and the small ones in `programs/`."""

import json
import os
import resource
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


class Failed(Exception):
    """A program did not work; `words` are the last lines that it wrote."""

    def __init__(self, message, words=()):
        super().__init__(message)
        self.words = words


@dataclass
class Done:
    """A command that has ended well."""

    wall_s: float
    cpu_s: float  # With all processes that it started and waited for.
    stdout: str
    stderr: str


def run(argv, **options):
    """Runs a command to its end; `Failed` names it and its last words where it does not end well."""
    argv = [str(word) for word in argv]
    began, used = time.monotonic(), children_cpu_s()
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              errors="replace", cwd=options.pop("cwd", ROOT), **options)
    except OSError as error:
        raise Failed(f"cannot run {argv[0]}: {error.strerror}") from error
    wall_s, cpu_s = time.monotonic() - began, children_cpu_s() - used
    if done.returncode != 0:
        words = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        raise Failed(f"`{Path(argv[0]).name} {' '.join(argv[1:])}` ended with {done.returncode}: "
                     f"{' '.join(words[-6:])}", words)
    return Done(wall_s, cpu_s, done.stdout, done.stderr)


def children_cpu_s():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def last_json(text):
    """The last line of `text` that is a JSON object: how a target tells its own times."""
    for line in reversed(text.splitlines()):
        if line.startswith("{"):
            try:
                return json.loads(line)
            except ValueError:
                continue
    raise Failed(f"no line of JSON in what the target wrote: {text[-200:]!r}")


def target_folder():
    return Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))


def simprof():
    """Builds simprof as users have it, and returns its path."""
    print("building simprof (release)", flush=True)
    run(["cargo", "build", "--release", "--quiet", "--package", "simprof"])
    return target_folder() / "release" / "simprof"


def spin(folder):
    """Compiles the spinning program into `folder`, and returns its path."""
    binary = folder / "spin"
    run(["rustc", "--edition", "2024", "-O", "-g", "-o", binary, ROOT / "benchmarks/programs/spin.rs"])
    return binary


def sized(command, start, unit, wanted):
    """How much work makes `command(work)` report `wanted` of `unit`: its cost grows with the work."""
    work = start
    for _ in range(3):
        done = last_json(run(command(work)).stdout)
        work = max(1, round(work * wanted / max(done[unit], 1e-3)))
    return work
