"""The published label files themselves, where somebody has them: counts, scales, splits. No images are needed.

`DPIQA_LABELS_DIR` names a folder with them, laid out as in `FILES`; without it these tests are skipped.
"""

import os
from pathlib import Path

import pytest

from dpiqa.datasets import DATASETS, load_dataset
from dpiqa.datasets.summary import summary

FILES = {
    "koniq10k": ("koniq10k_distributions_sets.csv", "koniq10k_distributions_sets.csv"),
    "agiqa3k": ("agiqa3k_data.csv", "data.csv"),
    "live": ("icbcbicc/LIVE.txt", "LIVE.txt"),
    "csiq": ("icbcbicc/CSIQ.txt", "CSIQ.txt"),
    "tid2013": ("icbcbicc/TID2013.txt", "TID2013.txt"),
    "kadid10k": ("icbcbicc/KADID-10k.txt", "KADID-10k.txt"),
    "clive": ("icbcbicc/LIVE_Challenge.txt", "LIVE_Challenge.txt"),
    "spaq": ("icbcbicc/SPAQ.txt", "SPAQ.txt"),
}
#: What is known of the files: images, groups, lowest and highest MOS.
KNOWN = {
    "koniq10k": (10_073, 0, 0.0391, 0.8839),
    "agiqa3k": (2_982, 0, 0.0, 0.8977),
    "live": (779, 29, 0.0020, 0.9969),
    "csiq": (866, 30, 0.0, 1.0),
    "tid2013": (3_000, 25, 0.0269, 0.8016),
    "kadid10k": (10_125, 81, 0.0, 0.9825),
    "clive": (1_161, 0, 0.0342, 0.9243),  # this list lacks 100.bmp
    "spaq": (11_125, 0, 0.02, 0.96),
}
LABELS = Path(os.environ.get("DPIQA_LABELS_DIR") or "no folder is named")


@pytest.fixture(params=sorted(FILES))
def found(request, tmp_path):
    """A data set read from its real label file alone."""
    source, name = FILES[request.param]
    if not (LABELS / source).is_file():
        pytest.skip("DPIQA_LABELS_DIR names no folder with this label file")
    (tmp_path / name).symlink_to((LABELS / source).resolve())
    return load_dataset(request.param, tmp_path, without_images=True)


def test_numbers_scales_and_splits(found):
    images, groups, lowest, highest = KNOWN[found.spec.name]
    figures = summary(found)
    assert (figures["images"], figures["groups"], figures["groups_on_two_sides"]) == (images, groups, 0)
    assert (figures["mos"]["lowest"], figures["mos"]["highest"]) == pytest.approx((lowest, highest), abs=1e-4)
    if found.spec.name == "koniq10k":
        assert figures["splits"] == {"train": 7058, "val": 1000, "test": 2015}
    else:
        assert figures["splits"]["test"] / images == pytest.approx(0.2, abs=0.02)
    assert images == DATASETS[found.spec.name].size - (found.spec.name == "clive")
