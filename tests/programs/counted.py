# Makes known numbers of calls in processes of every kind: 100 calls of leaf, and 1000 more in each of three processes or threads.
import multiprocessing
import os
import sys
import threading


def leaf():
    return len("leaf")


def calls(count):
    for _ in range(count):
        leaf()
    return count


def fibonacci(n):
    return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)


def spin(count):
    total = 0
    for number in range(count):
        total += number
    return total


def more(kind):
    if kind == "threads":
        threads = [threading.Thread(target=calls, args=(1000,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    elif kind in ("fork", "spawn"):
        context = multiprocessing.get_context(kind)
        processes = [context.Process(target=calls, args=(1000,)) for _ in range(3)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
    elif kind == "pool":
        with multiprocessing.get_context("fork").Pool(2) as pool:
            assert pool.map(calls, [1000] * 3, 1) == [1000] * 3
    elif kind == "killed":
        if os.fork() == 0:
            calls(1000)
            os.kill(os.getpid(), 9)
        os.wait()


if __name__ == "__main__":
    calls(100)
    fibonacci(10)
    spin(int(sys.argv[2]))
    more(sys.argv[1])
