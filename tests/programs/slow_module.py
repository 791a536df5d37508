"""A module that works for long when it is imported."""

table = 0
for number in range(3_000_000):
    table += number


def collect():
    return table
