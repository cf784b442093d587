"""Process trees in tests."""

import time
from pathlib import Path

import psutil

from dpiqa.local.process import runs


def family(pid):
    """Return the process and all its descendants."""
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def own_arenas(pid):
    """Return the number of heaps of glibc arenas beside the main one: 64 MiB each, used in part, the rest reserved."""
    heap, found, used = 64 << 20, 0, None
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        addresses, rights, *_ = line.split()
        start, end = (int(address, 16) for address in addresses.split("-"))
        if rights == "---p" and used is not None and used[1] == start and end - used[0] == heap:
            found += 1
        used = (start, end) if rights == "rw-p" and start % heap == 0 else None
    return found


def still_running(processes, seconds=30):
    """Return those of the processes that do not end in time."""
    deadline = time.monotonic() + seconds
    left = processes
    while left and time.monotonic() < deadline:
        left = [p for p in left if runs(p)]
        time.sleep(0.05)
    return left


def wait_for(condition, seconds=60):
    """Return the first true value of `condition()`; fail after that time."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.1)
    return value
