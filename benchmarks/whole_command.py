"""The wall time of the whole command."""

from dataclasses import asdict

from . import peers, programs, recording
from .rounds import Spread, interleave, ratios, table, verdict

NAME = "whole-command"
ABOUT = "wall time of the whole command on a spin with 2 threads; for simprof including symbols and all files"
GOAL = "simprof takes at most 5 % plus 0.5 s longer than the plain run"
ROUNDS = 9
QUICK_ROUNDS = 3


def run(session):
    spin = programs.spin(session.folder)
    blocks = programs.sized(lambda work: [spin, 2, work], 100, "cpu_ms", recording.SPIN_CPU_MS)
    command = [spin, 2, blocks]
    arms = {peer.name: recording.arm(session, peer, lambda: command)
            for peer in peers.usable(session, command, with_frame_pointers=False)}
    taken = interleave(session, arms)
    report(taken)
    return {name: [asdict(each) for each in rounds] for name, rounds in taken.items()}


def report(taken):
    whole = {name: [each.whole_s for each in rounds] for name, rounds in taken.items()}
    cpu = {name: [each.whole_cpu_s for each in rounds] for name, rounds in taken.items()}
    rows = [["", "whole s", "whole / plain", "CPU / plain", "before and after the target s"]]
    for name in taken:
        around = Spread([each.whole_s - each.wall_ms * 1e-3 for each in taken[name]])
        ratio = ratios(whole[name], whole["plain"]).text(".3f") if name != "plain" else "1"
        cpu_ratio = ratios(cpu[name], cpu["plain"]).text(".3f") if name != "plain" else "1"
        rows.append([name, Spread(whole[name]).text(".3f"), ratio, cpu_ratio, around.text(".3f")])
    table(rows)
    again = sum(each.runs > 1 for each in taken["simprof"])
    if again:
        print(f"  note: in {again} rounds simprof ran the target more than once, because one run had too few samples")
    allowed = [plain * 1.05 + 0.5 for plain in whole["plain"]]
    share = ratios(whole["simprof"], allowed)
    print(f"  simprof / (plain * 1.05 + 0.5 s): {share.text('.3f')}; goal (at most 1): {verdict(share, 1.0)}")
    print("  perf and samply do not symbolise in this command: they only write the recorded data")
