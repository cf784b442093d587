"""The teacher that looks through a student: it begins as this student, and its card brings it back."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from support.training import STAGE_TEACHER, publish_stage_student

from dpiqa.models.loading import load_scorer
from dpiqa.models.teacher import StageTeacher, TeacherConfig, build_teacher
from dpiqa.training.config.file import resolve
from dpiqa.training.config.kinds import TeacherRun
from dpiqa.training.data.teacher_outputs import score_with_maps
from dpiqa.training.runs.publish import export_model

pytestmark = pytest.mark.heavy


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def student(folder):
    return publish_stage_student(folder)


@pytest.fixture
def config(tmp_path):
    (tmp_path / "teacher.toml").write_text(STAGE_TEACHER)
    return lambda *changes: (
        resolve(
            TeacherRun,
            file=tmp_path / "teacher.toml",
            overrides=[f"model.architecture.{change}" for change in changes],
        ).model.architecture
    )


@pytest.fixture
def teacher_of(config, student):
    def build(*changes):
        torch.manual_seed(0)
        teacher = build_teacher(config(*changes)).eval()
        teacher.student.load_state_dict(student.state_dict())
        return teacher

    return build


@pytest.fixture
def images():
    return torch.rand(2, 3, 128, 128, generator=torch.Generator().manual_seed(0))


@torch.inference_mode()
def test_a_new_teacher_gives_exactly_the_students_scores(teacher_of, student, images):
    teacher = teacher_of()
    assert isinstance(teacher, StageTeacher)
    scores, quality = teacher(images)
    assert torch.equal(scores, student(images)[0])
    assert (quality.shape, bool((quality >= 0).all())) == ((2, 4, 8, 8), True)
    small, quality = teacher(images[:, :, :64, :64])
    assert torch.equal(small, student(images[:, :, :64, :64])[0])
    assert quality.shape == (2, 4, 4, 4)


def moved(teacher):
    """Let the quality map change the score."""
    torch.nn.init.normal_(teacher.QFD.linear.weight)
    torch.nn.init.normal_(teacher.QFD.first.weight)
    return teacher


@torch.inference_mode()
def test_its_score_comes_from_latents_text_and_adapter(teacher_of, student, images):
    teacher = moved(teacher_of())
    before = teacher(images)[0]
    assert not torch.allclose(before, student(images)[0])
    for part in (teacher.vae.quant_conv.weight, teacher.gamma, teacher.img_adapter.project[0].weight):
        kept = part.clone()
        part.add_(1.0)
        assert not torch.equal(teacher(images)[0], before)
        part.copy_(kept)
    torch.testing.assert_close(teacher(images)[0], before)


@torch.inference_mode()
def test_scores_of_what_is_known_beforehand_are_the_same_and_prepared_ones_too(teacher_of, images):
    teacher = moved(teacher_of())
    expected = teacher(images)[0]
    frozen = teacher.frozen_outputs(images)
    assert torch.equal(teacher(images[..., :0, :0], frozen)[0], expected)
    teacher.prepare()
    torch.testing.assert_close(teacher(images)[0], expected, atol=1e-4, rtol=1e-4)


@torch.inference_mode()
def test_noise_is_the_pictures_own(teacher_of, images):
    teacher = moved(teacher_of("posterior=sample"))
    with pytest.raises(ValueError, match="needs a seed for each of 2 images"):
        teacher(images)
    first = teacher(images, seeds=[1, 2])[0]
    assert torch.equal(teacher(images, seeds=[1, 2])[0], first)
    assert not torch.equal(teacher(images, seeds=[3, 4])[0], first)


@pytest.mark.parametrize("changes", [(), ("posterior=sample",), ("view_size=64", "student.view_size=64")])
def test_its_card_brings_it_back(teacher_of, folder, changes):
    teacher = moved(teacher_of(*changes))
    export_model(teacher, teacher.config, "looks-through", folder, half=False, licence="Apache-2.0")
    scorer = load_scorer("looks-through", models_dir=folder, device="cpu")
    assert TeacherConfig.model_validate(scorer.card.architecture) == teacher.config
    pixels = np.random.default_rng(0).integers(0, 256, (2, 128, 128, 3), dtype=np.uint8)
    scores = scorer.score(pixels)
    with torch.inference_mode():
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255
        if not changes:
            np.testing.assert_allclose(scores, teacher(images)[0], atol=1e-4)
    np.testing.assert_allclose(scorer.score(pixels[1:]), scores[1:], atol=1e-4)


def test_with_mirror_images_it_is_another_scorer_whose_scores_do_not_depend_on_the_side(teacher_of, folder):
    ids = set()
    pixels = np.random.default_rng(0).integers(0, 256, (2, 128, 128, 3), dtype=np.uint8)
    for mirrored in ("false", "true"):
        teacher = moved(teacher_of(f"mirrored={mirrored}"))
        export_model(teacher, teacher.config, "looks-twice", folder, half=False, licence="Apache-2.0")
        scorer = load_scorer("looks-twice", models_dir=folder, device="cpu")
        ids.add(scorer.card.scorer_id.split(":")[3])
        same = np.allclose(scorer.score(pixels), scorer.score(pixels[:, :, ::-1].copy()), atol=1e-5)
        assert same == (mirrored == "true")
    assert ids == {"float32", "float32+mirrored"}
    scores, maps = score_with_maps(scorer, pixels)
    flipped_scores, flipped_maps = score_with_maps(scorer, pixels[:, :, ::-1].copy())
    np.testing.assert_allclose(flipped_scores, scores, atol=1e-5)
    np.testing.assert_allclose(flipped_maps[:, :, ::-1], maps, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ("student.pooling=moments", 'looks through one with "stages"'),
        ("student.input_size=64", "enlarge_to and view_size of the student must be the teacher.s"),
        ('trunk={backbone="test_efficientnet"}', "leave it out"),
        ("qfd.pooling=cells", r'needs qfd\.pooling = "moments"'),
        ("qfd.statistics_channels=4", r"no qfd\.statistics_channels"),
        ("shrink=2", "must be a multiple of 8"),
        ("view_size=0", "greater than 0"),
        ("student.view_size=0", "greater than 0"),
    ],
)
def test_sizes_that_do_not_fit_each_other_are_refused(config, change, complaint):
    sizes = config().model_dump(mode="json")
    name, _, value = change.partition("=")
    *tables, last = name.split(".")
    table = sizes
    for part in tables:
        table = table[part]
    table[last] = {"backbone": "test_efficientnet"} if last == "trunk" else int(value) if value.isdigit() else value
    with pytest.raises(ValidationError, match=complaint):
        TeacherConfig.model_validate(sizes)
