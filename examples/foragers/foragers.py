"""A small agent-based simulation: foragers on a torus search for food and avoid crowds. Their positions are logged to a database.

It needs only Python's standard library. Run it with `python foragers.py --agents 100 --steps 200`.
"""

import argparse
import math
import random
import sqlite3

SIZE = 100.0
VISION = 10.0


class Forager:
    def __init__(self, identity, rng):
        self.identity = identity
        self.x, self.y = rng.random() * SIZE, rng.random() * SIZE
        self.energy = 10.0
        self.heading = rng.random() * 2.0 * math.pi

    def move(self, neighbours, food, rng):
        """Turns away from a crowd or towards the nearest food, and moves forward."""
        if len(neighbours) > 3:
            crowd_x = sum(other.x for other in neighbours) / len(neighbours)
            crowd_y = sum(other.y for other in neighbours) / len(neighbours)
            self.heading = math.atan2(self.y - crowd_y, self.x - crowd_x)
        elif food is not None:
            self.heading = math.atan2(food[1] - self.y, food[0] - self.x)
        else:
            self.heading += rng.uniform(-0.5, 0.5)
        self.x = (self.x + math.cos(self.heading)) % SIZE
        self.y = (self.y + math.sin(self.heading)) % SIZE
        self.energy -= 0.1


class World:
    def __init__(self, agents, seed, database):
        self.rng = random.Random(seed)
        self.foragers = [Forager(identity, self.rng) for identity in range(agents)]
        self.food = [self.new_food() for _ in range(30)]
        self.eaten = 0
        self.time = 0
        self.database = sqlite3.connect(database)
        self.database.execute("DROP TABLE IF EXISTS positions")
        self.database.execute("CREATE TABLE positions (time INTEGER, forager INTEGER, x REAL, y REAL, energy REAL)")

    def new_food(self):
        return self.rng.random() * SIZE, self.rng.random() * SIZE

    def neighbours(self, forager):
        """Returns all foragers within sight. Checks every forager."""
        near = []
        for other in self.foragers:
            dx = abs(other.x - forager.x)
            dy = abs(other.y - forager.y)
            if min(dx, SIZE - dx) ** 2 + min(dy, SIZE - dy) ** 2 < VISION**2 and other is not forager:
                near.append(other)
        return near

    def nearest_food(self, forager):
        best, distance = None, VISION
        for food in self.food:
            away = math.hypot(food[0] - forager.x, food[1] - forager.y)
            if away < distance:
                best, distance = food, away
        return best

    def feed(self, forager):
        for index, food in enumerate(self.food):
            if math.hypot(food[0] - forager.x, food[1] - forager.y) < 1.0:
                self.food[index] = self.new_food()
                forager.energy += 5.0
                self.eaten += 1

    def log(self):
        rows = [(self.time, f.identity, f.x, f.y, f.energy) for f in self.foragers]
        self.database.executemany("INSERT INTO positions VALUES (?, ?, ?, ?, ?)", rows)
        self.database.commit()

    def step(self):
        for forager in self.foragers:
            forager.move(self.neighbours(forager), self.nearest_food(forager), self.rng)
            self.feed(forager)
        self.log()
        self.time += 1


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--agents", type=int, default=100)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--database", default=":memory:")
    arguments = parser.parse_args()
    world = World(arguments.agents, arguments.seed, arguments.database)
    for _ in range(arguments.steps):
        world.step()
    print(f"{world.eaten} pieces of food eaten in {world.time} steps")


if __name__ == "__main__":
    main()
