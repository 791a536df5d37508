# The module that ticks.py imports.
import asyncio


class Base:
    taken = 0

    def inherited(self):
        self.taken += 1


class Model(Base):
    def step(self):
        self.inherited()

    def recurse(self, depth):
        return self.recurse(depth - 1) if depth else 0

    def fails(self):
        raise KeyError("failed")

    def yields(self):
        yield 1
        yield 2

    async def awaits(self):
        await asyncio.sleep(0)
        return "awaited"

    @classmethod
    def on_class(cls):
        return cls

    @staticmethod
    def static(value):
        return value

    def uncalled(self):
        pass


def tick():
    return "ticked"
