"""The published label files themselves, where somebody has them: counts, scales, splits. No images are needed.

`DPIQA_LABELS_DIR` names a folder with them, laid out as in `FILES`; without it these tests are skipped.
"""

import os
import tarfile
from pathlib import Path

import pytest

from dpiqa.datasets import DATASETS, load_dataset
from dpiqa.datasets.load import summary

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


#: LIQE's folder of splits.
LIQE = {
    "koniq10k": "koniq-10k",
    "live": "databaserelease2",
    "csiq": "CSIQ",
    "kadid10k": "kadid10k",
    "clive": "ChallengeDB_release",
}


def needed(path):
    """Return a path below the folder of label files, or skip."""
    if not (LABELS / path).is_file():
        pytest.skip("DPIQA_LABELS_DIR names no folder with this label file")
    return (LABELS / path).resolve()


def placed(name, folder):
    """Put a real label file where its reader looks for it."""
    source, target = FILES[name]
    (folder / target).symlink_to(needed(source))
    return folder


@pytest.mark.parametrize("name", sorted(LIQE))
def test_liqes_ten_splits(name, tmp_path):
    placed(name, tmp_path)
    with tarfile.open(needed("liqe_splits.tar.gz")) as archive:
        inside = [member for member in archive.getmembers() if member.name.startswith(f"liqe_splits/{LIQE[name]}/")]
        archive.extractall(tmp_path, inside, filter="data")
    drawn = set()
    for number in range(1, 11):
        folder = tmp_path / "liqe_splits" / LIQE[name] / str(number)
        dataset = load_dataset(name, tmp_path, split=folder, without_images=True)
        figures = summary(dataset)
        assert figures["groups_on_two_sides"] == 0
        assert figures["splits"]["test"] / figures["images"] == pytest.approx(0.2, abs=0.02)
        drawn.add(tuple(image.split for image in dataset.images))
    assert len(drawn) == 10


@pytest.mark.parametrize("name", sorted(FILES))
def test_numbers_scales_and_splits(name, tmp_path):
    dataset = load_dataset(name, placed(name, tmp_path), without_images=True)
    images, groups, lowest, highest = KNOWN[dataset.spec.name]
    figures = summary(dataset)
    assert (figures["images"], figures["groups"], figures["groups_on_two_sides"]) == (images, groups, 0)
    assert (figures["mos"]["lowest"], figures["mos"]["highest"]) == pytest.approx((lowest, highest), abs=1e-4)
    if dataset.spec.name == "koniq10k":
        assert figures["splits"] == {"train": 7058, "val": 1000, "test": 2015}
    else:
        assert figures["splits"]["test"] / images == pytest.approx(0.2, abs=0.02)
    assert images == DATASETS[dataset.spec.name].size - (dataset.spec.name == "clive")
