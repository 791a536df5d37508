"""The CPU profilers that are compared: how to run each on a command, and how to read its results."""

import gzip
import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from . import programs


@dataclass
class Recorded:
    """The result of recording a command once."""

    whole_s: float  # Wall time of the whole command, measured from outside.
    whole_cpu_s: float  # CPU time of the recorder and the target.
    wall_ms: float  # By the clock of the target, like `cpu_ms`.
    cpu_ms: float
    samples: int
    runs: int = 1  # Number of times that the recorder ran the target.
    lost: float | None = None  # Share of samples that are lost or torn. None if the recorder does not report it.

    @property
    def achieved_hz(self):
        return self.samples / (self.runs * self.cpu_ms * 1e-3)


class Plain:
    """No recorder."""

    name = "plain"

    def record(self, _folder, command):
        done = programs.run(command)
        return recorded(done, done.stdout, 0)


class Simprof:
    """Phase 1 of simprof, including all files that it writes."""

    name = "simprof"

    def __init__(self, path):
        self.path = path

    def record(self, folder, command):
        done = programs.run([self.path, "run", "--quick", "--phase", "1", *self.options(), "--output-dir", folder,
                             "--", *command], cwd=folder)
        run = Path(folder, "latest").resolve()
        manifest = json.loads((run / "run.json").read_text())
        runs = len(manifest["phases"][0]["measurements"][0]["replicates"])
        profile = json.loads((run / "phase1/phase1_summary.json").read_text())["profile"]
        found = recorded(done, (run / "phase1/default.out").read_text(), profile["samples"], runs)
        python = profile.get("python")
        if python:
            found.lost = (python["lost"] + python["unreadable"]) / max(1, python["samples"])
        return found

    def options(self):
        return []


class Perf:
    """perf. By default it copies 16 KiB of stack per sample, like simprof."""

    def __init__(self, name="perf", call_graph="dwarf,16384"):
        self.name, self.call_graph = name, call_graph

    def record(self, folder, command):
        done = programs.run(["perf", "record", "-F", "999", "--call-graph", self.call_graph,
                             "-o", folder / "perf.data", "--", *command])
        samples = re.search(r"\(~?(\d+) samples\)", done.stderr)
        return recorded(done, done.stdout, int(samples[1]) if samples else 0)


class Samply:
    """samply. It does not symbolise while recording."""

    name = "samply"

    def record(self, folder, command):
        file = folder / "profile.json.gz"
        done = programs.run([samply(), "record", "--save-only", "--rate", "1000", "-o", file, "--", *command])
        profile = json.loads(gzip.decompress(file.read_bytes()))
        samples = sum(samples_on_cpu(thread["samples"]) for thread in profile["threads"])
        return recorded(done, done.stdout, samples)


def samples_on_cpu(samples):
    """Counts the samples with a weight. samply also writes samples of weight 0, for threads that were off-CPU."""
    weights = samples.get("weight")
    return sum(1 for weight in weights if weight) if weights else samples["length"]


def recorded(done, output, samples, runs=1):
    own = programs.last_json(output)
    return Recorded(done.wall_s, done.cpu_s, own["wall_ms"], own["cpu_ms"], samples, runs)


def samply():
    return os.environ.get("SAMPLY") or shutil.which("samply") or "samply"


def usable(session, command, with_frame_pointers):
    """Tries each recorder and returns those that work here. Prints which are skipped, and why."""
    frame_pointers = [Perf("perf, frame pointers", "fp")] if with_frame_pointers else []
    works = [Plain(), Simprof(session.simprof)]
    for peer in [Perf(), *frame_pointers, Samply()]:
        try:
            peer.record(session.scratch(), command)
            works.append(peer)
        except programs.Failed as error:
            print(f"  skipped: {peer.name}: {' '.join(error.lines[-6:]) or error}")
    return works


def versions(simprof):
    """Returns the version of each program, or "not installed"."""
    found = {}
    for name, program in [("simprof", simprof), ("perf", "perf"), ("samply", samply()), ("rustc", "rustc")]:
        try:
            words = programs.run([program, "--version"]).stdout.split()
            found[name] = next((word for word in words if word[0].isdigit()), " ".join(words))
        except programs.Failed:
            found[name] = "not installed"
    return found
