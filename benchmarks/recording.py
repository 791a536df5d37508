"""The overhead of recording at 1 kHz for the target."""

from dataclasses import asdict

from . import peers, programs
from .rounds import Spread, interleave, ratios, table, verdict

NAME = "recording"
ABOUT = "the overhead of recording at 1 kHz, by the clock of the target"
GOAL = "simprof costs at most as much as perf with 16 KiB of stack in the same run"
ROUNDS = 9
QUICK_ROUNDS = 3

# With this CPU time a run has at least 5,000 samples, so that simprof does not run the target again.
SPIN_CPU_MS = 5500.0
SIMULATION_CPU_MS = 2500.0


def run(session):
    return {name: compare(session, name, command) for name, command in targets(session).items()}


def targets(session):
    """Returns the commands to record. Each takes two to three seconds."""
    spin = programs.spin(session.folder)
    blocks = programs.sized(lambda work: [spin, 2, work], 100, "cpu_ms", SPIN_CPU_MS)
    steps = programs.sized(lambda work: simulate(session, work), 500, "cpu_ms", SIMULATION_CPU_MS)
    return {
        f"reference simulation, {steps} steps, logging": lambda: simulate(session, steps),
        "spin, 2 threads, 30 frames deep": lambda: [spin, 2, blocks],
    }


def simulate(session, steps):
    """Returns the command of the reference simulation. A shell first removes the database, because simprof may run the command again."""
    file = session.folder / "simulation.db"
    line = 'rm -f "$1" "$1-wal" "$1-shm"; exec "$2" simulate --json --agents 50 --steps "$3" --db "$1"'
    return ["sh", "-c", line, "sh", file, session.simprof, steps]


def compare(session, title, command):
    print(f"\n  {title}")
    arms = {peer.name: arm(session, peer, command) for peer in peers.usable(session, command(), with_frame_pointers=True)}
    taken = interleave(session, arms)
    report(taken)
    return {name: [asdict(each) for each in rounds] for name, rounds in taken.items()}


def arm(session, peer, command):
    return lambda: peer.record(session.scratch(), command())


def report(taken):
    wall = {name: [each.wall_ms for each in rounds] for name, rounds in taken.items()}
    cpu = {name: [each.cpu_ms for each in rounds] for name, rounds in taken.items()}
    rows = [["", "wall s", "wall / plain", "CPU / plain", "samples/CPU s"]]
    for name in taken:
        rows.append([
            name,
            Spread([ms * 1e-3 for ms in wall[name]]).text(".3f"),
            ratios(wall[name], wall["plain"]).text(".3f") if name != "plain" else "1",
            ratios(cpu[name], cpu["plain"]).text(".3f") if name != "plain" else "1",
            Spread([each.achieved_hz for each in taken[name]]).text(".0f") if name != "plain" else "-",
        ])
    table(rows)
    if "perf" in taken:
        by_wall, by_cpu = ratios(wall["simprof"], wall["perf"]), ratios(cpu["simprof"], cpu["perf"])
        print(f"  simprof / perf: wall {by_wall.text('.3f')}, goal (at most 1): {verdict(by_wall, 1.0)}")
        print(f"                  CPU  {by_cpu.text('.3f')}, goal (at most 1): {verdict(by_cpu, 1.0)}; "
              "other processes disturb the CPU time less than the wall time")
