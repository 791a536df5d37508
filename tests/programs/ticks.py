# A simulation with step functions of every kind, in this module and in `ticks_model`. Each is called a given number of times.
import asyncio
import sys
import threading

import ticks_model
from ticks_model import Model, tick


class Own(Model):
    def step(self):
        super().step()


def own_tick():
    return "ticked"


def run(kind, steps):
    model = Own()
    for _ in range(steps):
        model.step()
        assert own_tick() == "ticked" and tick() == "ticked"
        assert model.recurse(3) == 0
        assert list(model.yields()) == [1, 2]
        assert asyncio.run(model.awaits()) == "awaited"
        assert Model.on_class() is Model and Model.static(7) == 7
        try:
            model.fails()
        except KeyError as error:
            assert error.args == ("failed",)
    assert model.taken == steps
    if kind == "threads":
        threads = [threading.Thread(target=ticks_model.tick) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


if __name__ == "__main__":
    run(sys.argv[1], int(sys.argv[2]))
