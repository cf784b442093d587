"""Sizes of batches, by model, device and settings."""

from types import SimpleNamespace

import pytest

from dpiqa.pipeline.scorers import batch_size
from dpiqa.settings import Settings
from dpiqa.types import ModelKind


def scorer(kind, **device):
    return SimpleNamespace(card=SimpleNamespace(kind=kind), score=None, **device)


@pytest.mark.parametrize(
    ("kind", "device", "sizes", "expected"),
    [
        (ModelKind.STUDENT, {"device": "cpu"}, {"threads": 1}, 4),
        (ModelKind.STUDENT, {"device": "cpu"}, {"threads": 8}, 8),
        (ModelKind.STUDENT, {"device": "cpu"}, {"threads": 64}, 16),
        (ModelKind.STUDENT, {"device": "cuda:1"}, {}, 16),
        (ModelKind.PIXELS, {}, {}, 16),  # computed by NumPy, nowhere in particular
        (ModelKind.STUDENT, {"device": "cpu"}, {"batch_size": 32}, 32),
        (ModelKind.STUDENT, {"device": "cuda"}, {"batch_size": 1}, 1),
        (ModelKind.TEACHER, {"device": "cpu"}, {"batch_size": 32}, 4),
        (ModelKind.PROMPTIQA, {"device": "cuda"}, {"teacher_batch_size": 2}, 2),
    ],
)
def test_a_batch_fits_the_device_unless_a_setting_says_its_size(kind, device, sizes, expected):
    assert batch_size(scorer(kind, **device), Settings(**sizes)) == expected
