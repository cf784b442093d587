"""Scores of one batch, one answer per image: what goes wrong with some images leaves the others alone. Pure."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import numpy as np

from dpiqa.errors import DpiqaError, ImageRejected
from dpiqa.models.base import DeviceMemoryError, Scorer
from dpiqa.text import first_line
from dpiqa.types import Reason

#: What CUDA, cuDNN, cuBLAS and HIP say when their context can no longer be used.
_BROKEN = ("CUDA error", "cuDNN error", "CUBLAS_STATUS", "HIP error")


class DeviceBrokenError(DpiqaError):
    """The device's context is unusable; only a new process mends it."""


@dataclass(frozen=True, slots=True)
class Scores:
    """Answers of one batch."""

    answers: list[float | Exception]  #: one per image: a finite score, or why there is none
    fitted: int  #: images per call that the device had memory for


def score_images(scorer: Scorer, images: Sequence[np.ndarray]) -> Scores:
    """Score images of (H, W, 3) uint8.

    A batch that does not fit is halved; one that fails is tried image by image, as is an image whose score is not
    finite. Raises `DeviceBrokenError` when the process must end.
    """
    answers: dict[int, float | Exception] = {}
    fitted = len(images)
    parts = [list(range(len(images)))]
    while parts:
        part = parts.pop()
        result = _attempt(scorer, [images[index] for index in part])
        if isinstance(result, DeviceMemoryError | MemoryError) and len(part) > 1:
            half = len(part) // 2
            fitted = min(fitted, half)
            parts += [part[half:], part[:half]]
        elif isinstance(result, Exception) and len(part) > 1:
            parts += [[index] for index in part]
        elif isinstance(result, Exception):
            answers[part[0]] = _alone(result)
        else:
            parts += _sort_in(answers, part, result)
    return Scores([answers[index] for index in range(len(images))], fitted)


def _attempt(scorer: Scorer, images: list[np.ndarray]) -> np.ndarray | Exception:
    """Scores of the batch, or the error. Returned, not raised: a caught error's traceback holds the batch's memory."""
    try:
        scores = np.asarray(scorer.score(np.stack(images)), dtype=np.float64)
        if scores.shape != (len(images),):
            raise ValueError(f"expected {len(images)} scores, the scorer answered shape {scores.shape}")
    except Exception as error:
        if is_broken(error):
            raise DeviceBrokenError(f"the device failed: {first_line(error)}") from error
        return error.with_traceback(None)
    return scores


def _sort_in(answers: dict[int, float | Exception], part: list[int], scores: np.ndarray) -> list[list[int]]:
    """Keep the finite scores; return those to be tried alone."""
    again = []
    for index, score in zip(part, scores.tolist(), strict=True):
        if math.isfinite(score):
            answers[index] = score
        elif len(part) == 1:
            answers[index] = ImageRejected(Reason.NON_FINITE_SCORE, f"the model answered {score}")
        else:
            again.append([index])
    return again


def _alone(error: Exception) -> Exception:
    if isinstance(error, DeviceMemoryError | MemoryError):
        return ImageRejected(Reason.DEVICE_MEMORY, first_line(error))
    return error


def is_broken(error: BaseException) -> bool:
    """Whether the error says that the device's context is lost (out of memory does not)."""
    if isinstance(error, DeviceMemoryError | MemoryError):
        return False
    return type(error).__name__ == "AcceleratorError" or any(mark in str(error) for mark in _BROKEN)


T = TypeVar("T")

RECORD_ITEMS = 64  #: items per transaction, and so per routing decision, at most


def in_parts(values: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield lists of up to `size` values."""
    iterator = iter(values)
    while part := list(islice(iterator, size)):
        yield part
