"""Measures of a picture: monotone in their own kind of distortion, and nearly flat in the others."""

import dataclasses
import io
import math

import numpy as np
import pytest
from PIL import Image, ImageFilter
from skimage import data

import dpiqa

PHOTOS = [Image.fromarray(photo) for photo in (data.astronaut(), data.coffee(), data.chelsea())]


def linear(photo, factor, offset=0.0):
    return Image.fromarray(np.clip(np.rint(np.asarray(photo, dtype=float) * factor + offset), 0, 255).astype(np.uint8))


def noisy(photo, deviation):
    noise = np.random.default_rng(0).normal(0, deviation, (photo.height, photo.width, 1))
    return Image.fromarray(np.clip(np.rint(np.asarray(photo) + noise), 0, 255).astype(np.uint8))


def compressed(photo, quality):
    file = io.BytesIO()
    photo.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


DISTORTIONS = {
    "blur": [lambda photo, r=r: photo.filter(ImageFilter.GaussianBlur(r)) for r in (0.5, 1, 2, 4)],
    "noise": [lambda photo, s=s: noisy(photo, s) for s in (3, 6, 12, 24)],
    "jpeg": [lambda photo, q=q: compressed(photo, q) for q in (80, 50, 25, 10)],
    "dark": [lambda photo, f=f: linear(photo, f) for f in (0.8, 0.6, 0.4, 0.2)],
    "bright": [lambda photo, o=o: linear(photo, 1, o) for o in (20, 50, 80, 120)],
    "contrast": [lambda photo, f=f: linear(photo, f, 127.5 * (1 - f)) for f in (0.8, 0.6, 0.4, 0.2)],
}


def series(name, kind):
    """The measure of each photograph, without and with the distortion at rising strengths."""
    steps = [lambda photo: photo, *DISTORTIONS[kind]]
    return [[getattr(dpiqa.measure(step(photo)), name) for step in steps] for photo in PHOTOS]


@pytest.mark.parametrize(
    ("name", "kind", "sign", "least"),
    [
        ("sharpness", "blur", -1, 0.3),
        ("noise", "noise", 1, 5),
        ("blockiness", "jpeg", 1, 0.3),
        ("clipped_dark", "dark", 1, 0),
        ("clipped_bright", "bright", 1, 0),
        ("contrast", "contrast", -1, 0.2),
    ],
)
def test_a_measure_is_monotone_in_its_own_kind(name, kind, sign, least):
    for values in series(name, kind):
        assert all(sign * step >= 0 for step in np.diff(values)), values
        assert sign * (values[-1] - values[0]) > least, values


@pytest.mark.parametrize(
    ("name", "kind", "most"),
    [
        *(("sharpness", kind, 0.1) for kind in ("jpeg", "dark", "contrast")),
        *(("sharpness", kind, 0.2) for kind in ("noise", "bright")),
        *(("contrast", kind, 0.1) for kind in ("blur", "noise", "jpeg")),
        *(("blockiness", kind, 0.1) for kind in ("blur", "noise", "dark", "bright", "contrast")),
        *(("colour_cast", kind, 0.02) for kind in ("blur", "noise", "jpeg")),
    ],
)
def test_a_measure_is_nearly_flat_in_other_kinds(name, kind, most):
    for values in series(name, kind):
        assert max(values) - min(values) < most, values


def test_a_cast_is_the_distance_of_the_mean_from_grey():
    grey = np.full((64, 64, 3), 120, np.uint8)
    assert dpiqa.measure(Image.fromarray(grey)).colour_cast < 0.01
    casts = [
        dpiqa.measure(Image.fromarray(grey + np.array([n, 0, -n], np.int8).astype(np.uint8))).colour_cast
        for n in (10, 30, 60)
    ]
    assert casts == sorted(casts)
    assert casts[-1] > 0.3


def test_a_large_picture_is_measured_as_its_small_one_and_any_size_works():
    tiled = Image.fromarray(np.tile(np.asarray(PHOTOS[0]), (4, 4, 1)))
    small, large = dpiqa.measure(PHOTOS[0]), dpiqa.measure(tiled)
    assert (large.width, large.height) == (2048, 2048)
    assert large.sharpness == pytest.approx(small.sharpness, abs=0.1)
    for size in ((1, 1), (1, 4000), (4000, 3), (9, 9), (513, 20), (17, 17)):
        measures = dataclasses.asdict(dpiqa.measure(Image.new("L", size, 255)))
        assert (measures["width"], measures["height"], measures["clipped_bright"]) == (*size, 1.0)
        assert all(math.isnan(value) or value >= 0 for value in measures.values())
