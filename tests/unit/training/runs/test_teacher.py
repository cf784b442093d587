"""Modes of a teacher, the sources of its weights, and its outputs for students."""

import numpy as np
import pytest
import torch
from support.training import STUDENT, TEACHER

from dpiqa.errors import CheckpointError, ConfigurationError, InvalidRequest
from dpiqa.models.loading import load_scorer
from dpiqa.models.student import build_student
from dpiqa.models.teacher import build_teacher
from dpiqa.models.vae import build_autoencoder
from dpiqa.training.config.file import resolve
from dpiqa.training.config.kinds import StudentRun, TeacherMode, TeacherRun
from dpiqa.training.data import teacher_outputs as outputs_module
from dpiqa.training.data.teacher_outputs import score_with_maps, teacher_outputs
from dpiqa.training.runs.initial_weights import fill_backbone, start_card, start_network
from dpiqa.training.runs.publish import export_model
from dpiqa.training.runs.teacher import apply_mode, guided, merge_lora, new_teacher, prepare_teacher
from dpiqa.types import ModelKind

pytestmark = pytest.mark.heavy


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    configs = tmp_path_factory.mktemp("configs")
    (configs / "teacher.toml").write_text(TEACHER)
    (configs / "student.toml").write_text(STUDENT)
    return configs


@pytest.fixture
def run(folder):
    return lambda *overrides: resolve(TeacherRun, file=folder / "teacher.toml", overrides=overrides)


@pytest.fixture
def teacher(run):
    torch.manual_seed(0)
    return build_teacher(run().model.architecture)


def learning(network):
    return {name for name, parameter in network.named_parameters() if parameter.requires_grad}


PARTS = {
    TeacherMode.QFD: {"QFD"},
    TeacherMode.ADAPTERS_QFD: {"QFD", "gamma", "prompts", "text_adapter", "img_adapter"},
    TeacherMode.LORA_QFD: {"QFD", "unet"},
    TeacherMode.ADAPTERS_LORA_QFD: {"QFD", "gamma", "prompts", "text_adapter", "img_adapter", "unet"},
    TeacherMode.FULL: {"QFD", "gamma", "prompts", "text_adapter", "img_adapter", "unet"},
}


@pytest.mark.parametrize("mode", TeacherMode)
def test_each_mode_learns_its_parts(teacher, mode):
    apply_mode(teacher, mode, lora_rank=2, new=True)
    names = learning(teacher)
    assert {name.split(".")[0] for name in names} == PARTS[mode]
    lora = {name for name in names if "lora_" in name}
    assert bool(lora) == mode.lora
    if mode.lora:
        assert {name for name in names if name.startswith("unet.")} == lora
    if mode is TeacherMode.FULL:
        assert "unet.conv_in.weight" in names
        assert "unet.conv_out.weight" not in names


def test_silent_adapters_leave_the_unet_alone(teacher):
    images = torch.rand(2, 3, 64, 64)
    other = torch.rand(2, 3, 64, 64)
    apply_mode(teacher, TeacherMode.QFD, lora_rank=2, new=True)
    with torch.no_grad():
        assert all((residual == 0).all() for residual in teacher.img_adapter(images))
        torch.testing.assert_close(teacher.conditioning()[0], teacher.prompts())
        latents = torch.rand(2, 4, 32, 32)
        torch.testing.assert_close(teacher(images, latents), teacher(other, latents))


def test_adapters_of_a_trained_teacher_stay(teacher):
    before = [parameter.clone() for parameter in teacher.img_adapter.parameters()]
    apply_mode(teacher, TeacherMode.QFD, lora_rank=2, new=False)
    assert all(torch.equal(a, b) for a, b in zip(before, teacher.img_adapter.parameters(), strict=True))


def test_low_rank_changes_are_merged_into_the_published_names(teacher):
    names = set(teacher.state_dict())
    images = torch.rand(2, 3, 64, 64)
    apply_mode(teacher, TeacherMode.LORA_QFD, lora_rank=2, new=False)
    with torch.no_grad():
        untouched = teacher.eval()(images)[0]
        for name, parameter in teacher.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
        changed = teacher(images)[0]
        merge_lora(teacher)
        merged = teacher(images)[0]
    assert set(teacher.state_dict()) == names
    assert not torch.allclose(changed, untouched)
    torch.testing.assert_close(merged, changed, rtol=1e-3, atol=1e-5)


def test_stable_diffusion_from_a_folder(run, tmp_path):
    torch.manual_seed(1)
    source = build_teacher(run().model.architecture)
    config = source.config.vae.model_copy(update={"scaling_factor": 0.5})
    source.unet.save_pretrained(tmp_path / "unet")
    vae = build_autoencoder(config)
    vae.save_pretrained(tmp_path / "vae")
    with pytest.raises(ConfigurationError, match=r"scales latents by 0\.5"):
        new_teacher(run(f"model.diffusion={tmp_path}").model, None)
    teacher = new_teacher(run(f"model.diffusion={tmp_path}", "model.architecture.vae.scaling_factor=0.5").model, None)
    assert torch.equal(teacher.unet.conv_in.weight, source.unet.conv_in.weight)
    assert torch.equal(teacher.vae.encoder.conv_in.weight, vae.encoder.conv_in.weight)
    with pytest.raises(ConfigurationError, match="cannot be loaded"):
        new_teacher(run(f"model.diffusion={tmp_path / 'nowhere'}").model, None)
    wrong = run(f"model.diffusion={tmp_path}", "model.architecture.unet.channels=[8, 8, 16, 24]")
    with pytest.raises(CheckpointError, match="does not fit the architecture"):
        new_teacher(wrong.model, None)


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("model.architecture.prompts=", "needs their embeddings"),
        ('model.architecture.trunk={backbone="test_efficientnet"}', "trunk of the image adapter has no weights"),
        ("model.trunk_from=bundled-tiny", "without a trunk"),
    ],
)
def test_a_part_that_is_missing_is_named(run, override, complaint):
    with pytest.raises(InvalidRequest, match=complaint):
        new_teacher(run(override).model, None)


def test_a_decoder_begins_with_what_a_student_knows(run, folder, tmp_path):
    sizes = ["statistics_channels=6", "pooling=moments"]
    torch.manual_seed(3)
    student = build_student(
        resolve(
            StudentRun, file=folder / "student.toml", overrides=[f"model.architecture.{size}" for size in sizes]
        ).model.architecture
    )
    export_model(student, student.config, "first", tmp_path, half=False, licence="Apache-2.0")
    decoder_sizes = [f"model.architecture.qfd.{size}" for size in sizes]
    model = run("model.head_from=first", *decoder_sizes).model
    teacher = new_teacher(model, tmp_path)
    prepare_teacher(teacher, model, 0.5)
    for part in ("statistics.mix.0", "statistics.combine.0", "fc1", "fc3"):
        assert torch.equal(teacher.QFD.get_submodule(part).weight, student.get_submodule(part).weight)
    assert torch.equal(teacher.QFD.fc3.bias, student.fc3.bias)  # not put at the labels' mean: it knows better
    with pytest.raises(CheckpointError, match="does not fit the architecture"):
        new_teacher(run("model.head_from=first", *decoder_sizes, "model.architecture.qfd.hidden=12").model, tmp_path)


def test_a_guide_is_calibrated_before_it_is_mixed_in():
    class Data:
        labels = np.array([0.2, 0.4, 0.6, 0.9])
        train = np.array([0, 1, 2])

    scores = np.array([2.0, 4.0, 6.0, np.nan])
    np.testing.assert_allclose(guided(Data, scores, 0.5), Data.labels)
    swapped = guided(Data, np.array([2.0, 6.0, 4.0, np.nan]), 1.0)
    assert swapped[3] == 0.9
    assert swapped[1] > swapped[2]


@pytest.fixture
def scorer(run, tmp_path):
    """A teacher that looks at views, as a production scorer."""
    torch.manual_seed(0)
    config = run("model.architecture.view_size=32").model.architecture
    export_model(build_teacher(config), config, "small", tmp_path, licence="Apache-2.0")
    return load_scorer("small", models_dir=tmp_path, device="cpu")


def test_answers_are_what_production_says_and_kept(scorer, tmp_path, monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 64, 64, 3), dtype=np.uint8)
    names = [f"{number:064x}" for number in range(6)]
    scores, maps = score_with_maps(scorer, pixels)
    np.testing.assert_allclose(scores, scorer.score(pixels), rtol=1e-5)
    assert maps.shape == (6, 8, 8, 4)
    batches = []

    def spy(spied_scorer, some_pixels):
        batches.append(len(some_pixels))
        if len(batches) == 2:
            raise KeyboardInterrupt
        return score_with_maps(spied_scorer, some_pixels)

    monkeypatch.setattr(outputs_module, "score_with_maps", spy)
    with pytest.raises(KeyboardInterrupt):
        teacher_outputs(scorer, pixels, names, np.arange(6), tmp_path, batch=2)
    rows = np.array([1, 0, 3, 4, 5])
    outputs = teacher_outputs(scorer, pixels, names, rows, tmp_path, batch=2)
    assert batches == [2, 2, 2, 1]  # rows 0 and 1 were kept; of 3, 4, 5 two and one
    np.testing.assert_allclose(outputs.scores[rows], scores[rows], rtol=1e-5)
    assert np.isnan(outputs.scores[2])
    np.testing.assert_allclose(outputs.maps(rows), maps[rows], atol=2e-3)
    assert outputs.shape == (8, 8, 4)
    assert outputs.power == pytest.approx(float(np.square(maps[rows]).mean()), rel=1e-2)


def test_a_start_is_of_the_right_kind_and_learns(scorer, tmp_path):
    with pytest.raises(InvalidRequest, match="small is of kind teacher, not student"):
        start_card("small", ModelKind.STUDENT, tmp_path)
    network = start_network(start_card("small", ModelKind.TEACHER, tmp_path), tmp_path)
    assert learning(network) == {name for name, _ in network.named_parameters()}
    assert {tensor.dtype for tensor in network.parameters()} == {torch.float32}


def test_a_backbone_of_another_librarys_names(folder, tmp_path):
    config = resolve(StudentRun, file=folder / "student.toml").model.architecture
    torch.manual_seed(0)
    source, target = build_student(config).base_model, build_student(config)
    renamed = {f"features.{number}": value for number, value in enumerate(source.state_dict().values())}
    torch.save(renamed | {"classifier.1.weight": torch.zeros(3)}, tmp_path / "torchvision.pth")
    fill_backbone(target, tmp_path / "torchvision.pth")
    for name, value in source.state_dict().items():
        assert torch.equal(target.base_model.state_dict()[name], value)
    torch.save({"features.0": torch.zeros(3)}, tmp_path / "wrong.pth")
    with pytest.raises(CheckpointError, match=r"wrong\.pth does not fit"):
        fill_backbone(target, tmp_path / "wrong.pth")
