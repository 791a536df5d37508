"""The speed of the reference simulation."""

from . import programs
from .rounds import Spread, interleave, table, verdict

NAME = "simulation"
ABOUT = "500 steps of the reference simulation, with logging to a database"
GOAL = "50 agents in under 0.1 s, and at least 500 times the steps/s of the original"
ROUNDS = 31
QUICK_ROUNDS = 7

STEPS = 500
# The original is a Python simulation: 500 steps with 30 agents took 45.3 s on a 2-core machine. It is not run here, so the factor
# is only valid for a similar machine.
ORIGINAL_STEPS_PER_S = 11.0


def run(session):
    arms = {f"{agents} agents, {name}": arm(session, agents, logging)
            for agents in (50, 30) for name, logging in (("logging", True), ("no logging", False))}
    taken = interleave(session, arms)
    rows = [["", "run ms", "whole process ms", "steps/s", "times the original"]]
    for name, rounds in taken.items():
        # The time of the whole process, including opening and closing the database. The original was timed in the same way.
        rate = [STEPS / each["process_ms"] * 1e3 for each in rounds]
        rows.append([
            name,
            Spread([each["wall_ms"] for each in rounds]).text(".1f"),
            Spread([each["process_ms"] for each in rounds]).text(".1f"),
            Spread(rate).text(".0f"),
            Spread([each / ORIGINAL_STEPS_PER_S for each in rate]).text(".0f"),
        ])
    table(rows)
    judge(taken["50 agents, logging"])
    return taken


def arm(session, agents, logging):
    command = [session.simprof, "simulate", "--json", "--agents", agents, "--steps", STEPS]

    def measure():
        database = ["--db", session.scratch() / "simulation.db"] if logging else []
        done = programs.run(command + database)
        own = programs.last_json(done.stdout)
        return {"wall_ms": own["wall_ms"], "cpu_ms": own["cpu_ms"], "process_ms": done.wall_s * 1e3}

    return measure


def judge(rounds):
    time = Spread([each["process_ms"] / 100.0 for each in rounds])
    slowness = Spread([500.0 * ORIGINAL_STEPS_PER_S * each["process_ms"] / (STEPS * 1e3) for each in rounds])
    print(f"  goal (whole process under 0.1 s): {verdict(time, 1.0)}; "
          f"goal (500 times the original): {verdict(slowness, 1.0)}")
