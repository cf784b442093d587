"""Scorers of other packages: the example is installed and scores; broken ones cost one line; pyiqa's metrics."""

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support.photos import png
from typer.testing import CliRunner

import dpiqa
from dpiqa.cli.main import app
from dpiqa.errors import ConfigurationError, NotFound
from dpiqa.models.cards import find_card, list_cards
from dpiqa.models.catalogue.pulled import accept_terms
from dpiqa.models.choice import ModelChoice
from dpiqa.models.loading import load_scorer
from dpiqa.objects.store import LocalFiles
from dpiqa.pipeline.local_run import Observer, score_by_each
from dpiqa.pipeline.scorers import check_profile, load_for_settings
from dpiqa.profiles import Profile
from dpiqa.scorer_id import ScorerId
from dpiqa.settings import load_settings
from dpiqa.types import ImageRef

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
    print("Downloading")
    def metric(image):
        open(torch.hub.get_dir() + "/pyiqa/niqe.mat", "rb").close()
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


@pytest.fixture
def pyiqa(packages, tmp_path, monkeypatch):
    """A stand-in for the package and for its folder of weights."""
    (packages / "pyiqa").mkdir()
    (packages / "pyiqa" / "__init__.py").write_text(PYIQA)
    (packages / "pyiqa" / "default_model_configs.py").write_text(CONFIGS)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    weights = tmp_path / "torch" / "hub" / "pyiqa" / "niqe.mat"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"means and covariances")


def test_no_reference_metrics_of_pyiqa_are_models(pyiqa, capsys):
    cards = {card.name: card for card in dpiqa.list_models() if card.name.startswith("pyiqa.")}
    assert sorted(cards) == ["pyiqa.niqe", "pyiqa.topiq_nr"]
    assert (cards["pyiqa.niqe"].lower_is_better, cards["pyiqa.topiq_nr"].lower_is_better) == (True, False)
    assert "pyiqa" not in sys.modules  # the list is read without importing it
    assert "Noncommercial" in cards["pyiqa.niqe"].licence
    scorer = load_scorer("pyiqa:niqe", device="cpu")
    pixels = np.stack([np.full((512, 512, 3), grey, np.uint8) for grey in (0, 51, 255)])
    assert scorer.score(pixels) == pytest.approx([0, 20, 100])
    assert scorer.card.weights_files == {"niqe.mat": hashlib.sha256(b"means and covariances").hexdigest()}
    assert scorer.card.scorer_id == cards["pyiqa.niqe"].scorer_id
    with pytest.raises(ConfigurationError, match=r"pyiqa\.topiq_nr cannot be loaded: no route to host") as raised:
        load_scorer("pyiqa:topiq_nr", device="cpu")
    assert "TORCH_HOME" in raised.value.hint


@pytest.fixture
def models_dir(tmp_path, monkeypatch):
    """An empty folder of models, as the settings name it."""
    (tmp_path / "models").mkdir()
    monkeypatch.setenv("DPIQA_MODELS_DIR", str(tmp_path / "models"))
    return tmp_path / "models"


def test_the_licence_of_pyiqa_is_accepted_before_a_metric_is_loaded(pyiqa, models_dir):
    settings = load_settings(device="cpu")
    choice = ModelChoice(model="pyiqa:niqe")
    with pytest.raises(ConfigurationError, match=r"under the licence PolyForm-Noncommercial-1\.0\.0") as raised:
        load_for_settings(choice, settings)
    assert "dpiqa models pull pyiqa.niqe" in raised.value.hint
    assert "pyiqa" not in sys.modules
    of_worker = settings.model_copy(update={"accepted_licences": "Other-1 PolyForm-Noncommercial-1.0.0"})
    assert load_for_settings(choice, of_worker).card.name == "pyiqa.niqe"
    accept_terms("PolyForm-Noncommercial-1.0.0", models_dir)
    assert load_for_settings(choice, settings).card.name == "pyiqa.niqe"


def test_pull_shows_the_licence_of_a_plug_in_and_has_it_accepted_once(pyiqa, models_dir, tmp_path):
    def run(*words):
        return CliRunner().invoke(app, [*words])

    picture = tmp_path / "grey.png"
    picture.write_bytes(png(0.2))
    scored = run("score", str(picture), "-m", "pyiqa:niqe", "--json")
    assert (scored.exit_code, "was not accepted" in scored.stderr) == (78, True)
    refused = run("models", "pull", "pyiqa:niqe")
    assert (refused.exit_code, "PolyForm-Noncommercial-1.0.0" in refused.stderr) == (78, True)
    assert run("models", "pull", "pyiqa:niqe", "--as", "mine").exit_code == 2
    pulled = run("models", "pull", "pyiqa:niqe", "--accept-license", "--json")
    assert pulled.exit_code == 0, pulled.output
    assert list(json.loads(pulled.stdout)["weights_files"]) == ["niqe.mat"]
    assert run("models", "pull", "pyiqa:niqe").exit_code == 0
    scored = run("score", str(picture), "-m", "pyiqa:niqe", "--json")
    assert json.loads(scored.stdout)[0]["score"] == pytest.approx(20)


def test_the_scores_of_a_profiles_models_run_the_same_way(packages):
    install(packages, "odd-scorers", "odd = odd:Scorers", ONE_MODEL)
    settings = load_settings()
    check_profile(Profile(name="lower", version=1, student="odd:one", teacher="odd:one"), settings)
    for student, teacher in (("odd:one", "brightness"), ("brightness", "odd.one")):
        mixed = Profile(name="mixed", version=1, student=student, teacher=teacher)
        with pytest.raises(ConfigurationError, match=r"the scores of profile mixed@1 cannot be compared .*lower is"):
            check_profile(mixed, settings)


def test_a_teacher_is_loaded_when_it_is_asked_and_the_run_goes_on(packages, tmp_path):
    install(packages, "odd-scorers", "odd = odd:Scorers", ONE_MODEL.replace("lower_is_better=True", ""))
    said = []
    observer = Observer(loading=lambda choice: said.append(choice.model), loaded=lambda: said.append("loaded"))
    cutoffs = [{"at": 0.5, "margin": 0.5}]
    profile = Profile(
        name="x", version=1, student="brightness", teacher="odd:one", cutoffs=cutoffs, max_escalated_share=1
    )
    (tmp_path / "black.png").write_bytes(png(0))
    ref = ImageRef(bucket="", key=str(tmp_path / "black.png"), etag="")
    settings = load_settings(decode_processes=1)
    ((row,),) = score_by_each(LocalFiles(), [ref], [profile], settings=settings, observer=observer)
    assert (row.model, row.score) == ("odd.one", 0)
    assert said == ["brightness", "loaded", "odd.one", "loaded"]


def test_without_pyiqa_its_metrics_are_not_there():
    assert not [card for card in list_cards() if card.name.startswith("pyiqa.")]
    with pytest.raises(NotFound, match=r"the plug-in pyiqa has no model 'pyiqa\.niqe'"):
        find_card("pyiqa:niqe")
