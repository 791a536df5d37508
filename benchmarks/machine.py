"""The machine on which the benchmarks run, and its load by other processes."""

import os
import platform
import resource
import time
from pathlib import Path


def describe():
    return {
        "cpu": cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "user": "root" if os.geteuid() == 0 else "an ordinary user",
        "perf_event_paranoid": read("/proc/sys/kernel/perf_event_paranoid"),
        "load": load(),
    }


def line(described):
    return ("machine: {cpu}, {cores} cores, {memory_gib} GiB, kernel {kernel}, load {load}, "
            "as {user}, perf_event_paranoid {perf_event_paranoid}").format(**described)


def cpu_model():
    for text in read("/proc/cpuinfo").splitlines():
        if text.startswith("model name"):
            return text.split(":", 1)[1].strip()
    return platform.machine()


def read(path):
    try:
        return Path(path).read_text().strip()
    except OSError:
        return "unknown"


def load():
    """Returns the load averages over 1, 5 and 15 minutes."""
    return " ".join(read("/proc/loadavg").split()[:3])


class OtherProcesses:
    """Measures the CPU time used by processes that are not part of the benchmark, from now on."""

    def __init__(self):
        self.load = load()
        self.began = (time.monotonic(), busy_s(), own_s())

    def share(self):
        """Returns their share of the time of all CPUs, 0 to 1. Child processes that have not been waited for are included."""
        began, busy, own = self.began
        capacity = (time.monotonic() - began) * (os.cpu_count() or 1)
        return max(0.0, (busy_s() - busy) - (own_s() - own)) / max(capacity, 1e-9)


def busy_s():
    """Returns the busy time of all CPUs in seconds, including steal time of a hypervisor."""
    fields = [int(field) for field in read("/proc/stat").splitlines()[0].split()[1:9]]
    user, nice, system, _idle, _iowait, irq, softirq, steal = fields
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def own_s():
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)
