"""One of Mesa's example models. Arguments: model, size, steps."""

import sys

from mesa.examples import BoidFlockers, BoltzmannWealth, Schelling


def make(model, size):
    if model == "flockers":
        return BoidFlockers(population_size=size, width=100, height=100, vision=10, seed=1)
    if model == "wealth":
        return BoltzmannWealth(n=size, width=30, height=30, seed=1)
    return Schelling(width=size, height=size, density=0.8, homophily=0.4, radius=1, seed=1)


def main(model, size, steps):
    world = make(model, size)
    for _ in range(steps):
        world.step()
    print(f"{len(world.agents)} agents, {world.steps} steps")


main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
