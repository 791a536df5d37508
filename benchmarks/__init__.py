"""The benchmarks of `./bench`: one file each, and one row in the table of `command.py`.

A benchmark is a module with NAME, ABOUT (one sentence), GOAL (what it is judged against), ROUNDS and
QUICK_ROUNDS, and `run(session)`, which prints what it found and returns the raw numbers as a dict.
Nothing here fails because something is slow: figures are for people to judge.
"""
