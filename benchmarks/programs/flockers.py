"""The flockers example of Mesa, with many small Python and NumPy calls. Arguments: birds, steps."""

import json
import sys
import time

from mesa.examples.basic.boid_flockers.model import BoidFlockers


def main(birds, steps):
    model = BoidFlockers(population_size=birds, seed=1)
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(steps):
        model.step()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(json.dumps({"wall_ms": 1e3 * wall, "cpu_ms": 1e3 * cpu}))


main(int(sys.argv[1]), int(sys.argv[2]))
