# A module of a package, so that there are components.
import math


class Bird:
    def __init__(self, x):
        self.x = x

    def distance(self, other):
        return math.fabs(self.x - other.x)


class Flock:
    def __init__(self, n):
        self.birds = [Bird(x) for x in range(n)]

    def step(self):
        return [sum(a.distance(b) for b in self.birds) for a in self.birds]
