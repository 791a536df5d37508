"""Forks, starts processes and is interrupted by signals during waits. Prints the number of started processes and of forks, and whether
signals arrived."""

import os
import signal
import subprocess
import threading
import time


def starts():
    for _ in range(10):
        subprocess.run(["true"], check=True)
        time.sleep(0.001)
        done.append("process")


done = []
signals = []
signal.signal(signal.SIGALRM, lambda *_: signals.append(0))
signal.setitimer(signal.ITIMER_REAL, 0.003, 0.003)
threads = [threading.Thread(target=starts) for _ in range(3)]
for thread in threads:
    thread.start()
for _ in range(10):
    child = os.fork()
    if child == 0:
        time.sleep(0.002)
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    done.append("fork")
for thread in threads:
    thread.join()
signal.setitimer(signal.ITIMER_REAL, 0)
print(done.count("process"), done.count("fork"), len(signals) > 0)
