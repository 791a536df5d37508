"""Two threads that compute, so that they take turns in holding the GIL. Prints for each its begin, its end and its CPU time, ns."""

import json
import threading
import time

found = {}


def compute():
    start.wait()
    begin, cpu = time.monotonic_ns(), time.thread_time_ns()
    total = 0
    while time.thread_time_ns() - cpu < 300_000_000:
        for number in range(2000):
            total += number * number
    end, cpu = time.monotonic_ns(), time.thread_time_ns() - cpu
    found[threading.get_native_id()] = [begin, end, cpu]


start = threading.Barrier(2)
threads = [threading.Thread(target=compute) for _ in range(2)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(json.dumps(found))
