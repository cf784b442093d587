import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image

from dpiqa.errors import InvalidRequest
from dpiqa.evaluation.evaluate import evaluate
from dpiqa.imaging.distortions import distort
from dpiqa.imaging.preprocessing import Preprocessing
from dpiqa.models.loading import load_scorer
from dpiqa.training import loop
from dpiqa.training.dataset import Crops, random_crops, read_labels
from dpiqa.training.distillation import collect_answers
from dpiqa.training.export import export_model
from dpiqa.training.heads import begin_as_pooling, calibrate, fold, normalise
from dpiqa.training.labelled import load_labelled
from dpiqa.training.loop import Plan, learning_rate
from dpiqa.training.losses import ranking_loss
from dpiqa.training.student import train_student
from dpiqa.training.teacher import train_teacher
from dpiqa.training.vae import VaeTraining, train_vae

from .conftest import TINY_STUDENT, TINY_TEACHER

SIZE = Preprocessing(width=128, height=128)
STUDENT = TINY_STUDENT.model_copy(update={"input_size": 128})
TEACHER = TINY_TEACHER.model_copy(update={"input_size": 128})


@pytest.fixture(scope="module")
def labels(tmp_path_factory):
    """Twenty-four pictures whose label falls with their blur."""
    folder = tmp_path_factory.mktemp("set")
    rng = np.random.default_rng(0)
    with (folder / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "mos", "split", "near_duplicate_group", "subset"])
        for number in range(24):
            strength = number % 6
            sharp = Image.fromarray(rng.integers(0, 256, (128, 128, 3), dtype=np.uint8))
            picture = distort(sharp, "gaussian_blur", strength) if strength else sharp
            picture.save(folder / f"{number}.png")
            writer.writerow([f"{number}.png", 0.9 - 0.15 * strength, "val" if number >= 16 else "train", "", "made"])
    return folder / "labels.csv"


@pytest.fixture(scope="module")
def data(labels, tmp_path_factory):
    return load_labelled(labels, SIZE, tmp_path_factory.mktemp("cache"))


def losses(out):
    return [json.loads(line)["loss"] for line in (out / "log.jsonl").read_text().splitlines()]


def test_the_whole_chain_learns_and_ends_as_a_scorer(data, labels, tmp_path):
    vae = train_vae(data.pixels, TEACHER.vae, VaeTraining(minutes=0.01, crop=32, batch=4), tmp_path / "vae")
    plan = Plan(epochs=4, batch=8, rate=3e-3, crop=64, ema=0.9, validate_every=4)
    teacher = train_teacher(data, TEACHER, vae, plan, tmp_path / "teacher")
    answers = collect_answers(teacher, data.pixels, data.train)
    assert answers.maps.shape == (24, 8, 8, 4)
    student = train_student(data, STUDENT, plan, tmp_path / "student", teacher=answers)
    for name in ("teacher", "student"):
        course = losses(tmp_path / name)
        assert len(course) == 4
        assert course[-1] < course[0]
    export_model(student, STUDENT, "made", tmp_path / "models")
    scorer = load_scorer("made", models_dir=tmp_path / "models", device="cpu")
    figures = evaluate(scorer, read_labels(labels)).as_dict()
    assert figures["n"] == 24
    assert figures["failures"] == 0
    assert figures["subsets"]["made"]["n"] == 24


def test_a_killed_run_goes_on_to_the_same_weights(data, tmp_path):
    plan = Plan(epochs=3, batch=8, crop=64, validate_every=1, seed=5)
    train_student(data, STUDENT, plan, tmp_path / "whole")

    class KilledError(Exception):
        pass

    def die(*_args, **_kwargs):
        raise KilledError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dpiqa.training.loop._epoch", _dying_at(2, die))
        with pytest.raises(KilledError):
            train_student(data, STUDENT, plan, tmp_path / "cut")
    train_student(data, STUDENT, plan, tmp_path / "cut")
    whole, cut = (torch.load(tmp_path / run / "last.pt", weights_only=True) for run in ("whole", "cut"))
    for name, value in whole["model"].items():
        torch.testing.assert_close(cut["model"][name], value)


def _dying_at(last, die):
    original = loop._epoch
    return lambda run, rows, loss_of, epoch: die() if epoch == last else original(run, rows, loss_of, epoch)


def test_pairs_in_the_right_order_beyond_the_margin_cost_nothing():
    labels = torch.tensor([0.0, 1.0, 2.0])
    assert ranking_loss(labels, labels) == 0
    margin = 0.25 * float(labels.std())
    assert ranking_loss(torch.zeros(3), labels) == pytest.approx(margin)
    assert ranking_loss(-labels, labels) == pytest.approx((1 + 2 + 1) / 3 + margin)


def test_maps_are_cut_where_their_pixels_are():
    pixels = np.arange(64 * 64, dtype=np.float32).reshape(1, 64, 64, 1)
    cells = pixels[:, ::16, ::16]  # one value per cell: that of its corner
    crops = Crops(index=np.array([0]), top=np.array([16]), left=np.array([32]), flip=np.array([False]), size=32)
    np.testing.assert_array_equal(crops.cut(cells, 16), crops.cut(pixels)[:, ::16, ::16])
    mirrored = Crops(index=crops.index, top=crops.top, left=crops.left, flip=np.array([True]), size=32)
    np.testing.assert_array_equal(mirrored.cut(pixels), crops.cut(pixels)[:, :, ::-1])


def test_crops_lie_inside_and_on_the_grid():
    crops = random_crops(np.arange(100), 512, 256, 64, np.random.default_rng(0))
    assert set(crops.top) <= {0, 64, 128, 192, 256}
    assert crops.top.max() == 256


def test_a_regressor_begins_as_an_average_over_the_picture():
    first, last = torch.nn.Linear(3 * 16, 5), torch.nn.Linear(5, 1)
    begin_as_pooling(first, last, 16, 0.4)
    features = torch.rand(2, 3, 4, 4)
    shuffled = features.flatten(2)[..., torch.randperm(16)].view_as(features)
    torch.testing.assert_close(first(features.flatten(1)), first(shuffled.flatten(1)))
    assert float(last.bias) == pytest.approx(0.4)


def test_calibration_makes_slope_one_and_offset_nought():
    last = torch.nn.Linear(4, 1)
    inputs = torch.rand(50, 4)
    with torch.no_grad():
        labels = (3 * last(inputs) - 1).squeeze(1).numpy()
        calibrate(last, last(inputs).squeeze(1).numpy(), labels)
        slope, offset = np.polyfit(last(inputs).squeeze(1).numpy(), labels, 1)
    assert (slope, offset) == (pytest.approx(1, abs=1e-3), pytest.approx(0, abs=1e-3))


def test_the_rate_warms_up_and_falls():
    rates = [learning_rate(step, 100, 1.0) for step in range(100)]
    assert max(rates) == rates[4] == 1
    assert rates[0] == pytest.approx(0.2)
    assert rates[-1] < 0.02


@pytest.mark.parametrize(
    ("row", "complaint"),
    [("a.png,0.5,train\n", "no column near_duplicate_group"), ("a.png,5,train,\n", "outside 0-1")],
)
def test_a_labels_file_that_is_wrong_says_where(tmp_path, row, complaint):
    columns = "image,mos,split" + ("" if row.count(",") == 2 else ",near_duplicate_group")
    (tmp_path / "labels.csv").write_text(f"{columns}\n{row}")
    with pytest.raises(InvalidRequest, match=complaint):
        read_labels(tmp_path / "labels.csv")


def test_near_duplicates_may_not_be_on_both_sides(tmp_path):
    (tmp_path / "labels.csv").write_text("image,mos,split,near_duplicate_group\na.png,0.5,train,g1\nb.png,0.5,val,g1\n")
    with pytest.raises(InvalidRequest, match="g1 is in two splits"):
        read_labels(tmp_path / "labels.csv")


def test_the_decoders_normalisation_folds_away(tiny_teacher):
    decoder = tiny_teacher.QFD
    names = set(decoder.state_dict())
    maps = [torch.rand(4, channels, 16, 16) for channels in (8, 8, 16, 16)]
    normalise(decoder)
    decoder.train()
    for _ in range(20):
        decoder(maps, 8)
    with torch.no_grad():
        before, quality_before = decoder.eval()(maps, 8)
        fold(decoder)
        after, quality_after = decoder(maps, 8)
    torch.testing.assert_close(after, before, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(quality_after, quality_before, atol=1e-5, rtol=1e-4)
    assert set(decoder.state_dict()) == names
