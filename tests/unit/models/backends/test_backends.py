"""Students by every backend: the same scores as eager PyTorch, or a refusal; other scorer ids; files that are kept."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from dpiqa.errors import ConfigurationError
from dpiqa.models.backends import graph
from dpiqa.models.backends.parity import Parity, parity_pictures, require_parity
from dpiqa.models.cards import find_card
from dpiqa.models.choice import ModelChoice, chosen_card
from dpiqa.models.loading import load_scorer
from dpiqa.scorer_id import ScorerId
from dpiqa.types import Backend, Precision

GRAPHS = [Backend.OPENVINO, Backend.ONNXRUNTIME]


@pytest.fixture
def load(models_dir, tmp_path):
    """Load a student of 64x64 of the published layout by a backend; what it compiles is kept in `tmp_path/cache`."""

    def load(backend, name="small-student", **options):
        options = {"models_dir": models_dir, "device": "cpu", "threads": 1, "cache_dir": tmp_path / "cache"} | options
        return load_scorer(name, backend=backend, **options)

    return load


def graphs(tmp_path):
    return sorted((tmp_path / "cache" / "graphs").glob("*.onnx"))


def distort(path):
    """Add to the constant with the most values of a graph, as a damaged or miscompiled network might."""
    graph = onnx.load(path)
    largest = max(graph.graph.initializer, key=lambda constant: np.prod(constant.dims))
    values = numpy_helper.to_array(largest)
    largest.CopyFrom(numpy_helper.from_array(values + np.float32(0.2), largest.name))
    onnx.save(graph, path)


@pytest.mark.parametrize("backend", GRAPHS)
def test_a_published_layout_has_the_scores_of_eager_whatever_the_batch(load, backend):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), dtype=np.uint8)
    eager, scorer = load(Backend.EAGER), load(backend)
    together = scorer.score(pixels)
    assert together.dtype == np.float64
    np.testing.assert_allclose(together, eager.score(pixels), atol=1e-5)
    np.testing.assert_array_equal(together, np.concatenate([scorer.score(pixels[n : n + 1]) for n in range(5)]))
    assert scorer.card.scorer_id == f"{eager.card.scorer_id}+{backend}"


@pytest.mark.heavy
@pytest.mark.parametrize("backend", GRAPHS)
def test_a_bundled_student_has_the_scores_of_eager(load, backend):
    pictures = parity_pictures(512, 512)[:3]
    eager, scorer = load(Backend.EAGER, "bundled-tiny"), load(backend, "bundled-tiny")
    np.testing.assert_allclose(scorer.score(pictures), eager.score(pictures), atol=1e-3)


@pytest.mark.heavy
def test_a_compiled_student_has_the_scores_of_eager(load, monkeypatch, tmp_path):
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    expected = load(Backend.EAGER).score(pixels)
    scorer = load(Backend.COMPILE)
    np.testing.assert_allclose(scorer.score(pixels), expected, atol=1e-4)
    assert ScorerId.parse(scorer.card.scorer_id).backend is Backend.COMPILE
    assert any((tmp_path / "cache" / "inductor").iterdir())


@pytest.mark.parametrize("backend", GRAPHS)
def test_the_exported_graph_is_kept_for_the_next_start_and_one_that_differs_is_made_again(load, tmp_path, backend):
    expected = load(backend).score(parity_pictures(64, 64))
    (path,) = graphs(tmp_path)
    made = path.stat().st_mtime_ns
    load(backend)
    assert path.stat().st_mtime_ns == made

    distort(path)
    np.testing.assert_array_equal(load(backend).score(parity_pictures(64, 64)), expected)
    path.write_bytes(b"half a file")
    np.testing.assert_array_equal(load(backend).score(parity_pictures(64, 64)), expected)
    assert graphs(tmp_path) == [path]


@pytest.mark.parametrize("backend", GRAPHS)
def test_a_graph_that_gives_other_scores_is_refused_in_one_line_and_auto_goes_on_without_it(load, monkeypatch, backend):
    export = graph._export

    def export_distorted(card, network, path):
        export(card, network, path)
        distort(path)

    monkeypatch.setattr(graph, "_export", export_distorted)
    with pytest.raises(ConfigurationError, match=rf"{backend} does not give the scores of small-student: 8 test") as no:
        load(backend)
    assert "\n" not in str(no.value)
    assert "DPIQA_BACKEND=eager" in no.value.hint

    monkeypatch.setattr("dpiqa.models.choice._FASTEST_FIRST", (backend,))
    scorer = load(Backend.AUTO)
    assert scorer.card.scorer_id == load(Backend.EAGER).card.scorer_id
    assert np.isfinite(scorer.score(parity_pictures(64, 64))).all()


def test_a_folder_that_cannot_be_written_to_costs_only_time(load, tmp_path):
    (tmp_path / "file").write_text("")
    pictures = parity_pictures(64, 64)
    scorer = load(Backend.ONNXRUNTIME, cache_dir=tmp_path / "file")
    np.testing.assert_allclose(scorer.score(pictures), load(Backend.EAGER).score(pictures), atol=1e-5)


def test_auto_takes_the_fastest_library_for_large_students_and_eager_for_others(models_dir):
    def backend_of(name, backend=Backend.AUTO, *, on_gpu=False, **options):
        choice = ModelChoice(model=name, **options)
        return chosen_card(find_card(name, models_dir), choice, backend=backend, on_gpu=on_gpu).backend

    assert backend_of("small-student") is Backend.OPENVINO
    assert backend_of("small-student", on_gpu=True) is Backend.EAGER
    assert backend_of("small-student", precision=Precision.BFLOAT16) is Backend.EAGER
    assert backend_of("bundled-student") is Backend.OPENVINO
    assert backend_of("bundled-tiny") is Backend.EAGER
    assert backend_of("bundled-tiny", backend=Backend.OPENVINO) is Backend.OPENVINO
    assert backend_of("small-teacher", backend=Backend.OPENVINO) is Backend.EAGER
    assert backend_of("brightness", backend=Backend.COMPILE) is Backend.EAGER


@pytest.mark.parametrize(
    ("backend", "options", "message"),
    [
        (Backend.OPENVINO, {"device": "cuda:0"}, "openvino runs on the CPU, not on cuda:0"),
        (Backend.ONNXRUNTIME, {"device": "cuda:7"}, "onnxruntime does not offer the device 'cuda:7'"),
    ],
)
def test_a_device_that_the_library_does_not_have_is_refused(load, backend, options, message):
    with pytest.raises(ConfigurationError, match=message):
        load(backend, **options)


def test_onnxruntime_refuses_less_precision(load, models_dir):
    choice = ModelChoice(model="small-student", precision=Precision.BFLOAT16)
    with pytest.raises(ConfigurationError, match="float32 only, not in bfloat16"):
        load(Backend.ONNXRUNTIME, choice)


def test_parity_counts_the_largest_difference_and_the_ranks():
    card = find_card("bundled-tiny").model_copy(update={"backend": Backend.OPENVINO})
    expected = np.linspace(0.4, 0.401, 8)
    assert require_parity(card, expected + 1e-6, expected).correlation == pytest.approx(1)
    for scores in (expected + 0.01, expected[::-1], np.where(expected > 0.4005, np.nan, expected)):
        with pytest.raises(ConfigurationError, match="does not give the scores of bundled-tiny"):
            require_parity(card, scores, expected)
    assert Parity.of(expected[::-1], expected).correlation == pytest.approx(-1)
    assert Parity.of(np.zeros(3), np.zeros(3)).is_enough(Precision.FLOAT32)


def test_the_pictures_of_the_check_differ_in_content_and_stay_the_same():
    pictures = parity_pictures(96, 64)
    assert (pictures.shape, pictures.dtype) == ((8, 96, 64, 3), np.uint8)
    assert len({picture.tobytes() for picture in pictures}) == 8
    np.testing.assert_array_equal(pictures, parity_pictures(96, 64))
