"""Python code whose use of memory is known: a leak, temporaries and, with NumPy, buffers.

    memory.py STEPS [numpy]
"""

import sys

KEPT = []
FIELD = []


class Model:
    def __init__(self, with_numpy):
        self.numpy = __import__("numpy") if with_numpy else None

    def leak(self):
        KEPT.append(bytearray(40_000))  # LEAK LINE

    def churn(self):
        total = 0
        for i in range(300):
            total += len(bytearray(5_000 + i))  # CHURN LINE
        return total

    def field(self):
        FIELD[:] = [self.numpy.full(1_000_000, 1.5)]  # FIELD LINE
        return float((FIELD[0] + FIELD[0]).sum())  # SUM LINE

    def step(self):
        self.leak()
        self.churn()
        if self.numpy:
            self.field()


def main():
    model = Model("numpy" in sys.argv)
    for _ in range(int(sys.argv[1])):
        model.step()


main()
