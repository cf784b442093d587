"""Denoising pre-training: what is learned, what is kept, and what a teacher makes of it."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from support.training import DIFFUSION, TEACHER, make_set

from dpiqa.errors import CheckpointError, InvalidRequest
from dpiqa.models.cards import sha256_of
from dpiqa.models.scoring_network import shrunk
from dpiqa.models.teacher import TIMESTEP, build_teacher
from dpiqa.models.vae import VaeConfig, build_encoder, encode
from dpiqa.training.config.file import resolve
from dpiqa.training.config.kinds import DiffusionRun, TeacherRun
from dpiqa.training.data import features
from dpiqa.training.data.crops import as_images
from dpiqa.training.data.features import cached_latents
from dpiqa.training.data.labelled import Labelled
from dpiqa.training.loop.log import SilentObserver, read_log
from dpiqa.training.runs.context import RunContext
from dpiqa.training.runs.diffusion import (
    NEAR,
    VALIDATED_AT,
    DiffusionTask,
    draw_timesteps,
    noise_schedule,
    train_diffusion,
)
from dpiqa.training.runs.teacher import new_teacher, train_teacher
from dpiqa.training.weights import UNET_NAME

pytestmark = pytest.mark.heavy

SIZES = VaeConfig(channels=(4, 8), layers_per_block=1, norm_groups=2, middle_attention=False, scaling_factor=1.5)


def make_vae(file, seed=0):
    """Write an autoencoder as `dpiqa train vae` does; nothing here needs a trained one."""
    torch.manual_seed(seed)
    vae = build_encoder(SIZES)
    save_file(vae.state_dict(), file, metadata={"scaling_factor": "1.5"})
    return vae


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("diffusion")
    (folder / "diffusion.toml").write_text(DIFFUSION)
    (folder / "teacher.toml").write_text(TEACHER)
    make_set(folder / "set")
    make_vae(folder / "vae.safetensors")
    make_vae(folder / "other.safetensors", seed=1)
    return folder


def settings(folder, name):
    data = f'data.sets=[{{name = "csv", path = "{folder / "set" / "labels.csv"}"}}]'
    return [data, f"data.cache={folder / 'cache'}", f"model.vae={folder / 'vae.safetensors'}", f"output.folder={name}"]


def denoise(folder, out, observer=None, *changes):
    overrides = [*settings(folder, out), "output.checkpoint_every_steps=3", "output.log_every_steps=2", *changes]
    run = resolve(DiffusionRun, file=folder / "diffusion.toml", overrides=overrides)
    return train_diffusion(run, RunContext(models_dir=folder / "models", device="cpu", observer=observer))


@pytest.fixture(scope="module")
def unet(folder):
    return denoise(folder, folder / "whole")


@pytest.fixture
def teacher_run(folder):
    return lambda *changes: resolve(TeacherRun, file=folder / "teacher.toml", overrides=changes)


def test_the_error_falls_and_is_named_by_timestep(folder, unet):
    validations = [line for line in read_log(folder / "whole") if "val_error" in line]
    assert [line["step"] for line in validations] == [2, 4, 6, 8, 10, 12]
    assert validations[-1]["val_error"] < validations[0]["val_error"]
    for line in validations:
        assert line["val_error"] == pytest.approx(np.mean([line[f"val_error_{t}"] for t in VALIDATED_AT]), rel=1e-4)
    course = [line["loss"] for line in read_log(folder / "whole") if "loss" in line]
    assert course[-1] < course[0]


def test_a_run_that_broke_off_ends_with_the_same_bytes(folder, unet):
    class BreaksAt(SilentObserver):
        def __init__(self, step):
            self._step = step

        def stepped(self, *, step, loss):
            if step == self._step:
                raise KeyboardInterrupt

    for step in (2, 8):
        with pytest.raises(KeyboardInterrupt):
            denoise(folder, folder / "cut", BreaksAt(step))
    assert denoise(folder, folder / "cut").read_bytes() == unet.read_bytes()


def test_the_record_beside_the_file_says_how_it_was_made(folder, unet):
    record = json.loads(unet.with_suffix(".json").read_text())
    assert (unet.name, record["sha256"]) == (UNET_NAME, sha256_of(unet))
    assert record["command"].startswith("dpiqa train diffusion ")
    assert "--dataset csv --data labels.csv --out whole --set " in record["command"]
    assert record["made_from"]["vae"]["sha256"] == sha256_of(folder / "vae.safetensors")
    assert str(folder) not in json.dumps(record)


def test_latents_are_what_a_teacher_sees_and_are_made_once(tmp_path, monkeypatch):
    vae = make_vae(tmp_path / "vae.safetensors")
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    latents = cached_latents(pixels, tmp_path, tmp_path / "vae.safetensors", SIZES, 2, "cpu")
    assert (latents.shape, latents.dtype) == ((3, 2, 4, 8, 8), np.float16)
    with torch.no_grad():
        for side, images in enumerate((as_images(pixels), as_images(pixels[:, :, ::-1].copy()))):
            seen = encode(vae, shrunk(images, 2)).numpy()
            np.testing.assert_allclose(latents[:, side], seen, atol=2e-3)
    # The latents of a mirrored picture are not the mirrored latents.
    assert not np.array_equal(latents[:, 0], latents[:, 1, :, :, ::-1])

    def never(*_given):
        raise AssertionError

    monkeypatch.setattr(features, "encode", never)
    again = cached_latents(pixels, tmp_path, tmp_path / "vae.safetensors", SIZES, 2, "cpu")
    np.testing.assert_array_equal(again, latents)
    make_vae(tmp_path / "other.safetensors", seed=1)
    with pytest.raises(AssertionError):
        cached_latents(pixels, tmp_path, tmp_path / "other.safetensors", SIZES, 2, "cpu")


def test_the_schedule_is_stable_diffusions():
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    kept = np.cumprod(1 - betas)
    np.testing.assert_allclose(noise_schedule().alphas_cumprod.numpy(), kept, rtol=1e-3)
    assert (1 - kept[NEAR - 1]) ** 0.5 < 1 / 3
    assert VALIDATED_AT[0] == TIMESTEP


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_a_share_of_the_timesteps_is_near(share):
    drawn = draw_timesteps(20_000, share, np.random.default_rng(0))
    assert drawn.min() == 0
    assert drawn.max() == (NEAR - 1 if share == 1 else 999)
    assert np.mean(drawn < NEAR) == pytest.approx(share + (1 - share) * NEAR / 1000, abs=0.01)


class Guess(torch.nn.Module):
    """Predicts no noise for every input, and records the inputs."""

    def __init__(self, config):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.zeros(()))
        self.config = config
        self.seen = []

    def forward(self, noisy, timesteps):
        self.seen.append((noisy.clone(), timesteps.clone()))
        return noisy * self.scale


def task_of(latent, tmp_path, *changes):
    count = len(latent)
    run = resolve(DiffusionRun, preset="bundled-diffusion", overrides=changes)
    data = Labelled(
        pixels=np.zeros((count, 64, 64, 3), dtype=np.uint8),
        labels=np.linspace(0, 1, count),
        train=np.arange(count),
        val=np.arange(count),
        sha256=("",) * count,
        images=(),
        folder=tmp_path,
    )
    return DiffusionTask(Guess(run.model.architecture), data, latent, run)


def test_predicting_no_noise_has_error_one_each_time_the_same(tmp_path):
    task = task_of(np.random.default_rng(0).standard_normal((40, 2, 4, 8, 8)).astype(np.float16), tmp_path)
    with torch.no_grad():
        first, second = task.validate(task.network), task.validate(task.network)
    assert first == second
    assert first.merit == -first.figures["error"]
    assert list(first.figures.values()) == pytest.approx([1] * (1 + len(VALIDATED_AT)), abs=0.05)
    half = task_of(task._latents, tmp_path, "data.validation_images=10")
    with torch.no_grad():
        half.validate(half.network)
    assert sum(len(noisy) for noisy, _ in half.network.seen) == 10 * len(VALIDATED_AT)


@pytest.mark.parametrize(("mirror", "sides"), [("true", {1.0, -1.0}), ("false", {1.0})])
def test_half_of_the_pictures_are_mirrored(tmp_path, mirror, sides):
    latent = np.ones((64, 2, 4, 8, 8), dtype=np.float16)
    latent[:, 1] = -1
    task = task_of(latent, tmp_path, f"plan.mirror={mirror}", "loss.near_share=1")
    terms = task.loss(task.network, np.arange(64), np.random.default_rng(0))
    assert float(terms["noise"]) == pytest.approx(1, abs=0.05)
    ((noisy, timesteps),) = task.network.seen
    assert int(timesteps.max()) < NEAR
    assert set(noisy.mean(dim=(1, 2, 3)).sign().tolist()) == sides


def test_latents_that_the_levels_cannot_halve_are_refused(tmp_path):
    with pytest.raises(InvalidRequest, match="12x12 cells do not fit"):
        task_of(np.zeros((2, 2, 4, 12, 12), dtype=np.float16), tmp_path)


def test_crops_are_refused(folder):
    with pytest.raises(InvalidRequest, match="latents of whole pictures"):
        denoise(folder, folder / "cropped", None, "plan.crop=32")


def test_a_teacher_begins_with_it(folder, unet, teacher_run):
    torch.manual_seed(5)
    teacher = new_teacher(teacher_run(f"model.vae={folder / 'vae.safetensors'}", f"model.unet={unet}").model, None)
    kept = load_file(unet)
    for name in ("unet", "prompts"):
        tensors = teacher.get_submodule(name).state_dict()
        assert tensors
        for key, value in tensors.items():
            assert torch.equal(kept[f"{name}.{key}"], value), key
    torch.manual_seed(5)
    assert not torch.equal(build_teacher(teacher.config).unet.conv_in.weight, teacher.unet.conv_in.weight)


def test_the_card_of_the_teacher_names_it(folder, unet, teacher_run):
    changes = [
        *settings(folder, folder / "teacher"),
        f"model.unet={unet}",
        "plan.epochs=1",
        "output.bootstrap_draws=20",
    ]
    (folder / "models").mkdir(exist_ok=True)
    card = train_teacher(teacher_run(*changes), RunContext(models_dir=folder / "models", device="cpu"))
    training = card.figures["training"]
    assert (
        training["made_from"]["unet"]["sha256"] == training["identity"]["sources"]["files"]["unet"] == sha256_of(unet)
    )
    assert training["made_from"]["unet"]["command"].startswith("dpiqa train diffusion ")


@pytest.mark.parametrize(
    ("change", "error", "complaint"),
    [
        ("model.vae={folder}/other.safetensors", CheckpointError, "trained with vae.sha256 = "),
        ("model.vae=", InvalidRequest, "knows the latents of one VAE only"),
        ("model.architecture.unet.heads=4", CheckpointError, r"unet.heads = 2, the teacher has 4"),
        ("model.architecture.unet.channels=[8,8,16,24]", CheckpointError, r"unet.channels = \[8, 8, 16, 16\]"),
        ("model.architecture.prompts=published-1485", CheckpointError, 'prompts = "small-90"'),
        ("model.unet={folder}/vae.safetensors", CheckpointError, "was not written by `dpiqa train diffusion`"),
        ("model.unet={folder}/nowhere.safetensors", CheckpointError, "was not written by `dpiqa train diffusion`"),
    ],
)
def test_what_does_not_fit_a_teacher_is_named(folder, unet, teacher_run, change, error, complaint):
    overrides = [f"model.vae={folder / 'vae.safetensors'}", f"model.unet={unet}", change.format(folder=folder)]
    with pytest.raises(error, match=complaint):
        new_teacher(teacher_run(*overrides).model, None)


def test_two_sources_of_a_unet_are_refused(unet, teacher_run):
    with pytest.raises(InvalidRequest, match=r"both bring a U-Net"):
        new_teacher(teacher_run(f"model.unet={unet}", "model.diffusion=somewhere").model, None)
