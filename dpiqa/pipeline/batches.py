"""Scores of one batch, one result per image: an error of some images leaves the others alone. Pure."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import numpy as np

from dpiqa.errors import DeviceBrokenError, DeviceMemoryError, ImageRejected
from dpiqa.models.base import Scorer
from dpiqa.text import first_line
from dpiqa.types import Reason

T = TypeVar("T")

RECORD_ITEMS = 64  #: items per transaction, and so per routing decision, at most
#: Parts of the messages of CUDA, cuDNN, cuBLAS and HIP when their context can no longer be used.
_BROKEN = ("CUDA error", "cuDNN error", "CUBLAS_STATUS", "HIP error")


@dataclass(frozen=True, slots=True)
class BatchScores:
    """Results of one batch."""

    scores: list[float | Exception]  #: one per image: a finite score, or why there is none
    fitted: int  #: images per call that the device had memory for


def score_images(scorer: Scorer, images: Sequence[np.ndarray]) -> BatchScores:
    """Score images of (H, W, 3) uint8.

    A batch that does not fit is halved; one that fails is tried image by image, as is an image whose score is not
    finite. Raises `DeviceBrokenError` when the process must end.
    """
    scores: dict[int, float | Exception] = {}
    fitted = len(images)
    parts = [list(range(len(images)))]
    while parts:
        part = parts.pop()
        result = _try_batch(scorer, [images[index] for index in part])
        is_memory_error = isinstance(result, DeviceMemoryError | MemoryError)
        if is_memory_error and len(part) > 1:
            half = len(part) // 2
            fitted = min(fitted, half)
            parts += [part[half:], part[:half]]
        elif isinstance(result, Exception) and len(part) > 1:
            parts += [[index] for index in part]
        elif isinstance(result, Exception):
            scores[part[0]] = ImageRejected(Reason.DEVICE_MEMORY, first_line(result)) if is_memory_error else result
        else:
            for index, score in zip(part, result.tolist(), strict=True):
                if math.isfinite(score):
                    scores[index] = score
                elif len(part) == 1:
                    scores[index] = ImageRejected(Reason.NON_FINITE_SCORE, f"the model answered {score}")
                else:
                    parts.append([index])
    return BatchScores([scores[index] for index in range(len(images))], fitted)


def _try_batch(scorer: Scorer, images: list[np.ndarray]) -> np.ndarray | Exception:
    """Return the scores (N,) float64, or the error: a raised one's traceback would keep the batch in memory."""
    try:
        scores = np.asarray(scorer.score(np.stack(images)), dtype=np.float64)
        if scores.shape != (len(images),):
            raise ValueError(f"expected {len(images)} scores, the scorer answered shape {scores.shape}")
    except Exception as error:
        if is_broken(error):
            raise DeviceBrokenError(f"the device failed: {first_line(error)}") from error
        return error.with_traceback(None)
    return scores


def is_broken(error: BaseException) -> bool:
    """Return whether the error says that the device's context is lost (out of memory does not)."""
    if isinstance(error, DeviceMemoryError | MemoryError):
        return False
    return type(error).__name__ == "AcceleratorError" or any(text in str(error) for text in _BROKEN)


def batched(values: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield lists of up to `size` values. `itertools.batched` from Python 3.12 on."""
    iterator = iter(values)
    while batch := list(islice(iterator, size)):
        yield batch
