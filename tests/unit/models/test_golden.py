"""The full-size networks against what the authors' own code gave, from synthetic weights with the published names."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from dpiqa.imaging.preprocessing import Preprocessing, prepare
from dpiqa.models.importing.naming import rename
from dpiqa.models.student import build_student
from dpiqa.models.student_config import StudentConfig
from dpiqa.models.teacher import Teacher, TeacherConfig, build_teacher
from dpiqa.types import ModelKind

pytestmark = pytest.mark.heavy

GOLDEN = Path(__file__).parents[2] / "golden"
_spec = importlib.util.spec_from_file_location("synthetic", GOLDEN / "synthetic.py")
synthetic = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(synthetic)


def model_input(output):
    """The test image as production prepares it, as a tensor."""
    picture = Image.fromarray(synthetic.image(output["image"], output["h"], output["w"]))
    pixels = prepare(picture, Preprocessing(width=512, height=512)).copy()
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255


@torch.inference_mode()
def check(network, outputs):
    """Prints how near it comes: `pytest -rP`."""
    for output in outputs:
        scores, feature_map = network(model_input(output))
        assert feature_map.shape == (1, 8, 64, 64)
        figures = {"score": float(scores[0]), "fmean": float(feature_map.mean()), "fstd": float(feature_map.std())}
        reached = {name: f"{abs(value / output[name] - 1):.1e}" for name, value in figures.items()}
        print(f"image {output['image']}: relative differences {reached}")  # noqa: T201 - for -rP
        assert figures == pytest.approx({name: output[name] for name in figures}, rel=1e-3)


def test_the_student_is_the_published_one():
    golden = json.loads((GOLDEN / "student.json").read_text())
    published = synthetic.student_state_dict(golden["keys"], GOLDEN / "student_batchnorm.npz")
    with torch.device("meta"):
        student = build_student(StudentConfig())
    renamed = rename(published, ModelKind.STUDENT, student).tensors
    student.load_state_dict(renamed, strict=True, assign=True)
    check(student.eval(), golden["outputs"])
    check(student.to(memory_format=torch.channels_last), golden["outputs"][:1])  # as production runs it


def test_the_teacher_has_the_published_names_and_shapes():
    golden = json.loads((GOLDEN / "teacher.json").read_text())
    with torch.device("meta"):
        teacher = build_teacher(TeacherConfig())
        published = {name: torch.empty(shape) for name, shape in golden["keys"].items()}
        published |= {"prompts.embeddings": torch.empty(1485, 768)}
    renamed = rename(published, ModelKind.TEACHER, teacher).tensors
    assert {name: t.shape for name, t in renamed.items()} == {n: t.shape for n, t in teacher.state_dict().items()}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_teacher_is_the_published_one():
    golden = json.loads((GOLDEN / "teacher.json").read_text())
    with torch.device("meta"):
        teacher = build_teacher(TeacherConfig())
    needed = {n: s for n, s in golden["keys"].items() if n in teacher.state_dict()}  # the VAE's decoder costs 0.2 GB
    published = synthetic.teacher_state_dict(needed)
    published |= {"prompts.embeddings": synthetic.text_embeddings()}
    renamed = rename(published, ModelKind.TEACHER, teacher).tensors
    teacher.load_state_dict(renamed, strict=True, assign=True)
    del published, renamed
    teacher.eval().prepare()
    seen = []
    teacher.features = lambda *given: seen.append(Teacher.features(teacher, *given)) or seen[-1]
    check(teacher, golden["outputs"])
    for output, maps in zip(golden["outputs"], seen, strict=True):
        for level, (mean, deviation, shape) in zip(maps[::-1], output["priors"], strict=True):
            assert list(level.shape) == shape
            assert float(level.std()) == pytest.approx(deviation, rel=1e-3)
            assert float(level.mean()) == pytest.approx(mean, abs=1e-3 * deviation)
