"""Scorers of other packages: the example is installed and scores; broken ones cost one line; pyiqa's metrics."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import dpiqa
from dpiqa.errors import ConfigurationError, NotFound
from dpiqa.models.cards import find_card, list_cards
from dpiqa.models.loading import load_scorer
from dpiqa.scorer_id import ScorerId

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """A folder of installed packages, as `pip install --target` would fill it."""
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in [name for name in sys.modules if name.partition(".")[0] in ("dpiqa_sharpness", "pyiqa", "odd")]:
        del sys.modules[name]


def install(packages, name, entry, source=None, version="1.2.3"):
    """Write a package with an entry point; `source`: of its module `odd`."""
    info = packages / f"{name}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(f"[dpiqa.scorers]\n{entry}\n")
    if source is not None:
        (packages / "odd.py").write_text(source)


def test_the_example_is_installed_and_scores(tmp_path):
    """By pip, in a process of its own, with the command line that a user would give."""
    shutil.copytree(ROOT / "examples" / "plugin", tmp_path / "source")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", tmp_path / "packages"]
    done = subprocess.run([*pip, tmp_path / "source"], capture_output=True, text=True, check=False, timeout=120)
    if "No matching distribution found for setuptools" in done.stderr:
        pytest.skip("setuptools, which builds the example, cannot be had here")
    assert done.returncode == 0, done.stderr
    code = (
        "import dpiqa, numpy\n"
        "noise = numpy.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=numpy.uint8)\n"
        "with dpiqa.load('sharpness:laplacian', decode_processes=1) as scorer:\n"
        "    flat, sharp = scorer.score([numpy.full_like(noise, 90), noise])\n"
        "assert flat.score == 0 < 0.9 < sharp.score, (flat, sharp)\n"
        "print(sharp.scorer_id)\n"
    )
    path = {"PYTHONPATH": str(tmp_path / "packages"), "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=path, timeout=120
    )
    assert done.returncode == 0, done.stderr
    scorer = ScorerId.parse(done.stdout.strip())
    assert (scorer.model, scorer.weights.partition("@")[2]) == ("sharpness.laplacian", "1.0.0")
    assert len(scorer.weights.partition("@")[0]) == 12
    assert "plugin_licence" in done.stderr
    assert "Apache-2.0" in done.stderr


BROKEN = {
    "import": ("odd:Scorers", "raise RuntimeError('no GPU driver')", "no GPU driver"),
    "exit": ("odd:Scorers", "raise SystemExit('bye')", "bye"),
    "missing": ("not_there:Scorers", "", "No module named 'not_there'"),
    "attribute": ("odd:Scorers", "x = 1", "has no attribute 'Scorers'"),
    "cards": ("odd:Scorers", "class Scorers:\n def cards(self): raise OSError('disk')", "disk"),
    "protocol": ("odd:Scorers", "class Scorers: pass", "no attribute 'cards'"),
    "name": (
        "odd:Scorers",
        "from dpiqa.models.brightness import BRIGHTNESS\nclass Scorers:\n def cards(self): return [BRIGHTNESS]",
        "the model 'brightness' must be called odd.MODEL",
    ),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_plug_in_costs_one_line_and_no_other_model(packages, fault, capsys):
    target, source, message = BROKEN[fault]
    install(packages, "odd-scorers", f"odd = {target}", source)
    names = [card.name for card in list_cards()]
    assert "bundled-student" in names
    assert not any(name.startswith("odd.") for name in names)
    assert load_scorer("brightness").score(np.zeros((1, 64, 64, 3), np.uint8)) == [0]
    with pytest.raises(ConfigurationError, match=r"the plug-in odd \(odd-scorers 1\.2\.3\) is broken") as raised:
        find_card("odd:anything")
    assert message in raised.value.message
    assert "\n" not in str(raised.value)


ONE_MODEL = """
import numpy as np
from dpiqa.imaging.preprocessing import Preprocessing
from dpiqa.models.base import ModelCard
CARD = ModelCard(name="odd.one", kind="plugin", sha256="ab" * 32, preprocessing=Preprocessing(width=8, height=8),
                 licence="none", lower_is_better=True)
class Scorers:
    def cards(self): return [CARD]
    def load(self, card, *, device, threads):
        if device == "cpu": raise ValueError("no such device")
        return self
    def score(self, pixels): return np.zeros((len(pixels), 2)) if pixels.max() else np.zeros(len(pixels), np.float32)
"""


def test_answers_are_checked(packages):
    install(packages, "odd-scorers", "odd = odd:Scorers", ONE_MODEL)
    scorer = load_scorer("odd:one")
    assert scorer.card.scorer_id == "odd.one:abababababab@1.2.3:squash-bilinear-8x8-v2:float32"
    scores = scorer.score(np.zeros((3, 8, 8, 3), np.uint8))
    assert (scores.shape, scores.dtype) == ((3,), np.float64)
    with pytest.raises(ConfigurationError, match=r"answers 2 images with an array of shape \(2, 2\)"):
        scorer.score(np.ones((2, 8, 8, 3), np.uint8))
    with pytest.raises(ValueError, match="expected"):
        scorer.score(np.zeros((3, 9, 8, 3), np.uint8))
    with pytest.raises(ConfigurationError, match="is broken: ValueError: no such device"):
        load_scorer("odd:one", device="cpu")
    with pytest.raises(NotFound, match=r"has no model 'odd\.two'") as raised:
        find_card("odd:two")
    assert "odd.one" in raised.value.hint


#: The interface of pyiqa 0.1.16 that the adapter uses: the file of its metrics, and `create_metric`.
PYIQA = """
import torch
def create_metric(name, device=None):
    if name == "topiq_nr":
        raise OSError("no route to host")
    def metric(image):
        assert image.shape[:2] == (1, 3) and image.dtype == torch.float32 and 0 <= image.min() and image.max() <= 1
        return image.mean() * 100
    return metric
"""
CONFIGS = """
DEFAULT_CONFIGS = {
    "niqe": {"metric_opts": {"type": "NIQE"}, "metric_mode": "NR", "lower_better": True, "score_range": "~0, ~100"},
    "topiq_nr": {"metric_opts": {"type": "CFANet"}, "metric_mode": "NR", "score_range": "~0, ~1"},
    "lpips": {"metric_opts": {"type": "LPIPS"}, "metric_mode": "FR"},
}
"""


def test_no_reference_metrics_of_pyiqa_are_models(packages, capsys):
    (packages / "pyiqa").mkdir()
    (packages / "pyiqa" / "__init__.py").write_text(PYIQA)
    (packages / "pyiqa" / "default_model_configs.py").write_text(CONFIGS)
    cards = {card.name: card for card in dpiqa.list_models() if card.name.startswith("pyiqa.")}
    assert sorted(cards) == ["pyiqa.niqe", "pyiqa.topiq_nr"]
    assert (cards["pyiqa.niqe"].lower_is_better, cards["pyiqa.topiq_nr"].lower_is_better) == (True, False)
    assert "pyiqa" not in sys.modules  # the list is read without importing it
    assert "Noncommercial" in cards["pyiqa.niqe"].licence
    scorer = load_scorer("pyiqa:niqe", device="cpu")
    pixels = np.stack([np.full((512, 512, 3), grey, np.uint8) for grey in (0, 51, 255)])
    assert scorer.score(pixels) == pytest.approx([0, 20, 100])
    with pytest.raises(ConfigurationError, match=r"pyiqa\.topiq_nr cannot be loaded: no route to host") as raised:
        load_scorer("pyiqa:topiq_nr", device="cpu")
    assert "TORCH_HOME" in raised.value.hint


def test_without_pyiqa_its_metrics_are_not_there():
    assert not [card for card in list_cards() if card.name.startswith("pyiqa.")]
    with pytest.raises(NotFound, match=r"the plug-in pyiqa has no model 'pyiqa\.niqe'"):
        find_card("pyiqa:niqe")
