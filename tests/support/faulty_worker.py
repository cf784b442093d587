"""A worker whose device fails: `python -m support.faulty_worker FAULT MARK -- WORKER_ARGUMENTS`.

Faults: `memory` (more than four images do not fit), `nan` (of a batch of several, not of one image), `fatal` (the
context is lost) and `hang`. The last two happen once: the file MARK says that they did.
"""

import sys
import time
from pathlib import Path

import numpy as np
from dpiqa.workers.__main__ import main

from dpiqa.errors import DeviceMemoryError
from dpiqa.models.brightness import BrightnessScorer
from dpiqa.pipeline.device import Device

fault, mark = sys.argv[1], Path(sys.argv[2])
score = BrightnessScorer.score
calls = 0


def is_first():
    """Return True in one call of one process, after the model's warm-up."""
    global calls  # noqa: PLW0603 - counts over calls
    calls += 1
    if calls < 6 or mark.exists():
        return False
    mark.touch()
    return True


def fail(self, pixels):
    """Score, or fail as the device does."""
    if fault == "memory" and len(pixels) > 4:
        raise DeviceMemoryError("out of memory")
    if fault == "nan" and len(pixels) > 1:
        return np.where(np.arange(len(pixels)) % 2, np.nan, score(self, pixels))
    if fault == "fatal" and is_first():
        raise RuntimeError("CUDA error: an illegal memory access was encountered")
    if fault == "hang" and is_first():
        time.sleep(3600)
    return score(self, pixels)


BrightnessScorer.score = fail
Device.__init__.__kwdefaults__["batch_seconds"] = 5.0
del sys.argv[1:4]
sys.exit(main())
