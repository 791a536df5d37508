"""The benchmarks of `./bench`. Each is a module that is listed in `command.py`.

A benchmark has NAME, ABOUT (one sentence), GOAL, ROUNDS, QUICK_ROUNDS and `run(session)`, which prints the results and
returns the raw numbers as a dict. A benchmark never fails because something is slow. People judge the figures.
"""
