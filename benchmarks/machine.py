"""The machine that a figure was measured on, and how a benchmark ends."""

import os
import platform
import signal
import sys

import psutil

from dpiqa.provenance import cpu_name


def describe() -> dict[str, object]:
    """Describe the machine in a few words, and how busy it is with other things."""
    return {
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "python": platform.python_version(),
        "load_1min": round(os.getloadavg()[0], 2),
    }


def end_on_sigterm() -> None:
    """Let SIGTERM, as `timeout` sends it, end this process as Ctrl-C does: what it started ends, too."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
