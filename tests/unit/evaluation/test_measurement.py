"""Measuring on known scores: what is chosen, what is counted, what the reports say."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dpiqa.datasets.spec import LabelledImage
from dpiqa.errors import InvalidRequest
from dpiqa.evaluation import report
from dpiqa.evaluation.agreement import agreement
from dpiqa.evaluation.measurement import images_of_split, measure, measure_five
from dpiqa.evaluation.report_files import write_evaluation
from dpiqa.evaluation.scored_images import Failure, ScoredImages
from dpiqa.models.brightness import BRIGHTNESS
from dpiqa.types import Reason

RNG = np.random.default_rng(1)
IMAGES = [
    LabelledImage(
        path=Path(f"{number}.png"),
        mos=number / 40,
        split="test" if number % 4 == 0 else "train",
        subset="odd" if number % 2 else "even",
    )
    for number in range(40)
]
SCORES = {image.path: image.mos + noise for image, noise in zip(IMAGES, RNG.normal(0, 0.1, 40), strict=True)}
BROKEN = Path("8.png")


def score(images):
    """Give the known scores; one file is broken."""
    return ScoredImages(
        scorer_id="s",
        images=tuple(images),
        scores=np.array([np.nan if image.path == BROKEN else SCORES[image.path] for image in images]),
        failures={image.path: Failure(Reason.CORRUPT) for image in images if image.path == BROKEN},
    )


def on_test(**more):
    return measure(IMAGES, score, dataset="spaq", split="test", origin="published", draws=20, **more)


def test_one_split():
    measurement = on_test(note="zero-shot")
    assert measurement.evaluation.overall.n == 9
    assert list(measurement.evaluation.failures) == [BROKEN]
    scored_images = [image for image in IMAGES if image.split == "test" and image.path != BROKEN]
    expected = agreement(np.array([SCORES[i.path] for i in scored_images]), np.array([i.mos for i in scored_images]))
    assert measurement.headline("srcc") == expected.srcc
    assert measurement.evaluation.paths == tuple(str(image.path) for image in scored_images)


def test_all_is_every_split_and_a_wrong_one_names_those_there_are():
    assert images_of_split(IMAGES, "all", "x") == IMAGES
    with pytest.raises(InvalidRequest, match="test, train"):
        images_of_split(IMAGES, "val", "x")


def test_five_splits_report_the_median_and_score_each_image_once():
    requested = []

    def counting(images):
        requested.extend(images)
        return score(images)

    sides = [IMAGES[start : start + 12] for start in (0, 3, 6, 9, 12)]
    measurement = measure_five(sides, counting, dataset="spaq", draws=20)
    assert len(requested) == len(set(requested)) == 24
    each = [measure(side, score, dataset="x", split="all", origin="", draws=1).headline("srcc") for side in sides]
    assert [side.srcc for side in measurement.sides] == each
    assert measurement.headline("srcc") == sorted(each)[2]
    assert measurement.as_dict()["five_splits"]["median"]["srcc"] == round(sorted(each)[2], 4)
    assert len(measurement.evaluation.failures) == 1
    row = report.rows([measurement])[0]
    assert row[4] == f"{sorted(each)[2]:.3f} ({min(each):.3f} to {max(each):.3f})"


def test_subsets_count_their_failures():
    measurement = measure(IMAGES, score, dataset="spaq", split="all", origin="", draws=20).evaluation
    assert {name: (subset.n, subset.failed) for name, subset in measurement.subsets.items()} == {
        "even": (19, 1),
        "odd": (20, 0),
    }
    low, high = measurement.subsets["odd"].interval
    assert low <= measurement.subsets["odd"].figures.srcc <= high


def test_a_subset_too_small_for_a_correlation_is_still_counted():
    lonely = [*IMAGES[:4], LabelledImage(path=Path("9.png"), mos=0.2, split="test", subset="rare")]
    measurement = measure(lonely, score, dataset="spaq", split="all", origin="", draws=20)
    assert (measurement.evaluation.subsets["rare"].n, measurement.evaluation.subsets["rare"].figures) == (1, None)
    assert "| spaq | rare | 1 | 0 | - |" in report.markdown(BRIGHTNESS, [measurement])


def test_nothing_scored_says_why():
    with pytest.raises(InvalidRequest, match=r"0 of 1 images could be scored; 8.png: corrupt"):
        measure([IMAGES[8]], score, dataset="spaq", split="all", origin="", draws=5)


def test_constant_scores_are_reported_without_figures():
    def constant(images):
        return ScoredImages("s", tuple(images), np.full(len(images), 0.5), {})

    measurement = measure(IMAGES, constant, dataset="spaq", split="all", origin="", draws=5)
    document = json.loads(json.dumps(measurement.as_dict(), allow_nan=False))
    assert (document["srcc"], document["slope"], document["intervals_95"]["srcc"]) == (None, None, None)
    assert document["rmse"] > 0
    assert report.rows([measurement])[0][4] == "-"


def test_the_folder_of_a_report(tmp_path):
    measurement = on_test(note="zero-shot")
    paths = write_evaluation(
        tmp_path / "new", BRIGHTNESS, [measurement, measurement], report.as_dict(BRIGHTNESS, [measurement, measurement])
    )
    names = {path.name for path in paths}
    assert names == {"evaluation.md", "evaluation.json", "scores.csv"} | {
        f"spaq-{number}-{plot}.png" for number in (1, 2) for plot in ("predicted", "errors")
    }
    assert {path.name for path in (tmp_path / "new").iterdir()} == names
    page = (tmp_path / "new/evaluation.md").read_text()
    assert "| spaq | test (published) | 9 | 1 |" in page
    assert "zero-shot" in page
    assert "| spaq | DP-IQA teacher | spaq | 0.923 | 0.926 |" in page
    document = json.loads((tmp_path / "new/evaluation.json").read_text())
    assert document["results"][0]["failures"] == 1
    assert document["results"][0]["failure_reasons"] == {"corrupt": 1}
    with (tmp_path / "new/scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 20
    assert [row["failure"] for row in rows if row["image"] == "8.png"] == ["corrupt"] * 2
    assert float(rows[0]["score"]) == SCORES[Path("0.png")]
    for path in paths:
        if path.suffix == ".png":
            with Image.open(path) as plot:
                assert min(plot.size) > 400


def test_a_set_without_published_figures_says_so():
    measurement = measure(IMAGES, score, dataset="kadid10k", split="test", origin="", draws=5)
    assert "no published figures" in report.markdown(BRIGHTNESS, [measurement])


def test_a_place_that_cannot_be_written_is_one_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidRequest, match="cannot make"):
        write_evaluation(tmp_path / "file", BRIGHTNESS, [on_test()], {})
