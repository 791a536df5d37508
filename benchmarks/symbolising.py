"""The time for symbolising addresses: functions, files and lines."""

import json
from pathlib import Path

from . import programs
from .rounds import Spread, interleave, table, verdict

NAME = "symbolising"
ABOUT = "symbolising 100,000 samples of simprof itself"
GOAL = "under 2 s"
ROUNDS = 3
QUICK_ROUNDS = 1

SAMPLES = 100_000
RATE_HZ = 20_000


def run(session):
    command = [session.simprof, "simulate", "--json", "--agents", "200", "--population-cap", "400", "--steps"]
    wanted_ms = 1.15 * SAMPLES / RATE_HZ * 1e3
    steps = programs.sized(lambda work: [*command, work], 500, "cpu_ms", wanted_ms)
    taken = interleave(session, {"simprof": lambda: measure(session, [*command, steps])}, warm_up=False)
    rounds = taken["simprof"]
    rows = [["", "samples", "lost", "unsymbolised", "functions", "symbolising s", "for 100,000 s"]]
    for number, each in enumerate(rounds):
        rows.append([f"round {number + 1}", f"{each['samples']}", f"{each['lost']}", f"{each['unsymbolised']}",
                     f"{each['functions']}", f"{each['symbolise_s']:.3f}", f"{each['scaled_s']:.3f}"])
    table(rows)
    share = Spread([each["scaled_s"] / 2.0 for each in rounds])
    print(f"  goal (under 2 s): {verdict(share, 1.0)}")
    return taken


def measure(session, command):
    folder = session.scratch()
    programs.run([session.simprof, "run", "--quick", "--phase", "1", "--rate", RATE_HZ,
                  "--output-dir", folder, "--", *command], cwd=folder)
    profile = json.loads(Path(folder, "latest/phase1/profile.json").read_text())
    provenance = profile["provenance"]
    symbolise_s = provenance["symbolise_ns"] * 1e-9
    return {
        "samples": provenance["samples"],
        "lost": provenance["lost"],
        "unsymbolised": provenance["unsymbolised"],
        "functions": len(profile["functions"]),
        "recorder_cpu_s": provenance["recorder_cpu_ns"] * 1e-9,
        "symbolise_s": symbolise_s,
        # With too few samples the time is scaled up, which overestimates it, because part of it is constant. With enough samples
        # it is not scaled.
        "scaled_s": symbolise_s * max(1.0, SAMPLES / max(provenance["samples"], 1)),
    }
