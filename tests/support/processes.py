"""Process trees in tests."""

import time

import psutil


def family(pid):
    """Return the process and all its descendants."""
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def runs(process):
    """Return whether the process runs: it has not ended, and is not a zombie."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


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
