"""The full-size networks against what the authors' own code gave, from synthetic weights with the published names."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from dpiqa.imaging.preprocessing import Preprocessing, prepare
from dpiqa.models.student import Student, StudentConfig, from_published
from dpiqa.models.teacher import Teacher, TeacherConfig
from dpiqa.models.teacher import from_published as teacher_from_published
from dpiqa.models.vae import encode

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
    for output in outputs:
        scores, feature_map = network(model_input(output))
        assert feature_map.shape == (1, 8, 64, 64)
        assert float(scores[0]) == pytest.approx(output["score"], rel=1e-3)
        assert float(feature_map.mean()) == pytest.approx(output["fmean"], rel=1e-3)
        assert float(feature_map.std()) == pytest.approx(output["fstd"], rel=1e-3)


def test_the_student_is_the_published_one():
    golden = json.loads((GOLDEN / "student.json").read_text())
    published = synthetic.student_state_dict(golden["keys"], GOLDEN / "student_batchnorm.npz")
    with torch.device("meta"):
        student = Student(StudentConfig())
    student.load_state_dict(from_published(published, student), strict=True, assign=True)
    check(student.eval(), golden["outputs"])


def test_the_teacher_has_the_published_names_and_shapes():
    golden = json.loads((GOLDEN / "teacher.json").read_text())
    with torch.device("meta"):
        teacher = Teacher(TeacherConfig())
        published = {name: torch.empty(shape) for name, shape in golden["keys"].items()}
        renamed = teacher_from_published(published, torch.empty(1485, 768))
    assert {name: t.shape for name, t in renamed.items()} == {n: t.shape for n, t in teacher.state_dict().items()}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_teacher_is_the_published_one():
    golden = json.loads((GOLDEN / "teacher.json").read_text())
    with torch.device("meta"):
        teacher = Teacher(TeacherConfig())
    needed = {n: s for n, s in golden["keys"].items() if n in teacher.state_dict()}  # the VAE's decoder costs 0.2 GB
    published = synthetic.teacher_state_dict(needed)
    renamed = teacher_from_published(published, synthetic.text_embeddings())
    teacher.load_state_dict(renamed, strict=True, assign=True)
    del published, renamed
    teacher.eval().prepare()
    with torch.inference_mode():
        images = model_input(golden["outputs"][0])
        maps = teacher.features(images, encode(teacher.vae, images))
    for level, (mean, deviation, shape) in zip(maps[::-1], golden["outputs"][0]["priors"], strict=True):
        assert list(level.shape) == shape
        assert float(level.std()) == pytest.approx(deviation, rel=1e-3)
        assert float(level.mean()) == pytest.approx(mean, abs=1e-3 * deviation)
    check(teacher, golden["outputs"])
