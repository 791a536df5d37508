"""Three threads sleep in the background while the main thread works."""

import threading
import time


def wait():
    while True:
        time.sleep(0.02)


def work(count):
    total = 0
    for number in range(count):
        total += number * number
    return total


for _ in range(3):
    threading.Thread(target=wait, daemon=True).start()
for _ in range(40):
    work(100_000)
